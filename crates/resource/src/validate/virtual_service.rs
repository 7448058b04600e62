//! `VirtualService`.

use super::{
    Judge, http_route,
    syntax::{is_lower_label, is_subnet, is_wildcard_host, overlap},
};
use crate::istio::{Destination, RouteDestination, TcpRoute, TlsRoute, VirtualService};

pub(super) fn check(spec: &VirtualService, at: &mut Judge<'_>) {
    hosts(spec, at);
    gateways(&spec.gateways, at);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        at.missing("http, tls or tcp");
    }
    let delegate = spec.hosts.is_empty();
    if delegate && !(spec.tls.is_empty() && spec.tcp.is_empty()) {
        at.field("hosts")
            .missing("at least one host; only delegates, which have http routes alone, have none");
    }
    for (index, route) in spec.http.iter().enumerate() {
        http_route::check(route, delegate, &mut at.item("http", index));
    }
    for (index, route) in spec.tls.iter().enumerate() {
        tls_route(route, &spec.hosts, &mut at.item("tls", index));
    }
    for (index, route) in spec.tcp.iter().enumerate() {
        tcp_route(route, &mut at.item("tcp", index));
    }
    at.export_to(&spec.export_to);
    unreachable_routes(spec, at);
}

/// The most hosts of one object: each is compared with each.
const MAX_HOSTS: usize = 1024;

fn hosts(spec: &VirtualService, at: &mut Judge<'_>) {
    if spec.hosts.is_empty() && !spec.gateways.is_empty() {
        at.field("gateways").conflict("a delegate (no hosts) acts on the gateways of its root");
    }
    let mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == "mesh");
    for (index, host) in spec.hosts.iter().enumerate() {
        let mut at = at.item("hosts", index);
        at.host(host);
        if host == "*" && mesh {
            at.warn(
                "HDL0201",
                "it applies to every host of the mesh",
                "*",
                "the hosts that are meant, or a gateway",
            );
        }
    }
    if spec.hosts.len() > MAX_HOSTS {
        let expected = format!("at most {MAX_HOSTS}");
        return at.field("hosts").error("HDL0109", "too many hosts", spec.hosts.len(), &expected);
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        for other in spec.hosts.iter().skip(index + 1).filter(|other| overlap(host, other)) {
            let mut at = at.field("hosts");
            at.error("HDL0108", "hosts overlap", format!("{host} and {other}"), "each host once");
        }
    }
}

pub(super) fn gateways(gateways: &[String], at: &mut Judge<'_>) {
    for (index, gateway) in gateways.iter().enumerate() {
        let good = match gateway.split_once('/') {
            Some((namespace, name)) => {
                (namespace == "." || is_lower_label(namespace)) && super::syntax::is_fqdn(name)
            }
            None => super::syntax::is_fqdn(gateway),
        };
        if !good {
            let expected = "mesh, NAME or NAMESPACE/NAME";
            at.item("gateways", index).error("HDL0102", "not a gateway's name", gateway, expected);
        }
    }
}

pub(super) fn destination(destination: &Destination, at: &mut Judge<'_>) {
    if destination.host.is_empty() {
        at.field("host").missing("the host of a service");
    } else if destination.host == "*" || !is_wildcard_host(&destination.host) {
        at.field("host").error("HDL0102", "not a host", &destination.host, "the host of a service");
    }
    if !destination.subset.is_empty() && !is_lower_label(&destination.subset) {
        let found = &destination.subset;
        at.field("subset").error("HDL0102", "not a subset's name", found, "letters, digits and -");
    }
    if let Some(port) = &destination.port {
        at.field("port.number").port(port.number);
    }
}

/// Shares: none negative, and with several destinations not all zero.
pub(super) fn weights(weights: &[i32], at: &mut Judge<'_>) {
    for (index, weight) in weights.iter().enumerate().filter(|(_, w)| **w < 0) {
        at.item("route", index).field("weight").error("HDL0104", "it is negative", weight, "0 or more");
    }
    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    if weights.len() > 1 && total == 0 {
        at.field("route").error("HDL0104", "the weights add up to nothing", 0, "a sum above 0");
    }
    if total > i64::from(u32::MAX) {
        at.field("route").error("HDL0104", "the weights add up to too much", total, "at most 4294967295");
    }
}

fn l4_destinations(route: &[RouteDestination], at: &mut Judge<'_>) {
    if route.is_empty() {
        at.field("route").missing("at least one destination");
    }
    for (index, target) in route.iter().enumerate() {
        destination(&target.destination, &mut at.item("route", index).field("destination"));
    }
    weights(&route.iter().map(|r| r.weight).collect::<Vec<_>>(), at);
}

fn subnets(subnets: &[String], at: &mut Judge<'_>) {
    for (index, subnet) in subnets.iter().enumerate().filter(|(_, s)| !is_subnet(s)) {
        let mut at = at.item("destinationSubnets", index);
        at.error("HDL0111", "not an address or a range", subnet, "10.0.0.0/8");
    }
}

fn tls_route(route: &TlsRoute, hosts: &[String], at: &mut Judge<'_>) {
    if route.matches.is_empty() {
        at.field("match").missing("at least one match with sniHosts");
    }
    for (index, matched) in route.matches.iter().enumerate() {
        let mut at = at.item("match", index);
        if matched.sni_hosts.is_empty() {
            at.field("sniHosts").missing("at least one server name");
        }
        for (index, sni) in matched.sni_hosts.iter().enumerate() {
            let mut at = at.item("sniHosts", index);
            if !is_wildcard_host(sni) {
                at.error("HDL0102", "not a server name", sni, "a name or *.suffix");
            } else if !hosts.iter().any(|host| within(sni, host)) {
                at.error("HDL0102", "the server name is none of the hosts", sni, "one of the hosts");
            }
        }
        if let Some(port) = matched.port {
            at.field("port").port(port);
        }
        subnets(&matched.destination_subnets, &mut at);
        at.field("sourceLabels").labels(&matched.source_labels);
        gateways(&matched.gateways, &mut at);
    }
    l4_destinations(&route.route, at);
}

/// Whether every name of `sni` is one of `host`'s.
fn within(sni: &str, host: &str) -> bool {
    match host.strip_prefix('*') {
        Some(suffix) => sni.ends_with(suffix),
        // A short name stands for all of its forms.
        None => sni == host || !host.contains('.') && sni.starts_with(&format!("{host}.")),
    }
}

fn tcp_route(route: &TcpRoute, at: &mut Judge<'_>) {
    for (index, matched) in route.matches.iter().enumerate() {
        let mut at = at.item("match", index);
        if let Some(port) = matched.port {
            at.field("port").port(port);
        }
        subnets(&matched.destination_subnets, &mut at);
        at.field("sourceLabels").labels(&matched.source_labels);
        gateways(&matched.gateways, &mut at);
    }
    l4_destinations(&route.route, at);
}

/// A route without conditions takes everything that comes after it.
fn unreachable_routes(spec: &VirtualService, at: &mut Judge<'_>) {
    let catch_all = spec.http.iter().position(|route| {
        route.matches.is_empty()
            || route.matches.iter().any(|m| *m == crate::istio::HttpMatchRequest::default())
    });
    let Some(first) = catch_all else { return };
    for index in first + 1..spec.http.len() {
        let expected = "the route without conditions last";
        let found = format!("after http[{first}]");
        at.item("http", index).warn("HDL0203", "no request reaches this route", found, expected);
    }
}
