//! References of Istio's kinds.

use super::{
    Report,
    index::{Index, PortAnswer},
};
use crate::{
    diagnostic::{Diagnostic, Severity},
    istio::{
        Destination, DestinationRule, Gateway, RouteDestination, ServerTlsMode, Sidecar, VirtualService,
    },
    validate::overlap,
};

pub(super) fn virtual_service(spec: &VirtualService, index: &Index<'_>, report: &mut Report<'_>) {
    for (at, gateway) in spec.gateways.iter().enumerate() {
        let key = Index::gateway_key(gateway, report.namespace());
        match index.istio_gateways.get(&key) {
            None if key != "mesh" => {
                let expected = "a Gateway of networking.istio.io";
                report.error(
                    "HDL0303",
                    &format!("spec.gateways[{at}]"),
                    "there is no such Gateway",
                    gateway,
                    expected,
                );
            }
            Some(found) => hosts_of_gateway(spec, &key, found, report),
            None => {}
        }
    }
    claimed_twice(spec, index, report);
    for (at, route) in spec.http.iter().enumerate() {
        let field = format!("spec.http[{at}]");
        for (at, target) in route.route.iter().enumerate() {
            destination(&target.destination, &format!("{field}.route[{at}].destination"), index, report);
        }
        if let Some(mirror) = &route.mirror {
            destination(mirror, &format!("{field}.mirror"), index, report);
        }
        for (at, mirror) in route.mirrors.iter().enumerate() {
            destination(&mirror.destination, &format!("{field}.mirrors[{at}].destination"), index, report);
        }
        if let Some(delegate) = &route.delegate {
            let namespace =
                if delegate.namespace.is_empty() { report.namespace() } else { &delegate.namespace };
            if !index.has_virtual_service(namespace, &delegate.name) {
                let found = format!("{namespace}/{}", delegate.name);
                let field = format!("{field}.delegate");
                report.error("HDL0311", &field, "there is no such VirtualService", found, "a VirtualService");
            }
        }
    }
    let l4 = |list: &str, at: usize, route: &[RouteDestination], report: &mut Report<'_>| {
        for (inner, target) in route.iter().enumerate() {
            let field = format!("spec.{list}[{at}].route[{inner}].destination");
            destination(&target.destination, &field, index, report);
        }
    };
    spec.tls.iter().enumerate().for_each(|(at, route)| l4("tls", at, &route.route, report));
    spec.tcp.iter().enumerate().for_each(|(at, route)| l4("tcp", at, &route.route, report));
}

fn destination(destination: &Destination, field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    let host = Index::resolve(&destination.host, report.namespace());
    if !index.has_services() {
        return;
    }
    if !index.knows(&host) {
        let message = "no service has this host: requests get 503";
        let expected = "the host of a Service or ServiceEntry";
        return report.error("HDL0301", &format!("{field}.host"), message, &destination.host, expected);
    }
    let port = destination.port.as_ref().map(|p| p.number);
    match index.port(&host, port) {
        Some(PortAnswer::Unknown(ports)) => {
            let found = port.unwrap_or_default();
            report.error("HDL0310", &format!("{field}.port"), "the service has no such port", found, &ports);
        }
        Some(PortAnswer::Several(ports)) => {
            let message =
                "the service has several ports and the route names none: the one that was called is used";
            report.push(Diagnostic::new("HDL0315", Severity::Info, message), field, "", &ports);
        }
        Some(PortAnswer::Known) | None => {}
    }
    if !destination.subset.is_empty() {
        let rules = index.rules.get(&host).map_or(&[][..], Vec::as_slice);
        let subsets: Vec<&str> =
            rules.iter().flat_map(|(_, rule)| &rule.subsets).map(|s| s.name.as_str()).collect();
        if !subsets.contains(&destination.subset.as_str()) {
            let message = "no DestinationRule of this host has such a subset: requests get 503";
            let expected =
                if subsets.is_empty() { "a DestinationRule".to_owned() } else { subsets.join(", ") };
            report.error("HDL0302", &format!("{field}.subset"), message, &destination.subset, &expected);
        }
    }
}

/// Hosts that the gateway does not take.
fn hosts_of_gateway(spec: &VirtualService, key: &str, gateway: &Gateway, report: &mut Report<'_>) {
    let hosts = gateway.servers.iter().flat_map(|server| &server.hosts);
    let taken: Vec<&str> =
        hosts.map(|host| host.split_once('/').map_or(host.as_str(), |(_, name)| name)).collect();
    for (at, host) in spec.hosts.iter().enumerate() {
        if !taken.iter().any(|own| overlap(own, host)) {
            let message = format!("Gateway {key} serves no such host");
            report.warn("HDL0306", &format!("spec.hosts[{at}]"), &message, host, &taken.join(", "));
        }
    }
}

/// The older object wins; here, without a clock, both are named.
fn claimed_twice(spec: &VirtualService, index: &Index<'_>, report: &mut Report<'_>) {
    let gateways = Index::gateways_of(spec, report.namespace());
    for (at, host) in spec.hosts.iter().enumerate() {
        let claims = index.claims.get(&Index::resolve(host, report.namespace()));
        let other = claims.into_iter().flatten().find(|claim| {
            claim.object.key() != report.object.key() && claim.gateways.iter().any(|g| gateways.contains(g))
        });
        if let Some(other) = other {
            let message = "another VirtualService has this host on the same gateway";
            let expected = "one VirtualService per host; of several, the oldest comes first";
            report.warn("HDL0304", &format!("spec.hosts[{at}]"), message, other.object.key(), expected);
        }
    }
}

pub(super) fn destination_rule(spec: &DestinationRule, index: &Index<'_>, report: &mut Report<'_>) {
    let host = Index::resolve(&spec.host, report.namespace());
    if index.has_services() && !index.knows(&host) {
        let message = "no service has this host: the rule has no effect";
        report.warn("HDL0301", "spec.host", message, &spec.host, "the host of a Service or ServiceEntry");
    }
    let others = index.rules.get(&host).map_or(&[][..], Vec::as_slice);
    let same = others.iter().find(|(other, rule)| {
        other.key() != report.object.key()
            && other.meta.namespace == report.object.meta.namespace
            && rule.workload_selector == spec.workload_selector
    });
    if let Some((other, _)) = same {
        let message = "another DestinationRule of this namespace has this host";
        report.warn("HDL0305", "spec.host", message, other.key(), "one DestinationRule per host");
    }
}

pub(super) fn gateway(spec: &Gateway, index: &Index<'_>, report: &mut Report<'_>) {
    use ServerTlsMode::{Mutual, OptionalMutual, Simple};
    for (at, server) in spec.servers.iter().enumerate() {
        let Some(tls) =
            server.tls.as_ref().filter(|t| matches!(t.mode, Some(Simple | Mutual | OptionalMutual)))
        else {
            continue;
        };
        let one = std::iter::once(&tls.credential_name).filter(|name| !name.is_empty());
        for name in one.chain(&tls.credential_names) {
            // Istio reads it from the namespace of the gateway's workload, which files do not tell.
            if !index.has_secret(report.namespace(), name) {
                let field = format!("spec.servers[{at}].tls.credentialName");
                let message = "there is no such Secret in the Gateway's namespace";
                report.warn("HDL0307", &field, message, name, "a Secret with tls.crt and tls.key");
            }
        }
    }
}

pub(super) fn sidecar(spec: &Sidecar, index: &Index<'_>, report: &mut Report<'_>) {
    let selects = spec.workload_selector.as_ref().is_some_and(|s| !s.is_empty());
    let others = index.sidecars.get(report.namespace()).map_or(&[][..], Vec::as_slice);
    if !selects && others.len() > 1 {
        let message = "several Sidecars without a selector in one namespace: the oldest acts";
        report.warn("HDL0313", "spec.workloadSelector", message, others.len(), "one");
    }
}
