//! Core kinds: what the Kubernetes API would refuse, as far as the mesh reads it.

use base64::Engine as _;

use super::{
    Judge,
    syntax::{is_fqdn, is_ip, is_lower_label},
};
use crate::core::{ConfigMap, EndpointSlice, Secret, ServiceSpec};

pub(super) fn service(spec: &ServiceSpec, at: &mut Judge<'_>) {
    let external = spec.type_ == "ExternalName";
    if external {
        if !is_fqdn(&spec.external_name) {
            at.field("externalName").error("HDL0102", "not a host", &spec.external_name, "a name");
        }
    } else if spec.ports.is_empty() && spec.cluster_ip != "None" {
        at.field("ports").missing("at least one port");
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let mut at = at.item("ports", index);
        at.field("port").port(port.port);
        if spec.ports.len() > 1 && port.name.is_empty() {
            at.field("name").missing("a name, since there are several ports");
        } else if !port.name.is_empty() && !is_lower_label(&port.name) {
            at.field("name").error(
                "HDL0103",
                "not a port's name",
                &port.name,
                "lower-case letters, digits and -",
            );
        }
    }
    let mut ports = at.field("ports");
    ports.unique(spec.ports.iter().map(|p| p.name.as_str()).filter(|n| !n.is_empty()));
    let protocol = |p: &str| if p.is_empty() { "TCP".to_owned() } else { p.to_owned() };
    let numbers: Vec<String> =
        spec.ports.iter().map(|p| format!("{}/{}", p.port, protocol(&p.protocol))).collect();
    ports.unique(numbers.iter().map(String::as_str));
    if !matches!(spec.cluster_ip.as_str(), "" | "None") && !is_ip(&spec.cluster_ip) {
        at.field("clusterIP").error("HDL0111", "not an address", &spec.cluster_ip, "an IP address or None");
    }
    at.field("selector").labels(&spec.selector);
}

pub(super) fn endpoint_slice(slice: &EndpointSlice, at: &mut Judge<'_>) {
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let mut at = at.item("endpoints", index);
        if endpoint.addresses.is_empty() {
            at.field("addresses").missing("at least one address");
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let good = match slice.address_type.as_str() {
                "IPv4" => address.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => is_fqdn(address),
            };
            if !good {
                let expected = format!("an address of type {}", slice.address_type);
                at.item("addresses", index).error(
                    "HDL0111",
                    "not an address of the slice's type",
                    address,
                    &expected,
                );
            }
        }
    }
    for (index, port) in slice.ports.iter().enumerate() {
        if let Some(number) = port.port {
            at.item("ports", index).field("port").port(number);
        }
    }
    at.field("ports").unique(slice.ports.iter().map(|p| p.name.as_deref().unwrap_or_default()));
}

pub(super) fn secret(secret: &Secret, at: &mut Judge<'_>) {
    for (key, value) in &secret.data {
        base64(key, value, "data", at);
    }
    if secret.type_ == "kubernetes.io/tls" {
        for key in ["tls.crt", "tls.key"] {
            if !secret.data.contains_key(key) && !secret.string_data.contains_key(key) {
                at.entry("data", key).missing("a certificate and its key");
            }
        }
    }
}

pub(super) fn config_map(map: &ConfigMap, at: &mut Judge<'_>) {
    for (key, value) in &map.binary_data {
        base64(key, value, "binaryData", at);
        if map.data.contains_key(key) {
            at.entry("binaryData", key).error("HDL0108", "it stands in data too", key, "once");
        }
    }
}

/// The value itself stays out of the finding: it may be a secret.
fn base64(key: &str, value: &str, list: &str, at: &mut Judge<'_>) {
    let text: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if base64::engine::general_purpose::STANDARD.decode(text).is_err() {
        at.entry(list, key).error("HDL0117", "not base64", format!("{} characters", value.len()), "base64");
    }
}
