//! `heddle get` and `heddle describe`.

use std::fmt::Write as _;

use heddle_api::client::Client;
use http::Method;
use serde_json::Value;

use super::kinds;
use crate::{
    cli::{DescribeArgs, GetArgs},
    output, settings,
};

pub(crate) async fn run(args: &GetArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let kind = kinds::find(&args.kind)?;
    if let Some(name) = &args.name {
        let object = client.get(kind, &args.namespace, name).await.map_err(|e| e.to_string())?;
        if !output::data(args.output, &object)? {
            print_table(std::slice::from_ref(&object), kind.namespaced && args.all_namespaces);
        }
        return Ok(true);
    }
    let namespace = (!args.all_namespaces).then_some(args.namespace.as_str());
    let mut query = Vec::new();
    query.extend(args.selector.as_deref().map(|s| ("labelSelector", s)));
    let list = client.list(kind, namespace, &query).await.map_err(|e| e.to_string())?;
    if output::data(args.output, &list)? {
        return Ok(true);
    }
    let items = list["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        let place = namespace.map_or("any namespace".to_owned(), |n| format!("namespace {n}"));
        output::note(&format!("no {} in {place}", kind.plural));
    } else {
        print_table(&items, kind.namespaced && args.all_namespaces);
    }
    Ok(true)
}

fn print_table(items: &[Value], namespaces: bool) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let rows = items.iter().map(|item| {
        let meta = &item["metadata"];
        let mut row = if namespaces { vec![text(&meta["namespace"])] } else { Vec::new() };
        row.extend([text(&meta["name"]), hosts(item), state(item), text(&meta["creationTimestamp"])]);
        row
    });
    let mut header = if namespaces { vec!["namespace"] } else { Vec::new() };
    header.extend(["name", "hosts", "status", "created"]);
    output::table(&header, rows);
}

/// What the object is about: its hosts, host, hostnames, or address.
fn hosts(item: &Value) -> String {
    let spec = &item["spec"];
    for field in ["hosts", "hostnames"] {
        if let Some(list) = spec[field].as_array() {
            return list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        }
    }
    if let Some(host) = ["host", "address"].iter().find_map(|field| spec[*field].as_str()) {
        return host.to_owned();
    }
    if spec["ports"].is_array() {
        // A service is called by its name.
        let text = |name: &str| item["metadata"][name].as_str().unwrap_or_default();
        return format!("{}.{}", text("name"), text("namespace"));
    }
    String::new()
}

/// The conditions that hold, and those that do not: `Accepted, Programmed, !ResolvedRefs`.
fn state(item: &Value) -> String {
    let conditions = item["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let shown: Vec<String> = conditions
        .iter()
        .filter_map(|c| {
            let name = c["type"].as_str()?;
            Some(if c["status"] == "True" { name.to_owned() } else { format!("!{name}") })
        })
        .collect();
    shown.join(",")
}

pub(crate) async fn describe(args: &DescribeArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let kind = kinds::find(&args.kind)?;
    let object = client.get(kind, &args.namespace, &args.name).await.map_err(|e| e.to_string())?;
    let meta = &object["metadata"];
    let mut page = String::new();
    let mut put = |name: &str, value: &Value| {
        if !value.is_null() {
            let shown = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let _ = writeln!(page, "{name:<12} {shown}");
        }
    };
    put("Name:", &meta["name"]);
    put("Namespace:", &meta["namespace"]);
    put("Kind:", &format!("{} ({})", kind.kind, kind.api_version()).into());
    put("Labels:", &meta["labels"]);
    put("Annotations:", &meta["annotations"]);
    put("Created:", &meta["creationTimestamp"]);
    put("Generation:", &meta["generation"]);
    output::print(&page);
    if let Some(spec) = object.get("spec") {
        output::line("Spec:");
        let text = serde_saphyr::to_string(spec).map_err(|e| e.to_string())?;
        output::print(&text.lines().map(|l| format!("  {l}\n")).collect::<String>());
    }
    describe_conditions(&object["status"]);
    let group = if kind.group.is_empty() {
        kind.plural.to_owned()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    };
    let path = if kind.namespaced {
        format!("{group}/{}/{}", args.namespace, args.name)
    } else {
        format!("{group}/{}", args.name)
    };
    // Convergence is live knowledge, not part of the object; a mesh without it still describes.
    if let Ok(seen) = client.raw(Method::GET, "/debug/convergence", &[("object", &path)], None).await {
        let seen = seen.value;
        output::line(&format!("Programmed:  {} of {} proxies", seen["programmed"], seen["connected"]));
        for refusal in seen["refusals"].as_array().into_iter().flatten() {
            output::line(&format!("  refused by {}: {}", refusal["node"], refusal["reason"]));
        }
    }
    Ok(true)
}

fn describe_conditions(status: &Value) {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let of_parents = status["parents"].as_array().into_iter().flatten();
    let of_listeners = status["listeners"].as_array().into_iter().flatten();
    let nested = of_parents.chain(of_listeners).flat_map(|p| {
        let name =
            p["name"].as_str().or_else(|| p["parentRef"]["name"].as_str()).unwrap_or_default().to_owned();
        p["conditions"].as_array().into_iter().flatten().map(move |c| (name.clone(), c))
    });
    let rows: Vec<Vec<String>> = conditions
        .map(|c| (String::new(), c))
        .chain(nested)
        .map(|(of, c)| {
            let text = |f: &str| c[f].as_str().unwrap_or_default().to_owned();
            vec![of, text("type"), text("status"), text("reason"), text("message")]
        })
        .collect();
    if !rows.is_empty() {
        output::line("Conditions:");
        output::table(&["of", "type", "status", "reason", "message"], rows);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::hosts;

    #[test]
    fn every_kind_shows_what_it_is_about() {
        let of = |spec| hosts(&json!({"metadata": {"name": "web", "namespace": "apps"}, "spec": spec}));
        assert_eq!(of(json!({"ports": [{"port": 80}], "clusterIP": "10.0.0.1"})), "web.apps");
        assert_eq!(of(json!({"address": "10.0.0.2", "ports": {"http": 80}})), "10.0.0.2");
        assert_eq!(of(json!({"hosts": ["a", "b"], "ports": [{"number": 80}]})), "a,b");
        assert_eq!(of(json!({"hostnames": ["shop.example"]})), "shop.example");
        assert_eq!(of(json!({"host": "reviews"})), "reviews");
        assert_eq!(of(json!({"selector": {}})), "");
    }
}
