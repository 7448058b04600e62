//! Ports of HTTPS and TLS listeners, and services that TLSRoutes refer to: connections are told apart by SNI.
//!
//! A listener that cannot be served keeps its names: their connections are closed, and do not fall to one that
//! takes more names.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};

use heddle_xds::ClientKind;

use super::{
    around::Around,
    attachment::{Attachment, ListenerOutcome},
    hostname::Hostname,
    listener::Security,
    mesh,
    model::{Listener, RouteKind},
    table, units,
};
use crate::{
    compile::{
        cluster::BLACK_HOLE,
        cx::Cx,
        hcm::{self, Routes, Side},
        tcp,
        tls::{self, Certificate, Roots, Server, Verification},
        unit,
    },
    world::{ParentId, Service},
};

/// The filter chains of a port, and the units that belong with them.
pub(super) fn chains(
    cx: &Cx<'_>,
    id: &ParentId,
    attachment: &Attachment,
    port: u16,
    units: &mut Vec<unit::Unit>,
) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    let mut taken: BTreeSet<Hostname> = BTreeSet::new();
    for (listener, outcome) in table::serving(attachment).filter(|(listener, _)| listener.port == port) {
        match &outcome.security {
            Security::Ends { .. } => {
                taken.insert(listener.hostname.clone());
                chains.push(ended(cx, id, listener, &outcome.security, units));
            }
            _ => passed(cx, listener, outcome, &mut taken, &mut chains),
        }
    }
    // Names of listeners that are not served, or have no route for them.
    for listener in holding(attachment, port) {
        if taken.insert(listener.hostname.clone()) {
            let filter = tcp::proxy_filter(cx, BLACK_HOLE, vec![(cx.name(BLACK_HOLE), 1)]);
            chains.push(chain(&listener.label(), &[&listener.hostname], filter));
        }
    }
    chains
}

/// The listeners of a port that keep their names. One of a ListenerSet that gives way to another has none.
fn holding(attachment: &Attachment, port: u16) -> impl Iterator<Item = &Listener> {
    let listeners = attachment.gateway.listeners.iter().zip(&attachment.listeners);
    let gives_way =
        |listener: &Listener, outcome: &ListenerOutcome| listener.set.is_some() && outcome.conflicted.holds();
    listeners
        .filter(move |(listener, outcome)| listener.port == port && !gives_way(listener, outcome))
        .map(|(listener, _)| listener)
}

fn chain(name: &str, hostnames: &[&Hostname], filter: Filter) -> FilterChain {
    let all = hostnames.iter().any(|hostname| hostname.is_any());
    let names = hostnames.iter().map(|hostname| hostname.domain().to_owned());
    let matched = FilterChainMatch {
        server_names: if all { Vec::new() } else { names.collect() },
        transport_protocol: "tls".to_owned(),
        ..Default::default()
    };
    hcm::chain(name, Some(matched), filter)
}

/// A listener that ends TLS.
fn ended(
    cx: &Cx<'_>,
    id: &ParentId,
    listener: &Listener,
    security: &Security,
    units: &mut Vec<unit::Unit>,
) -> FilterChain {
    let label = listener.label();
    let name = units::route_name(id, listener.port, Some(&label));
    let own = units::Unit::ListenerRoute(id.clone(), listener.port, (*label).into());
    units.push(unit::Unit::GatewayApi(own));
    let manager = hcm::connection_manager(cx, Side::Gateway, &name, Routes::Named(name.clone()));
    let mut chain = chain(&label, &[&listener.hostname], hcm::http_connection_filter(&manager));
    let Security::Ends { certificates, clients } = security else { return chain };
    units.extend(certificates.iter().cloned().map(unit::Unit::Secret));
    let mut server = Server {
        certificates: certificates.iter().cloned().map(Certificate::Sds).collect(),
        alpn: &["h2", "http/1.1"],
        ..Server::default()
    };
    // Whoever fails is let in: our own proxy does so by not asking.
    let asks = |insecure: bool| !(insecure && cx.client() == ClientKind::Heddle);
    if let Some((authorities, insecure)) = clients.as_ref().filter(|(_, insecure)| asks(*insecure)) {
        units.push(unit::Unit::Secret(authorities.clone()));
        let by = Verification::by(Roots::Sds(authorities.clone()));
        server.clients = Some(Verification { lenient: *insecure, ..by });
        server.demands = !insecure;
    }
    chain.transport_socket = Some(tls::downstream(&server));
    chain
}

/// The routes of a listener that passes TLS through, by the names of each.
fn passed(
    cx: &Cx<'_>,
    listener: &Listener,
    outcome: &ListenerOutcome,
    taken: &mut BTreeSet<Hostname>,
    chains: &mut Vec<FilterChain>,
) {
    let acting =
        outcome.attached.iter().filter(|attached| attached.acts && attached.route.kind == RouteKind::Tls);
    for attached in acting {
        let mut names: Vec<&Hostname> = attached.hostnames.iter().collect();
        names.retain(|name| taken.insert((*name).clone()));
        if names.is_empty() {
            continue;
        }
        let filter = units::tcp_filter(cx, listener.port, table::target(&attached.route, &Around::new(cx)));
        let name = format!("{}.{}", listener.label(), attached.route.key.name);
        // `*` stands for itself: a chain for every name has no other.
        let (all, named): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.is_any());
        for set in [named, all].into_iter().filter(|set| !set.is_empty()) {
            chains.push(chain(&name, &set, filter.clone()));
        }
    }
}

/// The filter chains of a service's port by the TLSRoutes that refer to it; nothing where there are none. A name that
/// none of them has is closed.
pub(crate) fn of_mesh(cx: &Cx<'_>, service: &Service, port: u16) -> Option<Vec<FilterChain>> {
    let id = ParentId::service(&service.object)?;
    let routes = mesh::routes_for(cx.routes_of(&id), &id, port, cx.namespace(), &[RouteKind::Tls]);
    if routes.is_empty() {
        return None;
    }
    let any = [Hostname::default()];
    let mut taken: BTreeSet<&Hostname> = BTreeSet::new();
    let mut chains = Vec::new();
    for route in routes {
        let names = if route.hostnames.is_empty() { &any[..] } else { &route.hostnames };
        let names: Vec<_> = names.iter().filter(|name| taken.insert(name)).collect();
        if names.is_empty() {
            continue;
        }
        let to = units::weighted(cx, table::target(route, &Around::of_mesh(cx)));
        let name = format!("{}/{}", route.key.namespace, route.key.name);
        chains.push(chain(&name, &names, tcp::proxy_filter(cx, &name, to)));
    }
    if !taken.contains(&any[0]) {
        let filter = tcp::proxy_filter(cx, BLACK_HOLE, vec![(cx.name(BLACK_HOLE), 1)]);
        chains.push(chain("no TLSRoute", &[&any[0]], filter));
    }
    Some(chains)
}

#[cfg(test)]
#[path = "secure_test.rs"]
mod secure_test;
