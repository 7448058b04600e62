//! `GatewayClass`, `Gateway`, `ListenerSet`, `ReferenceGrant`: the CEL rules and patterns of their CRDs.

use super::{
    Judge,
    syntax::{is_fqdn, is_ip, is_lower_label},
};
use crate::gateway::{
    GatewayClassSpec, GatewaySpec, Listener, ListenerSetSpec, ReferenceGrantSpec, RouteNamespaces,
};

const GROUP: &str = "gateway.networking.k8s.io";

pub(super) fn class(spec: &GatewayClassSpec, at: &mut Judge<'_>) {
    let good = spec
        .controller_name
        .split_once('/')
        .is_some_and(|(domain, path)| is_fqdn(domain) && !path.is_empty());
    if !good {
        let mut at = at.field("controllerName");
        at.error("HDL0102", "not a controller's name", &spec.controller_name, "DOMAIN/PATH");
    }
}

pub(super) fn gateway(spec: &GatewaySpec, at: &mut Judge<'_>) {
    if spec.gateway_class_name.is_empty() {
        at.field("gatewayClassName").missing("the name of a GatewayClass");
    }
    listeners(&spec.listeners, at);
    if let Some(namespaces) = spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref())
    {
        selector(namespaces, &mut at.field("allowedListeners.namespaces"));
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        let mut at = at.item("addresses", index);
        let good = match address.type_.as_deref().unwrap_or("IPAddress") {
            _ if address.value.is_empty() => true,
            "IPAddress" => is_ip(&address.value),
            "Hostname" => is_fqdn(&address.value),
            own => own.contains('/'),
        };
        if !good {
            at.error("HDL0111", "not an address of its type", &address.value, "an IP address or a host name");
        }
    }
}

pub(super) fn listener_set(spec: &ListenerSetSpec, at: &mut Judge<'_>) {
    let parent = &spec.parent_ref;
    if parent.name.is_empty() {
        at.field("parentRef.name").missing("the name of a Gateway");
    }
    let group = parent.group.as_deref().unwrap_or(GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if (group, kind) != (GROUP, "Gateway") {
        let found = format!("{kind} of group {group}");
        let expected = "kind Gateway of group gateway.networking.k8s.io";
        at.field("parentRef").error("HDL0102", "not a parent of a ListenerSet", found, expected);
    }
    listeners(&spec.listeners, at);
}

fn listeners(all: &[Listener], at: &mut Judge<'_>) {
    if !(1..=64).contains(&all.len()) {
        at.field("listeners").error("HDL0109", "not a number of listeners", all.len(), "1 to 64");
    }
    for (index, entry) in all.iter().enumerate() {
        listener(entry, &mut at.item("listeners", index));
    }
    let mut listeners = at.field("listeners");
    listeners.unique(all.iter().map(|l| l.name.as_str()));
    let socket = |l: &Listener| format!("{}/{} {}", l.protocol, l.port, l.hostname.as_deref().unwrap_or("*"));
    let sockets: Vec<String> = all.iter().map(socket).collect();
    listeners.unique(sockets.iter().map(String::as_str));
}

fn selector(namespaces: &RouteNamespaces, at: &mut Judge<'_>) {
    if namespaces.from.as_deref() == Some("Selector") && namespaces.selector.is_none() {
        at.field("selector").missing("a selector");
    }
}

fn listener(listener: &Listener, at: &mut Judge<'_>) {
    at.field("port").port(listener.port);
    section_name(&listener.name, &mut at.field("name"));
    if listener.protocol.is_empty() {
        at.field("protocol").missing("a protocol");
    }
    let plain = matches!(listener.protocol.as_str(), "HTTP" | "TCP" | "UDP");
    if plain && listener.tls.is_some() {
        at.field("tls").error(
            "HDL0113",
            "TLS settings on a listener for plain traffic",
            &listener.protocol,
            "HTTPS or TLS",
        );
    }
    if let Some(name) = listener.hostname.as_deref().filter(|n| !n.is_empty()) {
        if matches!(listener.protocol.as_str(), "TCP" | "UDP") {
            at.field("hostname").error(
                "HDL0107",
                "a listener for TCP or UDP knows no host names",
                name,
                "none",
            );
        }
        hostname(name, &mut at.field("hostname"));
    }
    if let Some(tls) = &listener.tls {
        let mode = tls.mode.as_deref().unwrap_or("Terminate");
        if listener.protocol == "HTTPS" && mode != "Terminate" {
            at.field("tls.mode").error("HDL0113", "HTTPS is ended here", mode, "Terminate");
        }
        let settings = !tls.certificate_refs.is_empty() || !tls.options.is_empty();
        if mode == "Terminate" && !settings {
            at.field("tls.certificateRefs").missing("a certificate, or options");
        }
    }
    if let Some(namespaces) = listener.allowed_routes.as_ref().and_then(|a| a.namespaces.as_ref()) {
        selector(namespaces, &mut at.field("allowedRoutes.namespaces"));
    }
}

/// A lower-case host name, `*.` in front allowed, never an address.
pub(super) fn hostname(name: &str, at: &mut Judge<'_>) {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    if is_ip(plain) {
        at.error("HDL0102", "an address where a name belongs", name, "a name");
    } else if !is_fqdn(plain) || plain.bytes().any(|b| b.is_ascii_uppercase()) || plain.contains('_') {
        at.error("HDL0102", "not a host name", name, "a lower-case name or *.suffix");
    }
}

/// A DNS subdomain.
pub(super) fn section_name(name: &str, at: &mut Judge<'_>) {
    if name.len() > 253 || !name.split('.').all(is_lower_label) {
        at.error("HDL0102", "not a name", name, "lower-case letters, digits, - and .");
    }
}

pub(super) fn grant(spec: &ReferenceGrantSpec, at: &mut Judge<'_>) {
    for (name, count) in [("from", spec.from.len()), ("to", spec.to.len())] {
        if !(1..=16).contains(&count) {
            at.field(name).error("HDL0109", "not a number of entries", count, "1 to 16");
        }
    }
    for (index, from) in spec.from.iter().enumerate().filter(|(_, f)| !is_lower_label(&f.namespace)) {
        let mut at = at.field(format_args!("from[{index}].namespace"));
        at.error("HDL0114", "not a namespace", &from.namespace, "a name");
    }
}
