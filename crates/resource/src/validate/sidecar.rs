//! `Sidecar`.

use std::net::SocketAddr;

use super::{
    Judge,
    destination_rule::pool,
    syntax::{is_ip, is_lower_label, is_protocol, is_wildcard_host},
    virtual_service::destination,
};
use crate::istio::{EgressListener, IngressListener, OutboundMode, ServerTlsMode, Sidecar};

pub(super) fn check(spec: &Sidecar, at: &mut Judge<'_>) {
    if spec.ingress.is_empty()
        && spec.egress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none()
    {
        at.missing("ingress, egress, outboundTrafficPolicy or inboundConnectionPool");
    }
    if let Some(selector) = &spec.workload_selector {
        at.field("workloadSelector.labels").labels(&selector.labels);
        at.field("workloadSelector.matchLabels").labels(&selector.match_labels);
    }
    let selects = spec.workload_selector.as_ref().is_some_and(|selector| !selector.is_empty());
    for (index, listener) in spec.ingress.iter().enumerate() {
        ingress(listener, selects, &mut at.item("ingress", index));
    }
    let ports = |numbers: Vec<u16>| numbers.iter().map(u16::to_string).collect::<Vec<_>>();
    let inbound = ports(spec.ingress.iter().filter_map(|l| l.port.as_ref()).map(|p| p.number).collect());
    at.field("ingress").unique(inbound.iter().map(String::as_str));
    for (index, listener) in spec.egress.iter().enumerate() {
        egress(listener, &mut at.item("egress", index));
    }
    let outbound = spec.egress.iter().filter_map(|l| l.port.as_ref()).map(|p| p.number).filter(|n| *n != 0);
    at.field("egress").unique(ports(outbound.collect()).iter().map(String::as_str));
    if let Some(index) = spec.egress.iter().position(|l| l.port.is_none())
        && index + 1 < spec.egress.len()
    {
        let message = "the listener for every port comes last, and there is one";
        at.item("egress", index).error("HDL0107", message, "", "a port");
    }
    if let Some(policy) = &spec.outbound_traffic_policy
        && let Some(proxy) = &policy.egress_proxy
    {
        let mut at = at.field("outboundTrafficPolicy.egressProxy");
        if policy.mode != OutboundMode::AllowAny {
            at.conflict("an egress proxy goes with mode ALLOW_ANY");
        }
        destination(proxy, &mut at);
    }
    if let Some(settings) = &spec.inbound_connection_pool {
        pool(settings, &mut at.field("inboundConnectionPool"));
    }
}

fn bind(bind: &str, at: &mut Judge<'_>) {
    if !bind.is_empty() && !bind.starts_with("unix://") && !is_ip(bind) {
        at.field("bind").error("HDL0111", "not an address", bind, "an IP address or unix://PATH");
    }
}

fn ingress(listener: &IngressListener, selects: bool, at: &mut Judge<'_>) {
    bind(&listener.bind, at);
    let Some(port) = &listener.port else { return at.field("port").missing("a port") };
    at.field("port.number").port(port.number);
    if !port.protocol.is_empty() && !is_protocol(&port.protocol) {
        at.field("port.protocol").error("HDL0103", "not a protocol", &port.protocol, "HTTP, GRPC, TCP ...");
    }
    default_endpoint(&listener.default_endpoint, at);
    if let Some(tls) = &listener.tls {
        let mut at = at.field("tls");
        if !matches!(tls.mode.unwrap_or_default(), ServerTlsMode::Simple | ServerTlsMode::Mutual) {
            at.field("mode").error("HDL0113", "not a mode of a sidecar's listener", "", "SIMPLE or MUTUAL");
        }
        if !tls.credential_names.is_empty()
            || tls.https_redirect
            || !tls.subject_alt_names.is_empty()
            || !tls.tls_certificates.is_empty()
        {
            let message =
                "httpsRedirect, credentialNames, subjectAltNames and tlsCertificates are for gateways";
            at.error("HDL0113", message, "", "one certificate");
        }
        let secrets = !tls.credential_name.is_empty() || !tls.ca_cert_credential_name.is_empty();
        if secrets && !selects {
            let message = "Secrets go to the workloads that the Sidecar selects, and it selects none";
            at.field("credentialName").error("HDL0113", message, "", "a workloadSelector, or files");
        }
        let files = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
        if tls.credential_name.is_empty() && !files {
            at.missing("serverCertificate and privateKey, or credentialName");
        }
    }
    if let Some(settings) = &listener.connection_pool {
        let mut at = at.field("connectionPool");
        pool(settings, &mut at);
        let is_tcp =
            ["TCP", "TLS", "MONGO", "REDIS", "MYSQL"].iter().any(|p| p.eq_ignore_ascii_case(&port.protocol));
        if settings.http.is_some() && is_tcp {
            at.field("http").warn("HDL0204", "HTTP settings on a port for TCP", &port.protocol, "tcp");
        }
    }
}

fn default_endpoint(endpoint: &str, at: &mut Judge<'_>) {
    let mut at = at.field("defaultEndpoint");
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return at.socket(endpoint, path);
    }
    let local = |a: SocketAddr| a.ip().is_loopback() || a.ip().is_unspecified();
    match endpoint.parse::<SocketAddr>() {
        Ok(address) if local(address) && address.port() > 0 => {}
        _ => at.error(
            "HDL0111",
            "not the workload's own address",
            endpoint,
            "127.0.0.1:PORT, 0.0.0.0:PORT or unix://PATH",
        ),
    }
}

fn egress(listener: &EgressListener, at: &mut Judge<'_>) {
    bind(&listener.bind, at);
    let socket = listener.bind.starts_with("unix://");
    match &listener.port {
        Some(port) => {
            if socket && port.number != 0 {
                at.field("port.number").error("HDL0103", "a socket has no port", port.number, "0");
            } else if !socket {
                at.field("port.number").port(port.number);
            }
            if !port.protocol.is_empty() && !is_protocol(&port.protocol) {
                at.field("port.protocol").error(
                    "HDL0103",
                    "not a protocol",
                    &port.protocol,
                    "HTTP, GRPC, TCP ...",
                );
            }
        }
        None if !listener.bind.is_empty() => at.field("port").missing("the port to bind"),
        None => {}
    }
    if listener.hosts.is_empty() {
        at.field("hosts").missing("at least one host");
    }
    for (index, host) in listener.hosts.iter().enumerate() {
        let mut at = at.item("hosts", index);
        let Some((namespace, name)) = host.split_once('/') else {
            at.error("HDL0102", "not a host of a Sidecar", host, "NAMESPACE/NAME");
            continue;
        };
        if !matches!(namespace, "*" | "." | "~") && !is_lower_label(namespace) {
            at.error("HDL0114", "not a namespace", namespace, "*, ., ~ or a name");
        }
        if !is_wildcard_host(name) {
            at.error("HDL0102", "not a host", name, "a name, *.suffix or *");
        }
    }
}
