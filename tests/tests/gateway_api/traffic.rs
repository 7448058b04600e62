//! The suite's requests, and what it expects of the answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    bed::Bed,
    certificates,
    client::{self, Answer, Ask, Outcome},
    statuses::reference,
};

/// Makes the request of an entry of `http` once and compares.
pub(crate) async fn http(bed: &Bed, entry: &Value) -> Outcome<()> {
    let to = target(bed, entry).await?;
    let request = &entry["request"];
    let mut ask = ask_of(to, request);
    if entry["scheme"] == "https" {
        ask.tls = Some(certificates::client(bed, &entry["tls"]).await?);
    }
    let expect = &entry["expect"];
    let answer = client::ask(&ask).await;
    if expect["fail"] == true {
        return match answer {
            Ok(answer) if answer.status == 200 => Err(format!("{} {}: it was answered", ask.host, ask.path)),
            _ => Ok(()),
        };
    }
    let answer = answer?;
    let statuses = expect["status"].as_array().cloned().unwrap_or_default();
    if !statuses.iter().any(|status| *status == answer.status.as_u16()) {
        let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
        return Err(format!(
            "{} {}: status {}, wanted {statuses:?}: {body}",
            ask.host, ask.path, answer.status
        ));
    }
    response_headers(expect, &answer)?;
    redirect(expect, &ask, &answer)?;
    // Only a forwarded request comes back with a report.
    if answer.status != 200 || (answer.body.is_empty() && expect["backend_pod_prefix"].is_null()) {
        return Ok(());
    }
    let report: Value =
        serde_json::from_slice(&answer.body).map_err(|e| format!("the backend's report: {e}"))?;
    backend(expect, &report)?;
    mirrored(bed, expect, &ask.path).await?;
    backend_request(expect, &ask, &report)
}

/// The mirrored copies have arrived, each at a pod of the wanted name.
async fn mirrored(bed: &Bed, expect: &Value, path: &str) -> Outcome<()> {
    for prefix in expect["mirrored_to"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // A copy may come after the answer to the original.
        let mut poll = tokio::time::interval(std::time::Duration::from_millis(20));
        let mut tries = 0;
        while bed.log.count(prefix, path) == 0 {
            poll.tick().await;
            tries += 1;
            if tries > 50 {
                return Err(format!("no copy of {path} came to {prefix}"));
            }
        }
    }
    Ok(())
}

/// The share of requests that is mirrored, within five in a hundred.
pub(crate) async fn mirrored_share(bed: &Bed, entry: &Value) -> Outcome<()> {
    const REQUESTS: usize = 500;
    let mut ask = ask_of(target(bed, entry).await?, &entry["request"]);
    ask.path = ask_of(ask.to, &json!({"path": format!("{}?n={{UUID}}", ask.path)})).path;
    for _ in 0..REQUESTS {
        client::ask(&ask).await?;
    }
    let prefix = entry["mirror"].as_str().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
    let seen = bed.log.count(prefix, &ask.path) as f64 / REQUESTS as f64;
    let wanted = entry["share"].as_f64().unwrap_or_default();
    if (seen - wanted).abs() > 0.05 { Err(format!("{seen} mirrored, wanted {wanted}")) } else { Ok(()) }
}

/// A connection of an entry of `tls_reject` comes to nothing.
pub(crate) async fn tls_reject(bed: &Bed, entry: &Value) -> Outcome<()> {
    // The one name that the table takes from a route is that of its manifest.
    let sni = entry["args"][0].as_str().unwrap_or("example.com");
    let trusts = json!({"Name": "tls-checks-certificate", "Namespace": "gateway-conformance-infra"});
    let of = json!({"server_ca": {"$secret": trusts, "part": "tls.crt"}, "client_cert": null, "sni": sni});
    let (connector, _) = certificates::client(bed, &of).await?;
    client::tls_reject(target(bed, entry).await?, &connector, sni).await
}

/// Where an entry's requests go: the Gateway's address, the listener's port or the one given or 80.
pub(crate) async fn target(bed: &Bed, entry: &Value) -> Outcome<SocketAddr> {
    if let Some(client) = entry["from_client"]["app"].as_str() {
        // Mesh cases speak to the client's own sidecar, which takes plain HTTP by its Host.
        let namespace = entry["from_client"]["namespace"].as_str().unwrap_or("gateway-conformance-mesh");
        return bed.client(&format!("{}-{namespace}", client.replace([',', '='], "-")), namespace).await;
    }
    let to = &entry["to"];
    let (namespace, name) = reference(&to["gateway"]).ok_or("the entry names no gateway")?;
    let gateway = bed.get("Gateway", &namespace, &name).await?;
    let listeners = gateway["spec"]["listeners"].as_array().cloned().unwrap_or_default();
    let wanted = to["listeners"][0].as_str();
    let listener = listeners.iter().find(|l| wanted.is_none_or(|name| l["name"] == *name));
    let of_listener = listener.and_then(|listener| listener["port"].as_u64());
    let port = to["port"]
        .as_str()
        .and_then(|port| port.parse().ok())
        .or_else(|| to["port"].as_u64())
        .or(of_listener);
    let ip = bed.address(&namespace, &name).ok_or_else(|| format!("no proxy serves {namespace}/{name}"))?;
    Ok(SocketAddr::new(ip.into(), u16::try_from(port.unwrap_or(80)).map_err(|e| e.to_string())?))
}

fn ask_of(to: SocketAddr, request: &Value) -> Ask {
    static FRESH: AtomicU64 = AtomicU64::new(0);
    let text = |name: &str| request[name].as_str().map(str::to_owned);
    let mut headers: BTreeMap<String, String> = request["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let host = headers.remove("Host").or_else(|| text("host"));
    let uuid = format!("{}-{}", std::process::id(), FRESH.fetch_add(1, Ordering::Relaxed));
    Ask {
        to,
        tls: None,
        http2: request["protocol"] == "H2C_PRIOR_KNOWLEDGE",
        method: text("method").unwrap_or_else(|| "GET".to_owned()),
        host: host.unwrap_or_else(|| to.to_string()),
        path: text("path").unwrap_or_else(|| "/".to_owned()).replace("{UUID}", &uuid),
        headers,
        body: Bytes::from(text("body").unwrap_or_default()),
    }
}

fn backend(expect: &Value, report: &Value) -> Outcome<()> {
    let pod = report["pod"].as_str().unwrap_or_default();
    if let Some(prefix) = expect["backend_pod_prefix"].as_str()
        && !pod.starts_with(prefix)
    {
        return Err(format!("answered by {pod}, wanted {prefix}"));
    }
    match expect["backend_namespace"].as_str() {
        Some(namespace) if report["namespace"] != *namespace => {
            Err(format!("answered in namespace {}, wanted {namespace}", report["namespace"]))
        }
        _ => Ok(()),
    }
}

/// What the backend saw: as sent unless the entry says otherwise.
fn backend_request(expect: &Value, ask: &Ask, report: &Value) -> Outcome<()> {
    let wanted = &expect["backend_request"];
    let field = |name: &str, sent: &str| wanted[name].as_str().unwrap_or(sent).to_owned();
    let pairs = [("path", &ask.path), ("host", &ask.host), ("method", &ask.method)];
    for (name, sent) in pairs {
        let wanted = field(name, sent);
        let (seen, wanted) = if name == "host" {
            // The port is compared by nobody: the suite's own addresses have none.
            (without_port(report[name].as_str().unwrap_or_default()), without_port(&wanted))
        } else {
            (report[name].as_str().unwrap_or_default(), &*wanted)
        };
        if seen != wanted {
            return Err(format!("the backend saw {name} {seen:?}, wanted {wanted:?}"));
        }
    }
    let sent: BTreeMap<String, Value> =
        ask.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    let wanted_headers = match wanted["headers"].as_object() {
        Some(headers) => headers.clone().into_iter().collect(),
        None if wanted.is_object() => BTreeMap::new(),
        None => sent,
    };
    for (name, value) in &wanted_headers {
        let seen = seen_header(report, name);
        if seen.as_deref() != value.as_str() {
            return Err(format!("the backend saw header {name}: {seen:?}, wanted {value}"));
        }
    }
    let absent = wanted["absent_headers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match absent.into_iter().find_map(|name| seen_header(report, name)) {
        None => Ok(()),
        Some(value) => Err(format!("the backend saw a header that was to be absent: {value}")),
    }
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

fn seen_header(report: &Value, name: &str) -> Option<String> {
    let values = report["headers"].get(name.to_ascii_lowercase())?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
}

fn response_headers(expect: &Value, answer: &Answer) -> Outcome<()> {
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        let seen: Vec<_> = answer.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        if seen.join(",") != value.as_str().unwrap_or_default() {
            return Err(format!("response header {name}: {seen:?}, wanted {value}"));
        }
    }
    let absent = expect["absent_headers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match absent.into_iter().find(|name| answer.headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(format!("response header {name} was to be absent")),
    }
}

/// Compares the parts of `Location` that the entry names; a path that it does not is the request's.
fn redirect(expect: &Value, ask: &Ask, answer: &Answer) -> Outcome<()> {
    let Some(wanted) = expect["redirect"].as_object() else { return Ok(()) };
    let location = answer.headers.get("location").and_then(|location| location.to_str().ok());
    let location: http::Uri =
        location.ok_or("no Location header")?.parse().map_err(|e| format!("Location {location:?}: {e}"))?;
    let port = location.port_u16().map(|port| port.to_string());
    let parts = [
        ("scheme", location.scheme_str().unwrap_or("http").to_owned()),
        ("host", location.host().unwrap_or(without_port(&ask.host)).to_owned()),
        ("path", location.path().to_owned()),
        ("port", port.unwrap_or_default()),
    ];
    for (name, seen) in parts {
        if let Some(wanted) = wanted.get(name).and_then(Value::as_str)
            && wanted != seen
        {
            return Err(format!("Location {location}: {name} {seen:?}, wanted {wanted:?}"));
        }
    }
    Ok(())
}

/// One call of an entry of `grpc`.
///
/// The table's `response.Headers` are not compared, as in the suite: its manifest has three rules with the
/// same match, of which only the first can act, and the entries expect all three.
pub(crate) async fn grpc(bed: &Bed, entry: &Value) -> Outcome<String> {
    let to = target(bed, entry).await?;
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut call = ask_of(to, &Value::Null);
    call.path = format!("/{}/{}", text("service"), text("method"));
    if let Some(authority) = entry["authority"].as_str() {
        // The suite's authority has characters that host names lack, and its routes name no hosts.
        call.host = authority.replace('_', "-");
    }
    for (name, value) in entry["metadata"].as_object().into_iter().flatten() {
        call.headers.insert(name.to_ascii_lowercase(), value.as_str().unwrap_or_default().to_owned());
    }
    let (code, report) = client::grpc(call).await?;
    if entry["expect"]["grpc_code"] != code {
        return Err(format!(
            "{}: grpc-status {code}, wanted {}",
            entry["method"], entry["expect"]["grpc_code"]
        ));
    }
    if code == 0 {
        backend(&entry["expect"], &report)?;
    }
    Ok(report["pod"].as_str().unwrap_or_default().to_owned())
}

/// One connection of an entry of `tcp`.
pub(crate) async fn tcp(bed: &Bed, entry: &Value) -> Outcome<String> {
    let report = client::tcp(target(bed, entry).await?).await?;
    let wanted = entry["args"].as_array().into_iter().flatten().find(|arg| arg.get("Backend").is_some());
    let pod = report["pod"].as_str().unwrap_or_default();
    if let Some(wanted) = wanted
        && !(pod.starts_with(wanted["Backend"].as_str().unwrap_or_default())
            && report["namespace"] == wanted["Namespace"])
    {
        return Err(format!("answered by {pod} of {}, wanted {wanted}", report["namespace"]));
    }
    Ok(pod.to_owned())
}

/// The pods that answered `requests` times, against the wanted shares.
pub(crate) fn shares(entry: &Value, pods: &[String]) -> Outcome<()> {
    let tolerance = entry["tolerance"].as_f64().unwrap_or(0.05);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
    let share = |prefix: &str| {
        pods.iter().filter(|pod| pod.starts_with(&format!("{prefix}-"))).count() as f64 / pods.len() as f64
    };
    for (backend, wanted) in entry["distribution"].as_object().into_iter().flatten() {
        let (seen, wanted) = (share(backend), wanted.as_f64().unwrap_or_default());
        if (seen - wanted).abs() > tolerance || (wanted == 0.0 && seen > 0.0) {
            return Err(format!("{backend} got {seen}, wanted {wanted} within {tolerance}"));
        }
    }
    Ok(())
}

/// One plain request to the entry's target, for counting.
pub(crate) async fn pod(bed: &Bed, entry: &Value) -> Outcome<String> {
    let ask = ask_of(target(bed, entry).await?, &Value::Null);
    let answer = client::ask(&ask).await?;
    let report: Value =
        serde_json::from_slice(&answer.body).map_err(|e| format!("status {}: {e}", answer.status))?;
    Ok(report["pod"].as_str().unwrap_or_default().to_owned())
}
