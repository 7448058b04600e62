//! Cases of our own for the suite's manifests, in a shorter form than its data has, brought into that form.

use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("own_cases.yaml");
const INFRA: &str = "gateway-conformance-infra";

/// The cases of `own_cases.yaml` in the form of the suite's data.
pub(crate) fn cases() -> Vec<Value> {
    let table: Vec<Value> = serde_saphyr::from_str(TABLE).expect("the table is YAML");
    table.iter().map(case).collect()
}

/// Features that cases of our own exercise; the suite's cases name theirs.
const FEATURES: [(&str, &str); 18] = [
    ("GatewayBackendClientCertificate", "GatewayBackendClientCertificate"),
    ("GatewayHTTPListenerIsolation", "GatewayHTTPListenerIsolation"),
    ("GatewayPort8080", "GatewayWithAttachedRoutesPort8080"),
    ("HTTPRoute303RedirectStatusCode", "HTTPRoute303Redirect"),
    ("HTTPRoute307RedirectStatusCode", "HTTPRoute307Redirect"),
    ("HTTPRouteBackendTimeout", "HTTPRouteTimeoutBackendRequest"),
    ("HTTPRouteCORS", "HTTPRouteCORS"),
    ("HTTPRouteMethodMatching", "HTTPRouteMethodMatching"),
    ("HTTPRouteNamedRouteRule", "HTTPRouteNamedRule"),
    ("HTTPRoutePathRedirect", "HTTPRouteRedirectPath"),
    ("HTTPRoutePathRewrite", "HTTPRouteRewritePath"),
    ("HTTPRoutePortRedirect", "HTTPRouteRedirectPort"),
    ("HTTPRouteQueryParamMatching", "HTTPRouteQueryParamMatching"),
    ("HTTPRouteRequestMirror", "HTTPRouteRequestMirror"),
    ("HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestMultipleMirrors"),
    ("HTTPRouteRequestPercentageMirror", "HTTPRouteRequestPercentageMirror"),
    ("HTTPRouteRetryBackendTimeout", "HTTPRouteRetryWithTimeouts"),
    ("HTTPRouteSchemeRedirect", "HTTPRouteRedirectScheme"),
];

/// What a case of our own exercises.
pub(crate) fn features(case: &str) -> impl Iterator<Item = &'static str> {
    FEATURES.into_iter().filter(move |(_, own)| *own == case).map(|(feature, _)| feature)
}

fn case(case: &Value) -> Value {
    let manifest = case["manifest"].as_str().unwrap_or_default();
    let mut expanded = json!({
        "name": case["name"],
        "profile": if manifest.starts_with("mesh/") { "mesh" } else { "gateway" },
        "manifests": [format!("tests/{manifest}.yaml")],
        "objects": case["objects"],
        "http": each(&case["http"], http),
        "tcp": each(&case["tcp"], tcp),
        "mirror_shares": each(&case["shares"], share),
        "status": statuses(case),
    });
    if case.get("grpc").is_some() {
        expanded["grpc"] = each(&case["grpc"], grpc);
    }
    expanded
}

fn each(entries: &Value, expand: fn(&Value) -> Value) -> Value {
    entries.as_array().into_iter().flatten().map(expand).collect()
}

/// `gateway[:port]`.
fn to(entry: &Value) -> Value {
    let text = entry["to"].as_str().unwrap_or("same-namespace");
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    json!({"gateway": {"name": name, "namespace": INFRA}, "port": port})
}

fn http(entry: &Value) -> Value {
    let status = match &entry["status"] {
        Value::Null => json!([200]),
        Value::Array(all) => json!(all),
        one => json!([one]),
    };
    let mut expect = json!({"status": status, "backend_pod_prefix": entry["pod"]});
    let copy = [
        ("seen", "backend_request"),
        ("redirect", "redirect"),
        ("headers_back", "headers"),
        ("absent_back", "absent_headers"),
        ("mirrored_to", "mirrored_to"),
    ];
    for (from, name) in copy {
        if let Some(value) = entry.get(from) {
            expect[name] = value.clone();
        }
    }
    if entry["fail"] == true {
        expect["fail"] = true.into();
    }
    let mut request = Map::new();
    for (from, name) in [("get", "path"), ("host", "host"), ("headers", "headers"), ("method", "method")] {
        if let Some(value) = entry.get(from) {
            request.insert(name.to_owned(), value.clone());
        }
    }
    let mut expanded =
        json!({"to": to(entry), "request": request, "expect": expect, "subtest": entry["get"]});
    // Namespace and name of a Secret whose certificate is trusted; the server's name is that of the request.
    if let Some(trusted) = entry.get("tls") {
        let secret = json!({"Namespace": trusted[0], "Name": trusted[1]});
        let ca = json!({"$secret": secret, "part": "tls.crt"});
        expanded["scheme"] = "https".into();
        expanded["tls"] = json!({"server_ca": ca, "client_cert": null, "sni": entry["host"]});
    }
    if let Some(namespace) = entry.get("client") {
        expanded["from_client"] = json!({"app": "client", "namespace": namespace});
    }
    expanded
}

fn tcp(entry: &Value) -> Value {
    json!({"to": to(entry), "args": [{"Backend": entry["pod"], "Namespace": INFRA}]})
}

fn grpc(entry: &Value) -> Value {
    json!({
        "to": to(entry),
        "service": "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho",
        "method": "Echo",
        "authority": entry["host"],
        "metadata": entry["headers"],
        "expect": {"grpc_code": entry.get("code").unwrap_or(&json!(0)), "backend_pod_prefix": entry["pod"]},
    })
}

fn share(entry: &Value) -> Value {
    let mut expanded = http(entry);
    expanded["mirror"] = entry["mirror"].clone();
    expanded["share"] = entry["share"].clone();
    expanded
}

/// `status` as the suite's data has it, and `resolved` and `accepted`: a route and the reason for which the condition is false.
fn statuses(case: &Value) -> Value {
    let mut statuses = Vec::new();
    for (field, kind) in [("resolved", "ResolvedRefs"), ("accepted", "Accepted")] {
        if let Some(name) = case[field][0].as_str() {
            statuses.push(json!({"assert": "HTTPRouteMustHaveCondition", "args": [
                {"name": name, "namespace": INFRA}, {"name": "same-namespace", "namespace": INFRA},
                {"Type": kind, "Status": "False", "Reason": case[field][1]},
            ]}));
        }
    }
    statuses.extend(case["status"].as_array().into_iter().flatten().cloned());
    statuses.into()
}
