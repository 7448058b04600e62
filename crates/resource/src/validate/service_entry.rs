//! `ServiceEntry`, `WorkloadEntry`, `WorkloadGroup`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Judge,
    syntax::{is_fqdn, is_ip, is_label, is_protocol, is_subnet},
};
use crate::{
    istio::{Probe, Resolution, ServiceEntry, WorkloadEntry, WorkloadGroup},
    object::Object,
};

pub(super) fn entry(spec: &ServiceEntry, object: &Object, at: &mut Judge<'_>) {
    needs_spec(object, at);
    hosts(spec, at);
    let ranges = matches!(spec.resolution, Resolution::None | Resolution::Static);
    for (index, address) in spec.addresses.iter().enumerate() {
        let mut at = at.item("addresses", index);
        if !is_subnet(address) {
            at.error("HDL0111", "not an address or a range", address, "10.0.0.1 or 10.0.0.0/8");
        } else if !ranges && !is_ip(address) {
            at.error("HDL0111", "a range goes with resolution NONE or STATIC", address, "single addresses");
        }
    }
    ports(spec, at);
    if let Some(selector) = &spec.workload_selector {
        if !spec.endpoints.is_empty() {
            at.conflict("workloadSelector and endpoints exclude each other");
        }
        selector_labels(&selector.labels, &mut at.field("workloadSelector.labels"));
    }
    endpoints(spec, at);
    at.export_to(&spec.export_to);
}

/// The CRDs of these kinds ask for a spec, be it an empty one.
fn needs_spec(object: &Object, at: &mut Judge<'_>) {
    if object.json.get("spec").is_none() {
        at.missing("a spec");
    }
}

fn hosts(spec: &ServiceEntry, at: &mut Judge<'_>) {
    if spec.hosts.is_empty() {
        at.field("hosts").missing("at least one host");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let mut at = at.item("hosts", index);
        if host == "*" {
            at.error("HDL0102", "it would stand for every host", "*", "a name or *.suffix");
        } else if !host.contains('.') && !is_ip(host) && is_fqdn(host) {
            at.warn("HDL0205", "a short name", host, "a name with its domain");
        } else {
            at.host(host);
        }
    }
}

fn ports(spec: &ServiceEntry, at: &mut Judge<'_>) {
    for (index, port) in spec.ports.iter().enumerate() {
        let mut at = at.item("ports", index);
        at.field("number").port(port.number);
        if let Some(target) = port.target_port.filter(|t| *t != 0) {
            at.field("targetPort").port(target);
        }
        port_name(&port.name, &mut at.field("name"));
        if port.protocol.is_empty() {
            if spec.addresses.is_empty() {
                let message = "without a protocol and an address the port is shared by every TCP service";
                at.field("protocol").warn("HDL0206", message, "", "a protocol or an address");
            }
        } else if !is_protocol(&port.protocol) {
            at.field("protocol").error(
                "HDL0103",
                "not a protocol",
                &port.protocol,
                "HTTP, HTTP2, GRPC, TCP, TLS ...",
            );
        }
    }
    let mut at = at.field("ports");
    at.unique(spec.ports.iter().map(|p| p.name.as_str()));
    let numbers: Vec<String> = spec.ports.iter().map(|p| p.number.to_string()).collect();
    at.unique(numbers.iter().map(String::as_str));
}

fn port_name(name: &str, at: &mut Judge<'_>) {
    if name.is_empty() {
        at.missing("the port's name");
    } else if !is_label(name) {
        at.error("HDL0103", "not a port's name", name, "letters, digits and -");
    }
}

fn selector_labels(labels: &BTreeMap<String, String>, at: &mut Judge<'_>) {
    for (key, value) in labels {
        if value.contains('*') {
            at.error("HDL0112", "selectors know no wildcards", format!("{key}: {value}"), "a label's value");
        }
    }
    let plain = labels.iter().filter(|(_, value)| !value.contains('*'));
    at.labels(&plain.map(|(k, v)| (k.clone(), v.clone())).collect());
}

fn endpoints(spec: &ServiceEntry, at: &mut Judge<'_>) {
    let wildcard = spec.hosts.iter().any(|h| h.starts_with('*'));
    match spec.resolution {
        Resolution::None if !spec.endpoints.is_empty() => {
            at.field("endpoints").error("HDL0107", "resolution NONE takes no endpoints", "", "STATIC or DNS");
        }
        Resolution::Dns | Resolution::DnsRoundRobin
            if spec.endpoints.is_empty() && spec.workload_selector.is_none() && wildcard =>
        {
            at.field("hosts").error(
                "HDL0102",
                "DNS cannot ask for a wildcard",
                "",
                "endpoints, or plain names",
            );
        }
        Resolution::DnsRoundRobin if spec.endpoints.len() > 1 => {
            at.field("endpoints").error(
                "HDL0107",
                "DNS_ROUND_ROBIN takes one endpoint",
                spec.endpoints.len(),
                "1",
            );
        }
        Resolution::Static if spec.endpoints.is_empty() && spec.workload_selector.is_none() && wildcard => {
            at.field("hosts").error(
                "HDL0102",
                "a wildcard without endpoints",
                "",
                "endpoints, or plain names",
            );
        }
        Resolution::DynamicDns if !spec.endpoints.is_empty() => {
            at.field("endpoints").error("HDL0107", "DYNAMIC_DNS takes no endpoints", "", "DNS");
        }
        _ => {}
    }
    each_endpoint(spec, at);
}

fn each_endpoint(spec: &ServiceEntry, at: &mut Judge<'_>) {
    let names: BTreeSet<&str> = spec.ports.iter().map(|p| p.name.as_str()).collect();
    let told = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let mut at = at.item("endpoints", index);
        workload_parts(endpoint, &mut at);
        let socket = endpoint.address.starts_with("unix://");
        match spec.resolution {
            Resolution::Static if !is_ip(&endpoint.address) && !socket && !endpoint.address.is_empty() => {
                at.field("address").error(
                    "HDL0111",
                    "STATIC takes addresses",
                    &endpoint.address,
                    "an IP address",
                );
            }
            Resolution::Dns | Resolution::DnsRoundRobin if socket => {
                at.field("address").error("HDL0111", "DNS takes names", &endpoint.address, "a name");
            }
            _ => {}
        }
        if socket && spec.ports.len() > 1 {
            at.field("address").error("HDL0103", "a socket serves one port", spec.ports.len(), "1");
        }
        for name in endpoint.ports.keys().filter(|name| !names.contains(name.as_str())) {
            at.entry("ports", name).error("HDL0103", "the service has no such port", name, &told);
        }
    }
}

pub(super) fn workload(spec: &WorkloadEntry, object: &Object, at: &mut Judge<'_>) {
    needs_spec(object, at);
    workload_parts(spec, at);
}

fn workload_parts(entry: &WorkloadEntry, at: &mut Judge<'_>) {
    workload_address(entry, at);
    for (name, number) in &entry.ports {
        let mut at = at.entry("ports", name);
        port_name(name, &mut at);
        at.port(*number);
    }
    at.field("labels").labels(&entry.labels);
}

fn workload_address(entry: &WorkloadEntry, at: &mut Judge<'_>) {
    let mut at = at.field("address");
    if entry.address.is_empty() {
        if entry.network.is_empty() {
            at.missing("the instance's address");
        }
    } else if let Some(path) = entry.address.strip_prefix("unix://") {
        at.socket(&entry.address, path);
        if !entry.ports.is_empty() {
            at.error("HDL0103", "a socket has no ports", &entry.address, "no ports");
        }
    } else if !is_ip(&entry.address) && !is_fqdn(&entry.address) {
        at.error("HDL0111", "not an address", &entry.address, "an IP address, a name or unix://PATH");
    }
}

pub(super) fn group(spec: &WorkloadGroup, object: &Object, at: &mut Judge<'_>) {
    needs_spec(object, at);
    match &spec.template {
        None => at.field("template").missing("a template"),
        Some(template) => {
            let mut at = at.field("template");
            at.field("labels").labels(&template.labels);
            for (name, number) in &template.ports {
                at.entry("ports", name).port(*number);
            }
        }
    }
    if let Some(metadata) = &spec.metadata {
        at.field("metadata.labels").labels(&metadata.labels);
    }
    if let Some(check) = &spec.probe {
        probe(check, &mut at.field("probe"));
    }
}

fn probe(probe: &Probe, at: &mut Judge<'_>) {
    let ways =
        [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.exec.is_some(), probe.grpc.is_some()];
    match ways.iter().filter(|w| **w).count() {
        0 => at.missing("httpGet, tcpSocket, exec or grpc"),
        1 => {}
        _ => at.conflict("httpGet, tcpSocket, exec and grpc exclude each other"),
    }
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        at.field(name).not_negative(Some(number));
    }
    if let Some(http) = &probe.http_get {
        let mut at = at.field("httpGet");
        at.field("port").port(http.port);
        if !http.path.is_empty() && !http.path.starts_with('/') {
            at.field("path").error("HDL0115", "not a path", &http.path, "/PATH");
        }
        for (index, header) in http.http_headers.iter().enumerate() {
            let good = header.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if header.name.is_empty() || !good {
                let mut at = at.field(format_args!("httpHeaders[{index}].name"));
                at.error("HDL0110", "not a header name", &header.name, "letters, digits, - and _");
            }
        }
    }
    if let Some(tcp) = &probe.tcp_socket {
        at.field("tcpSocket.port").port(tcp.port);
    }
    if probe.exec.as_ref().is_some_and(|exec| exec.command.is_empty()) {
        at.field("exec.command").missing("a program");
    }
}
