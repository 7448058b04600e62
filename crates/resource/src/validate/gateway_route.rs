//! The routes of the Gateway API: the CEL rules and patterns of their CRDs.

use super::{Judge, gateway::hostname, gateway::section_name, gateway_filter, syntax::is_token};
use crate::gateway::{
    BackendRef, GrpcRouteSpec, HttpBackendRef, HttpHeaderMatch, HttpRouteMatch, HttpRouteRule, HttpRouteSpec,
    L4RouteRule, ParentReference, TcpRouteSpec, TlsRouteSpec,
};

pub(super) fn http(spec: &HttpRouteSpec, at: &mut Judge<'_>) {
    head(&spec.parent_refs, &spec.hostnames, spec.rules.len(), at);
    at.field("rules").unique(spec.rules.iter().filter_map(|r| r.name.as_deref()));
    for (index, entry) in spec.rules.iter().enumerate() {
        http_rule(entry, &mut at.item("rules", index));
    }
}

pub(super) fn grpc(spec: &GrpcRouteSpec, at: &mut Judge<'_>) {
    head(&spec.parent_refs, &spec.hostnames, spec.rules.len(), at);
    at.field("rules").unique(spec.rules.iter().filter_map(|r| r.name.as_deref()));
    for (index, rule) in spec.rules.iter().enumerate() {
        let mut at = at.item("rules", index);
        for (index, matched) in rule.matches.iter().enumerate() {
            let mut at = at.item("matches", index);
            headers(&matched.headers, "headers", &mut at);
            let Some(method) = &matched.method else { continue };
            let mut at = at.field("method");
            let parts = [("service", &method.service), ("method", &method.method)];
            if parts.iter().all(|(_, part)| part.as_deref().unwrap_or_default().is_empty()) {
                at.missing("service or method");
            }
            for (name, part) in parts {
                let Some(text) = part.as_deref().filter(|t| !t.is_empty()) else { continue };
                let mut at = at.field(name);
                if method.type_.as_deref() == Some("RegularExpression") {
                    at.regex(text);
                } else if !text.split('.').all(is_identifier) || name == "method" && text.contains('.') {
                    at.error(
                        "HDL0106",
                        "not a name of gRPC",
                        text,
                        "letters, digits, _ (and . for services)",
                    );
                }
            }
        }
        gateway_filter::grpc_filters(&rule.filters, &mut at);
        backends(&rule.backend_refs, true, &mut at);
    }
}

fn is_identifier(text: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(super) fn tcp(spec: &TcpRouteSpec, at: &mut Judge<'_>) {
    head(&spec.parent_refs, &[], spec.rules.len(), at);
    l4_rules(&spec.rules, at);
}

pub(super) fn tls(spec: &TlsRouteSpec, at: &mut Judge<'_>) {
    head(&spec.parent_refs, &spec.hostnames, spec.rules.len(), at);
    l4_rules(&spec.rules, at);
}

fn l4_rules(rules: &[L4RouteRule], at: &mut Judge<'_>) {
    if rules.is_empty() {
        at.field("rules").missing("at least one rule");
    }
    for (index, rule) in rules.iter().enumerate() {
        let mut at = at.item("rules", index);
        if !(1..=16).contains(&rule.backend_refs.len()) {
            at.field("backendRefs").error(
                "HDL0109",
                "not a number of backends",
                rule.backend_refs.len(),
                "1 to 16",
            );
        }
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            backend_ref(backend, &mut at.item("backendRefs", index));
        }
    }
}

/// What all routes have: parents, host names, a number of rules.
fn head(parents: &[ParentReference], hostnames: &[String], rules: usize, at: &mut Judge<'_>) {
    if parents.len() > 32 {
        at.field("parentRefs").error("HDL0109", "too many parents", parents.len(), "at most 32");
    }
    for (index, parent) in parents.iter().enumerate() {
        let mut at = at.item("parentRefs", index);
        if parent.name.is_empty() {
            at.field("name").missing("the parent's name");
        }
        if let Some(section) = parent.section_name.as_deref().filter(|s| !s.is_empty()) {
            section_name(section, &mut at.field("sectionName"));
        }
        if let Some(port) = parent.port {
            at.field("port").port(port);
        }
    }
    let name = |p: &ParentReference| {
        let kind = p.kind.as_deref().unwrap_or("Gateway");
        let namespace = p.namespace.as_deref().unwrap_or_default();
        let section = p.section_name.as_deref().unwrap_or_default();
        format!("{kind} {namespace}/{} {section} {}", p.name, p.port.unwrap_or_default())
    };
    let names: Vec<String> = parents.iter().map(name).collect();
    at.field("parentRefs").unique(names.iter().map(String::as_str));
    if hostnames.len() > 16 {
        at.field("hostnames").error("HDL0109", "too many host names", hostnames.len(), "at most 16");
    }
    for (index, host) in hostnames.iter().enumerate() {
        hostname(host, &mut at.item("hostnames", index));
    }
    if rules > 16 {
        at.field("rules").error("HDL0109", "too many rules", rules, "at most 16");
    }
}

fn http_rule(rule: &HttpRouteRule, at: &mut Judge<'_>) {
    if rule.matches.len() > 64 {
        at.field("matches").error("HDL0109", "too many matches", rule.matches.len(), "at most 64");
    }
    for (index, matched) in rule.matches.iter().enumerate() {
        http_match(matched, &mut at.item("matches", index));
    }
    gateway_filter::http_filters(&rule.filters, at);
    gateway_filter::rule(rule, at);
    backends(&rule.backend_refs, false, at);
    if let Some(timeouts) = &rule.timeouts
        && let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && backend > request
        && !request.0.is_zero()
    {
        let mut at = at.field("timeouts.backendRequest");
        at.error("HDL0109", "a try may not last longer than the request", backend, &request.to_string());
    }
    if let Some(retry) = &rule.retry {
        let mut at = at.field("retry");
        for (index, code) in retry.codes.iter().enumerate().filter(|(_, code)| !(400..=599).contains(*code)) {
            at.item("codes", index).error("HDL0109", "not a status of an error", code, "400 to 599");
        }
        at.field("attempts").not_negative(retry.attempts);
    }
}

fn http_match(matched: &HttpRouteMatch, at: &mut Judge<'_>) {
    if let Some(path) = &matched.path {
        let mut at = at.field("path.value");
        let value = path.value.as_deref().unwrap_or("/");
        match path.type_.as_deref() {
            Some("RegularExpression") => at.regex(value),
            _ => path_value(value, &mut at),
        }
    }
    headers(&matched.headers, "headers", at);
    headers(&matched.query_params, "queryParams", at);
}

/// A normalized absolute path.
pub(super) fn path_value(value: &str, at: &mut Judge<'_>) {
    let lower = value.to_ascii_lowercase();
    let inside = ["//", "/./", "/../", "%2f", "#"].iter().any(|part| lower.contains(part));
    let good = value.bytes().all(|b| b.is_ascii_graphic()) && value.len() <= 1024;
    if !value.starts_with('/') || inside || value.ends_with("/..") || value.ends_with("/.") || !good {
        at.error("HDL0115", "not a usable path", value, "/PATH without //, /./, /../, %2F and #");
    }
}

fn headers(matches: &[HttpHeaderMatch], list: &str, at: &mut Judge<'_>) {
    for (index, matched) in matches.iter().enumerate() {
        let mut at = at.item(list, index);
        if !is_token(&matched.name) || matched.name.len() > 256 {
            at.field("name").error("HDL0110", "not a usable name", &matched.name, "letters, digits and -");
        }
        if matched.type_.as_deref() == Some("RegularExpression") {
            at.field("value").regex(&matched.value);
        } else if matched.value.is_empty() {
            at.field("value").missing("a value");
        }
    }
    let names: Vec<String> = matches.iter().map(|m| m.name.clone()).collect();
    at.field(list).unique(names.iter().map(String::as_str));
}

fn backends(backends: &[HttpBackendRef], grpc: bool, at: &mut Judge<'_>) {
    if backends.len() > 16 {
        at.field("backendRefs").error("HDL0109", "too many backends", backends.len(), "at most 16");
    }
    for (index, backend) in backends.iter().enumerate() {
        let mut at = at.item("backendRefs", index);
        let plain = BackendRef {
            group: backend.group.clone(),
            kind: backend.kind.clone(),
            name: backend.name.clone(),
            namespace: backend.namespace.clone(),
            port: backend.port,
            weight: backend.weight,
        };
        backend_ref(&plain, &mut at);
        if grpc {
            gateway_filter::grpc_filters(&backend.filters, &mut at);
        } else {
            gateway_filter::http_filters(&backend.filters, &mut at);
        }
    }
}

fn backend_ref(backend: &BackendRef, at: &mut Judge<'_>) {
    if backend.name.is_empty() {
        at.field("name").missing("the backend's name");
    }
    if let Some(weight) = backend.weight.filter(|w| !(0..=1_000_000).contains(w)) {
        at.field("weight").error("HDL0104", "not a weight", weight, "0 to 1000000");
    }
    service_port(backend.group.as_deref(), backend.kind.as_deref(), backend.port, at);
}

/// A reference to a Service names its port.
pub(super) fn service_port(group: Option<&str>, kind: Option<&str>, port: Option<u16>, at: &mut Judge<'_>) {
    let service = group.unwrap_or_default().is_empty() && kind.unwrap_or("Service") == "Service";
    match port {
        Some(port) => at.field("port").port(port),
        None if service => at.field("port").missing("the Service's port"),
        None => {}
    }
}
