//! References of the Gateway API's kinds.

use super::{
    Report, certificates,
    index::{Index, PortAnswer},
};
use crate::gateway::{
    GatewaySpec, GrantFrom, GrantTo, GrpcRouteSpec, HttpBackendRef, HttpRouteFilter, HttpRouteSpec,
    L4RouteRule, Listener, ListenerSetSpec, ObjectReference, ParentReference,
};

const GROUP: &str = "gateway.networking.k8s.io";

/// Classes that are there without an object.
const BUILT_IN_CLASSES: [&str; 2] = ["heddle", "istio"];

pub(super) fn gateway(spec: &GatewaySpec, index: &Index<'_>, report: &mut Report<'_>) {
    let class = spec.gateway_class_name.as_str();
    if !index.classes.contains(class) && !BUILT_IN_CLASSES.contains(&class) {
        let message = "there is no such GatewayClass: nobody serves the Gateway";
        report.warn("HDL0308", "spec.gatewayClassName", message, class, "heddle, istio or a GatewayClass");
    }
    if let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) {
        certificates::frontend(frontend, index, report);
    }
    let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    if let Some(own) = backend.and_then(|backend| backend.client_certificate_ref.as_ref()) {
        certificate(own, "spec.tls.backend.clientCertificateRef", index, report);
    }
    listeners(&spec.listeners, index, report);
}

pub(super) fn listener_set(spec: &ListenerSetSpec, index: &Index<'_>, report: &mut Report<'_>) {
    let parent = &spec.parent_ref;
    let namespace = parent.namespace.as_deref().unwrap_or(report.namespace());
    let found = format!("{namespace}/{}", parent.name);
    match index.gateways.get(&(namespace, parent.name.as_str())) {
        None => {
            let expected = "a Gateway of the Gateway API";
            report.error("HDL0309", "spec.parentRef", "there is no such Gateway", found, expected);
        }
        Some(gateway) if !lets_in(gateway, namespace == report.namespace()) => {
            let message = "the Gateway lets no ListenerSet of this namespace in (its spec.allowedListeners)";
            let expected = "a Gateway with allowedListeners.namespaces.from";
            report.warn("HDL0309", "spec.parentRef", message, found, expected);
        }
        Some(_) => {}
    }
    listeners(&spec.listeners, index, report);
}

/// Whether ListenerSets of the same or of other namespaces may attach, as far as it can be told without labels.
fn lets_in(gateway: &GatewaySpec, same: bool) -> bool {
    let namespaces = gateway.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    match namespaces.and_then(|namespaces| namespaces.from.as_deref()) {
        Some("All" | "Selector") => true,
        Some("Same") => same,
        _ => false,
    }
}

fn listeners(all: &[Listener], index: &Index<'_>, report: &mut Report<'_>) {
    for (at, listener) in all.iter().enumerate() {
        for (inner, secret) in listener.tls.iter().flat_map(|tls| &tls.certificate_refs).enumerate() {
            let field = format!("spec.listeners[{at}].tls.certificateRefs[{inner}]");
            certificate(secret, &field, index, report);
        }
    }
}

/// A Secret with a certificate.
fn certificate(secret: &ObjectReference, field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    if secret.kind.as_deref().unwrap_or("Secret") != "Secret" {
        return;
    }
    let namespace = secret.namespace.as_deref().unwrap_or(report.namespace());
    if !index.has_secret(namespace, &secret.name) {
        let found = format!("{namespace}/{}", secret.name);
        let expected = "a Secret with tls.crt and tls.key";
        report.error("HDL0307", field, "there is no such Secret", found, expected);
    }
    let target =
        Target { kind: Some("Secret"), namespace: Some(namespace), name: &secret.name, ..Target::default() };
    granted(&target, field, index, report);
}

pub(super) fn http(spec: &HttpRouteSpec, index: &Index<'_>, report: &mut Report<'_>) {
    parents(&spec.parent_refs, index, report);
    for (at, rule) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{at}]");
        backends(&rule.backend_refs, &field, index, report);
        mirrors(&rule.filters, &field, index, report);
    }
}

pub(super) fn grpc(spec: &GrpcRouteSpec, index: &Index<'_>, report: &mut Report<'_>) {
    parents(&spec.parent_refs, index, report);
    for (at, rule) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{at}]");
        backends(&rule.backend_refs, &field, index, report);
        mirrors(&rule.filters, &field, index, report);
    }
}

/// TCPRoute and TLSRoute.
pub(super) fn l4(
    refs: &[ParentReference],
    rules: &[L4RouteRule],
    index: &Index<'_>,
    report: &mut Report<'_>,
) {
    parents(refs, index, report);
    for (at, rule) in rules.iter().enumerate() {
        for (inner, backend) in rule.backend_refs.iter().enumerate() {
            let target = Target {
                group: backend.group.as_deref(),
                kind: backend.kind.as_deref(),
                namespace: backend.namespace.as_deref(),
                name: &backend.name,
                port: backend.port,
            };
            service(&target, &format!("spec.rules[{at}].backendRefs[{inner}]"), index, report);
        }
    }
}

fn parents(refs: &[ParentReference], index: &Index<'_>, report: &mut Report<'_>) {
    for (at, parent) in refs.iter().enumerate() {
        let field = format!("spec.parentRefs[{at}]");
        let namespace = parent.namespace.as_deref().unwrap_or(report.namespace());
        let found = format!("{namespace}/{}", parent.name);
        match (parent.group.as_deref().unwrap_or(GROUP), parent.kind.as_deref().unwrap_or("Gateway")) {
            (GROUP, kind @ ("Gateway" | "ListenerSet")) => {
                let key = (namespace, parent.name.as_str());
                let listeners = match kind {
                    "Gateway" => index.gateways.get(&key).map(|gateway| &gateway.listeners),
                    _ => index.listener_sets.get(&key).map(|set| &set.listeners),
                };
                let Some(listeners) = listeners else {
                    let message = format!("there is no such {kind}");
                    let expected = format!("a {kind} of the Gateway API");
                    report.error("HDL0309", &field, &message, found, &expected);
                    continue;
                };
                let names: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
                if let Some(section) = parent.section_name.as_deref().filter(|s| !names.contains(s)) {
                    let field = format!("{field}.sectionName");
                    let message = format!("the {kind} has no such listener");
                    report.error("HDL0309", &field, &message, section, &names.join(", "));
                }
            }
            ("" | "core", "Service")
                if index.has_services() && index.service(namespace, &parent.name).is_none() =>
            {
                report.error("HDL0309", &field, "there is no such Service", found, "a Service");
            }
            _ => {}
        }
    }
}

fn backends(refs: &[HttpBackendRef], field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    for (at, backend) in refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{at}]");
        let target = Target {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            namespace: backend.namespace.as_deref(),
            name: &backend.name,
            port: backend.port,
        };
        service(&target, &field, index, report);
        mirrors(&backend.filters, &field, index, report);
    }
}

fn mirrors(filters: &[HttpRouteFilter], field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    for (at, filter) in filters.iter().enumerate() {
        let Some(mirror) = &filter.request_mirror else { continue };
        let backend = &mirror.backend_ref;
        let target = Target {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            namespace: backend.namespace.as_deref(),
            name: &backend.name,
            port: backend.port,
        };
        service(&target, &format!("{field}.filters[{at}].requestMirror.backendRef"), index, report);
    }
}

/// What an object refers to.
#[derive(Default)]
struct Target<'t> {
    group: Option<&'t str>,
    kind: Option<&'t str>,
    namespace: Option<&'t str>,
    name: &'t str,
    port: Option<u16>,
}

fn service(target: &Target<'_>, field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    let is_service =
        matches!(target.group, None | Some("" | "core")) && target.kind.unwrap_or("Service") == "Service";
    if !is_service || !index.has_services() {
        return;
    }
    granted(target, field, index, report);
    let namespace = target.namespace.unwrap_or(report.namespace());
    match index.port(&format!("{}.{namespace}.svc", target.name), target.port) {
        None => {
            let found = format!("{namespace}/{}", target.name);
            report.error("HDL0301", field, "there is no such Service: requests get 500", found, "a Service");
        }
        Some(PortAnswer::Unknown(ports)) => {
            let found = target.port.unwrap_or_default();
            report.error("HDL0310", &format!("{field}.port"), "the service has no such port", found, &ports);
        }
        Some(_) => {}
    }
}

/// A reference into another namespace needs a grant there.
fn granted(target: &Target<'_>, field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    let own = report.namespace();
    let namespace = target.namespace.unwrap_or(own);
    if namespace == own {
        return;
    }
    let (from, kind) = (report.object.kind.kind, target.kind.unwrap_or("Service"));
    let asks = |f: &GrantFrom| f.group == GROUP && f.kind == from && f.namespace == own;
    let gives = |t: &GrantTo| {
        let named = t.name.as_deref().is_none_or(|name| name.is_empty() || name == target.name);
        matches!(t.group.as_str(), "" | "core") && t.kind == kind && named
    };
    let allowed = index.grants.iter().any(|(place, grant)| {
        *place == namespace && grant.from.iter().any(asks) && grant.to.iter().any(gives)
    });
    if !allowed {
        let message = format!("no ReferenceGrant in {namespace} lets a {from} of {own} refer to it");
        let found = format!("{kind} {namespace}/{}", target.name);
        report.error("HDL0314", field, &message, found, "a ReferenceGrant");
    }
}
