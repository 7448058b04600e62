//! Lists as tables: what `kubectl get` prints.

use heddle_resource::{Kind, Object};
use serde_json::{Value, json};

/// One column: its title and how its cell is read.
struct Column {
    title: &'static str,
    description: &'static str,
    /// Shown with `-o wide` only.
    wide: bool,
    cell: fn(&Value) -> String,
}

const fn column(title: &'static str, description: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { title, description, wide: false, cell }
}

const fn wide(title: &'static str, description: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { title, description, wide: true, cell }
}

/// The columns between Name and Age, as Kubernetes and the CRDs of Istio and Gateway API have them.
fn columns_of(kind: &Kind) -> &'static [Column] {
    match (kind.group, kind.kind) {
        ("", "Namespace") => {
            &[const { column("Status", "The phase of the namespace.", |o| text(o, "status.phase")) }]
        }
        ("", "Service") => SERVICE,
        ("", "Pod") => POD,
        ("", "Secret") => &[
            const { column("Type", "What the data are.", |o| or(text(o, "type"), "Opaque")) },
            const { column("Data", "How many entries it has.", |o| count(o, "data").to_string()) },
        ],
        ("", "ConfigMap") => {
            const DATA: Column = column("Data", "How many entries it has.", |o| {
                (count(o, "data") + count(o, "binaryData")).to_string()
            });
            &[DATA]
        }
        ("", "ServiceAccount") => {
            &[
                const {
                    column("Secrets", "How many secrets it may use.", |o| {
                        list(o, "secrets").len().to_string()
                    })
                },
            ]
        }
        ("discovery.k8s.io", "EndpointSlice") => ENDPOINT_SLICE,
        ("gateway.networking.k8s.io", kind) => match kind {
            "GatewayClass" => GATEWAY_CLASS,
            "Gateway" => GATEWAY,
            "ReferenceGrant" | "TCPRoute" => &[],
            _ => &[const { column("Hostnames", "The hosts it serves.", |o| json_text(o, "spec.hostnames")) }],
        },
        (_, "VirtualService") => VIRTUAL_SERVICE,
        (_, "DestinationRule") => {
            &[const { column("Host", "The service it is about.", |o| text(o, "spec.host")) }]
        }
        (_, "ServiceEntry") => SERVICE_ENTRY,
        (_, "WorkloadEntry") => {
            &[const { column("Address", "Where the workload is.", |o| text(o, "spec.address")) }]
        }
        _ => &[],
    }
}

const SERVICE: &[Column] = &[
    column("Type", "How the service is reached.", |o| or(text(o, "spec.type"), "ClusterIP")),
    column("Cluster-IP", "Its address in the mesh.", |o| or(text(o, "spec.clusterIP"), "<none>")),
    column("External-IP", "Its addresses outside.", |o| or(words(o, "spec.externalIPs"), "<none>")),
    column("Port(s)", "Its ports.", service_ports),
    wide("Selector", "Which workloads serve it.", |o| or(pairs(o, "spec.selector"), "<none>")),
];
const POD: &[Column] = &[
    column("Ready", "Ready containers of all.", pod_ready),
    column("Status", "The phase of the pod.", |o| or(text(o, "status.phase"), "Unknown")),
    column("Restarts", "How often its containers started again.", |_| "0".to_owned()),
    wide("IP", "Its address.", |o| or(text(o, "status.podIP"), "<none>")),
    wide("Node", "The machine it is on.", |o| or(text(o, "spec.nodeName"), "<none>")),
];
const ENDPOINT_SLICE: &[Column] = &[
    column("AddressType", "The kind of its addresses.", |o| text(o, "addressType")),
    column("Ports", "Its ports.", |o| {
        or(list(o, "ports").iter().map(|p| scalar(p.get("port"))).collect::<Vec<_>>().join(","), "<unset>")
    }),
    column("Endpoints", "Its addresses.", endpoint_addresses),
];
const GATEWAY_CLASS: &[Column] = &[
    column("Controller", "Who serves gateways of this class.", |o| text(o, "spec.controllerName")),
    column("Accepted", "Whether its controller takes it.", |o| condition(o, "Accepted")),
    wide("Description", "What it is.", |o| text(o, "spec.description")),
];
const GATEWAY: &[Column] = &[
    column("Class", "Its GatewayClass.", |o| text(o, "spec.gatewayClassName")),
    column("Address", "Where it is reached.", |o| {
        list(o, "status.addresses").iter().map(|a| scalar(a.get("value"))).collect::<Vec<_>>().join(",")
    }),
    column("Programmed", "Whether its proxies serve it.", |o| condition(o, "Programmed")),
];
const VIRTUAL_SERVICE: &[Column] = &[
    column("Gateways", "The gateways it is bound to.", |o| json_text(o, "spec.gateways")),
    column("Hosts", "The hosts it routes.", |o| json_text(o, "spec.hosts")),
];
const SERVICE_ENTRY: &[Column] = &[
    column("Hosts", "Its hosts.", |o| json_text(o, "spec.hosts")),
    column("Location", "Inside or outside of the mesh.", |o| text(o, "spec.location")),
    column("Resolution", "How its addresses are found.", |o| text(o, "spec.resolution")),
];

fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, step| value.get(step))
}

fn scalar(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn text(object: &Value, path: &str) -> String {
    scalar(at(object, path))
}

/// Lists as CRD columns show them: their JSON.
fn json_text(object: &Value, path: &str) -> String {
    at(object, path).map(Value::to_string).unwrap_or_default()
}

fn list<'v>(object: &'v Value, path: &str) -> &'v [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn count(object: &Value, path: &str) -> usize {
    at(object, path).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn words(object: &Value, path: &str) -> String {
    list(object, path).iter().map(|v| scalar(Some(v))).collect::<Vec<_>>().join(",")
}

fn pairs(object: &Value, path: &str) -> String {
    let map = at(object, path).and_then(Value::as_object);
    map.into_iter().flatten().map(|(k, v)| format!("{k}={}", scalar(Some(v)))).collect::<Vec<_>>().join(",")
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn condition(object: &Value, name: &str) -> String {
    let found = list(object, "status.conditions").iter().find(|c| c.get("type").is_some_and(|t| t == name));
    or(scalar(found.and_then(|c| c.get("status"))), "Unknown")
}

fn service_ports(object: &Value) -> String {
    let ports = list(object, "spec.ports").iter().map(|p| {
        let protocol = or(scalar(p.get("protocol")), "TCP");
        match p.get("nodePort").and_then(Value::as_u64) {
            Some(node) if node > 0 => format!("{}:{node}/{protocol}", scalar(p.get("port"))),
            _ => format!("{}/{protocol}", scalar(p.get("port"))),
        }
    });
    or(ports.collect::<Vec<_>>().join(","), "<none>")
}

fn pod_ready(object: &Value) -> String {
    let all = list(object, "spec.containers").len();
    let statuses = list(object, "status.containerStatuses");
    let ready = statuses.iter().filter(|s| s.get("ready").is_some_and(|r| r == true)).count();
    let is_ready = statuses.is_empty() && condition(object, "Ready") == "True";
    format!("{}/{all}", if is_ready { all } else { ready })
}

fn endpoint_addresses(object: &Value) -> String {
    const SHOWN: usize = 3;
    let all: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|e| list(e, "addresses"))
        .map(|a| scalar(Some(a)))
        .collect();
    let mut told = or(all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(","), "<unset>");
    if all.len() > SHOWN {
        told.push_str(&format!(" + {} more...", all.len() - SHOWN));
    }
    told
}

/// The column definitions of a kind.
pub(crate) fn columns(kind: &Kind) -> Vec<Value> {
    let define = |name: &str, format: &str, description: &str, priority: u8| {
        json!({
            "name": name, "type": "string", "format": format, "description": description, "priority": priority,
        })
    };
    let mut all = vec![define("Name", "name", "Unique within its namespace.", 0)];
    let own = columns_of(kind);
    all.extend(own.iter().filter(|c| !c.wide).map(|c| define(c.title, "", c.description, 0)));
    all.push(define("Age", "", "Since it was created.", 0));
    all.extend(own.iter().filter(|c| c.wide).map(|c| define(c.title, "", c.description, 1)));
    all
}

pub(crate) fn row(kind: &Kind, object: &Object, shown: Option<Value>) -> Value {
    let own = columns_of(kind);
    let mut cells: Vec<String> = vec![object.meta.name.to_string()];
    cells.extend(own.iter().filter(|c| !c.wide).map(|c| (c.cell)(&object.json)));
    cells.push(age(&object.meta.creation_timestamp));
    cells.extend(own.iter().filter(|c| c.wide).map(|c| (c.cell)(&object.json)));
    let mut row = json!({ "cells": cells });
    if let Some(shown) = shown {
        row["object"] = shown;
    }
    row
}

pub(crate) fn table(meta: &str, columns: Vec<Value>, rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{meta}"),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn age(created: &str) -> String {
    match created.parse::<jiff::Timestamp>() {
        Ok(created) => human(jiff::Timestamp::now().duration_since(created).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// `45s`, `3m20s`, `50m`, `5h10m`, `30h`, `5d3h`, `40d`, `3y20d`: two figures while the first is small.
fn human(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |major: i64, unit: char, minor: i64, small: char| {
        if minor == 0 { format!("{major}{unit}") } else { format!("{major}{unit}{minor}{small}") }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, 'd', hours % 24, 'h')
    } else if days < 730 {
        format!("{days}d")
    } else if days < 8 * 365 {
        two(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}
