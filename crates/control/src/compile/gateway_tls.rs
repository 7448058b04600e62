//! Servers of Istio `Gateway`s on ports of TLS: connections are told apart by SNI.
//!
//! A server that cannot be served as it asks (its certificate is missing, its mode is not built) keeps its
//! names: their connections are closed, and do not fall to a server that takes more names.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::{
    core::v3::TransportSocket,
    listener::v3::{Filter, FilterChain, FilterChainMatch},
};
use heddle_resource::istio::ServerTlsMode;

use super::{
    cluster::BLACK_HOLE,
    cx::Cx,
    gateway::{self, Serving},
    hcm::{self, Routes, Side},
    route::Place,
    tcp, termination,
    unit::{RouteName, Unit, Value},
};
use crate::{
    finding::{Finding, code},
    world::{Protocol, host},
};

const HTTP: &[&str] = &["h2", "http/1.1"];

/// The filter chains of a port, and the units that belong with them.
pub(super) fn chains(
    cx: &Cx<'_>,
    servers: &[Serving<'_>],
    port: u16,
    units: &mut Vec<Unit>,
) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    let mut taken = BTreeSet::new();
    for server in servers {
        if server.terminates() {
            ended(cx, server, port, &mut taken, units, &mut chains);
        } else if mode(server) == ServerTlsMode::AutoPassthrough {
            not_built(cx, server, "AUTO_PASSTHROUGH");
            deny(cx, server, &mut taken, &mut chains);
        } else {
            passed(cx, server, port, &mut taken, &mut chains);
        }
    }
    if chains.is_empty() {
        chains.push(gateway::closed(cx));
    }
    chains
}

fn mode(server: &Serving<'_>) -> ServerTlsMode {
    server.server.tls.as_ref().and_then(|tls| tls.mode).unwrap_or_default()
}

fn not_built(cx: &Cx<'_>, server: &Serving<'_>, mode: &str) {
    let message = format!(
        "{mode} needs identities, which are not built yet: connections are closed; SIMPLE and MUTUAL are"
    );
    cx.report(Finding::new(code::DENIED, server.field(".tls.mode"), message));
}

/// What a VirtualService's `tls` routes lead to, undecrypted.
fn passed(
    cx: &Cx<'_>,
    server: &Serving<'_>,
    port: u16,
    taken: &mut BTreeSet<String>,
    chains: &mut Vec<FilterChain>,
) {
    let alone = std::slice::from_ref(server);
    let gateways = gateway::references(alone);
    let before = chains.len();
    for entry in gateway::bound(cx, alone).into_iter().filter(|entry| !server.names(entry).is_empty()) {
        for mut chain in tcp::sni_chains(cx, entry, Place { port, gateways: &gateways }) {
            let Some(matched) = &mut chain.filter_chain_match else { continue };
            let mut names = within(server, &matched.server_names);
            names.retain(|name| taken.insert(name.clone()));
            if names.is_empty() {
                continue;
            }
            matched.server_names = if names.contains("*") { Vec::new() } else { names.into_iter().collect() };
            chains.push(chain);
        }
    }
    if chains.len() == before {
        let message = "no VirtualService has `tls` routes for it: connections are closed";
        cx.report(Finding::new(code::DANGLING, server.field(".hosts"), message));
    }
}

/// Those of the names (none: every name) that a server has.
fn within(server: &Serving<'_>, asked: &[String]) -> BTreeSet<String> {
    let every = ["*".to_owned()];
    let asked = if asked.is_empty() { &every } else { asked };
    let mut names = BTreeSet::new();
    for (_, own) in server.hosts() {
        let own = own.to_ascii_lowercase();
        for name in asked {
            if host::covers(&own, name) {
                names.insert(name.clone());
            } else if host::covers(name, &own) {
                names.insert(own.clone());
            }
        }
    }
    names
}

/// A server that ends TLS itself.
fn ended(
    cx: &Cx<'_>,
    server: &Serving<'_>,
    port: u16,
    taken: &mut BTreeSet<String>,
    units: &mut Vec<Unit>,
    chains: &mut Vec<FilterChain>,
) {
    let Some(socket) = socket(cx, server, units) else {
        return deny(cx, server, taken, chains);
    };
    let alone = std::slice::from_ref(server);
    let filter = if server.protocol == Protocol::Https {
        let name = route_name(server, port);
        let text = cx.name(name.text());
        units.push(Unit::Route(name));
        let prefix = format!("outbound_{port}_{}", server.index);
        let manager = hcm::connection_manager(cx, Side::Gateway, &prefix, Routes::Named(text));
        hcm::http_connection_filter(&manager)
    } else {
        let gateways = gateway::references(alone);
        match gateway::tcp_filter(cx, alone, Place { port, gateways: &gateways }) {
            Some(filter) => filter,
            None => return deny(cx, server, taken, chains),
        }
    };
    let name = format!("{}.{}", server.gateway.object.meta.name, server.index);
    add(cx, server, &name, &filter, Some(&socket), taken, chains);
}

fn deny(cx: &Cx<'_>, server: &Serving<'_>, taken: &mut BTreeSet<String>, chains: &mut Vec<FilterChain>) {
    let filter = tcp::proxy_filter(cx, BLACK_HOLE, vec![(cx.name(BLACK_HOLE), 1)]);
    add(cx, server, "denied", &filter, None, taken, chains);
}

/// One chain for the names of a server, and one for all others where it has `*`.
fn add(
    cx: &Cx<'_>,
    server: &Serving<'_>,
    name: &str,
    filter: &Filter,
    socket: Option<&TransportSocket>,
    taken: &mut BTreeSet<String>,
    chains: &mut Vec<FilterChain>,
) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (_, own) in server.hosts() {
        let own = own.to_ascii_lowercase();
        if taken.insert(own.clone()) {
            names.insert(own);
        } else if !names.contains(&own) {
            let message = format!("an older server has {own} on this port: it is left out here");
            cx.report(Finding::new(code::COLLISION, server.field(".hosts"), message));
        }
    }
    let all = names.remove("*");
    let names: Vec<String> = names.into_iter().collect();
    let sets = [Some(names).filter(|names| !names.is_empty()), all.then(Vec::new)];
    for server_names in sets.into_iter().flatten() {
        let matched =
            FilterChainMatch { server_names, transport_protocol: "tls".to_owned(), ..Default::default() };
        let mut chain = hcm::chain(name, Some(matched), filter.clone());
        chain.transport_socket = socket.cloned();
        chains.push(chain);
    }
}

fn route_name(server: &Serving<'_>, port: u16) -> RouteName {
    RouteName::GatewayServer(port, server.gateway.reference().into(), server.index)
}

/// The routes of a server that ends TLS. A name is answered by the server whose host is the most specific for
/// it, and by no other: a connection to a server that asks for less must not reach what another one guards.
pub(super) fn route(cx: &Cx<'_>, port: u16, gateway: &str, index: usize) -> Value {
    let servers = gateway::by_port(cx).remove(&port).unwrap_or_default();
    let is_it = |server: &Serving<'_>| server.gateway.reference() == gateway && server.index == index;
    let Some(at) = servers.iter().position(is_it) else { return Value::none() };
    let best = |server: &Serving<'_>, name: &str| {
        let own = server.hosts().map(|(_, own)| own.to_ascii_lowercase());
        own.filter(|own| host::covers(own, name)).min_by(|a, b| host::specificity(a, b))
    };
    let owns = |name: &str| {
        let Some(own) = best(&servers[at], name) else { return true };
        let other = |server: &Serving<'_>| {
            best(server, name).is_some_and(|theirs| host::specificity(&theirs, &own).is_lt())
        };
        !servers.iter().any(other)
    };
    let name = route_name(&servers[at], port);
    gateway::route_of(cx, std::slice::from_ref(&servers[at]), &name, port, owns)
}

/// TLS as a server asks for it; nothing, reported, where that cannot be had.
fn socket(cx: &Cx<'_>, server: &Serving<'_>, units: &mut Vec<Unit>) -> Option<TransportSocket> {
    let settings = server.server.tls.as_ref()?;
    if mode(server) == ServerTlsMode::IstioMutual {
        not_built(cx, server, "ISTIO_MUTUAL");
        return None;
    }
    let alpn: &[&str] = if server.protocol == Protocol::Https { HTTP } else { &[] };
    termination::socket(cx, &|field| server.field(field), settings, alpn, units)
}
