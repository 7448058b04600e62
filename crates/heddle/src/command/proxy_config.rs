//! `heddle proxy-config`: what a proxy was told, from its admin interface.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use heddle_api::client::Client;
use heddle_resource::certificate;
use http::Method;
use serde_json::Value;

use crate::{
    cli::{ConfigPart, ProxyConfigArgs},
    output,
};

pub(crate) async fn run(args: &ProxyConfigArgs) -> Result<bool, String> {
    let client = Client::new(&format!("http://{}", args.admin)).map_err(|e| e.to_string())?;
    let query = [("include_eds", "")];
    let dump = client.raw(Method::GET, "/config_dump", &query, None).await.map_err(|e| e.to_string())?.value;
    let part = match args.part {
        ConfigPart::All => dump,
        part => select(&dump, part),
    };
    if output::data(args.output, &part)? {
        return Ok(true);
    }
    if args.part == ConfigPart::Listeners {
        let query = [("format", "json")];
        let open =
            client.raw(Method::GET, "/listeners", &query, None).await.map_err(|e| e.to_string())?.value;
        print_listeners(&part, &open);
    } else {
        print_rows(args.part, &part);
    }
    Ok(true)
}

/// Listeners, and whether their addresses are open; why not, below the table.
fn print_listeners(listeners: &Value, open: &Value) {
    let named = |list: &str, name: &Value| {
        open[list].as_array().into_iter().flatten().find(|l| l["name"] == *name).cloned()
    };
    let rows = listeners.as_array().into_iter().flatten().map(|listener| {
        let (name, address) = (&listener["name"], &listener["address"]["socket_address"]);
        let state = if named("failed", name).is_some() {
            "failed"
        } else if named("listener_statuses", name).is_some() {
            "listening"
        } else if listener["bind_to_port"] == Value::Bool(false) {
            "behind another"
        } else {
            "waiting"
        };
        vec![text(name), format!("{}:{}", text(&address["address"]), address["port_value"]), state.to_owned()]
    });
    output::table(&["listener", "address", "state"], rows);
    for failed in open["failed"].as_array().into_iter().flatten() {
        output::warning(&text(&failed["error"]));
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// The resources of one kind in a config dump.
fn select(dump: &Value, part: ConfigPart) -> Value {
    let (list, field) = match part {
        ConfigPart::Clusters => ("dynamic_active_clusters", "cluster"),
        ConfigPart::Endpoints => ("dynamic_endpoint_configs", "endpoint_config"),
        ConfigPart::Listeners => ("dynamic_listeners", "listener"),
        ConfigPart::Routes => ("dynamic_route_configs", "route_config"),
        ConfigPart::Secret => ("dynamic_active_secrets", "secret"),
        ConfigPart::All => return dump.clone(),
    };
    let resources = dump["configs"].as_array().into_iter().flatten();
    let items = resources.flat_map(|c| c[list].as_array().into_iter().flatten());
    items
        .map(|item| {
            let inner = if item["active_state"].is_object() { &item["active_state"] } else { item };
            inner[field].clone()
        })
        .collect()
}

fn print_rows(part: ConfigPart, resources: &Value) {
    let items = resources.as_array().cloned().unwrap_or_default();
    match part {
        ConfigPart::Clusters => {
            let rows = items
                .iter()
                .map(|c| ["name", "type", "lb_policy", "connect_timeout"].map(|f| text(&c[f])).to_vec());
            output::table(&["cluster", "type", "balancing", "connect timeout"], rows);
        }
        ConfigPart::Endpoints => {
            output::table(&["cluster", "endpoint", "health", "weight"], items.iter().flat_map(endpoint_rows))
        }
        ConfigPart::Routes => output::table(
            &["route", "virtual host", "domains", "match", "to"],
            items.iter().flat_map(route_rows),
        ),
        ConfigPart::Secret => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            output::table(
                &["secret", "holds", "subject", "valid", "not after"],
                items.iter().map(|secret| secret_row(secret, now)),
            );
        }
        ConfigPart::Listeners | ConfigPart::All => {}
    }
}

/// A secret, by its first certificate. Envoy's dump has it in base64, ours as it is.
fn secret_row(secret: &Value, now: i64) -> Vec<String> {
    let (holds, source) = if secret["tls_certificate"].is_object() {
        ("certificate", &secret["tls_certificate"]["certificate_chain"])
    } else {
        ("authorities", &secret["validation_context"]["trusted_ca"])
    };
    let decoded = || {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(source["inline_bytes"].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let pem = source["inline_string"].as_str().map(str::to_owned).or_else(decoded).unwrap_or_default();
    let name = text(&secret["name"]);
    match certificate::first(&pem) {
        Some(leaf) => {
            let valid = if leaf.untimely(now).is_none() { "yes" } else { "no" };
            let until = certificate::date(leaf.not_after);
            vec![name, holds.to_owned(), leaf.subject, valid.to_owned(), until]
        }
        None => vec![name, holds.to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()],
    }
}

fn endpoint_rows(set: &Value) -> Vec<Vec<String>> {
    let localities = set["endpoints"].as_array().into_iter().flatten();
    let endpoints = localities.flat_map(|l| l["lb_endpoints"].as_array().into_iter().flatten());
    endpoints
        .map(|e| {
            let address = &e["endpoint"]["address"]["socket_address"];
            let health = e["health_status"].as_str().unwrap_or("UNKNOWN");
            let ip = address["address"].as_str().unwrap_or_default();
            let weight = e["load_balancing_weight"].as_u64().unwrap_or(1);
            vec![
                set["cluster_name"].as_str().unwrap_or_default().to_owned(),
                format!("{ip}:{}", address["port_value"]),
                health.to_owned(),
                weight.to_string(),
            ]
        })
        .collect()
}

fn route_rows(config: &Value) -> Vec<Vec<String>> {
    let name = config["name"].as_str().unwrap_or_default();
    let mut rows = Vec::new();
    for host in config["virtual_hosts"].as_array().into_iter().flatten() {
        let domains: Vec<&str> =
            host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for route in host["routes"].as_array().into_iter().flatten() {
            rows.push(vec![
                name.to_owned(),
                host["name"].as_str().unwrap_or_default().to_owned(),
                domains.first().map_or_else(String::new, |d| {
                    if domains.len() > 1 { format!("{d} +{}", domains.len() - 1) } else { (*d).to_owned() }
                }),
                route["match"].to_string(),
                target(route),
            ]);
        }
    }
    rows
}

fn target(route: &Value) -> String {
    let action = &route["route"];
    if let Some(cluster) = action["cluster"].as_str() {
        return cluster.to_owned();
    }
    if let Some(clusters) = action["weighted_clusters"]["clusters"].as_array() {
        let shares: Vec<String> = clusters
            .iter()
            .map(|c| format!("{} {}", c["weight"], c["name"].as_str().unwrap_or_default()))
            .collect();
        return shares.join(", ");
    }
    if route["redirect"].is_object() {
        return "redirect".to_owned();
    }
    format!("{}", route["direct_response"]["status"])
}
