//! Listeners for connections to the workload.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::envoy::config::{
    core::v3::{Address, TrafficDirection, TransportSocket},
    listener::v3::{AdditionalAddress, FilterChain, FilterChainMatch, Listener},
    route::v3::{
        RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost, route::Action,
        route_action::ClusterSpecifier,
    },
};
use heddle_resource::{ObjectRef, istio::ConnectionPoolSettings};
use heddle_xds::{ClientKind, ResourceType};

use super::{
    build::{boolean, duration, host_address, pipe_address, socket_address, uint},
    cluster::{BLACK_HOLE, PASSTHROUGH, inbound_name},
    cx::Cx,
    hcm::{self, Routes, Side},
    route, tcp, termination,
    unit::{Resources, Unit, Value},
};
use crate::{
    finding::{Finding, code},
    scope::{Inbound, Interception},
    world::{Protocol, Target},
};

/// Where Istio's sidecars take captured inbound connections.
const CAPTURE_PORT: u16 = 15006;

/// The ports on which the workload serves, with their protocols: what its Sidecar says, else by the
/// services that select it.
fn served(cx: &Cx<'_>) -> Vec<(u16, Protocol)> {
    let mut found: Vec<(u16, Protocol)> = Vec::new();
    let ingress = &cx.policy().ingress;
    if !ingress.is_empty() {
        found.extend(ingress.iter().map(|ingress| (ingress.port, ingress.protocol)));
        return found;
    }
    let named = cx.label("heddle.dev/service");
    for service in cx.services_in(cx.namespace()) {
        let selects = named == Some(&*service.name) || cx.selected_by(&service.selector);
        if !selects {
            continue;
        }
        for port in service.tcp_ports() {
            let number = match &port.target {
                Target::Number(number) => *number,
                // A named port needs the workload's own list, which only its metadata would tell.
                Target::Name(_) => port.number,
            };
            if !found.iter().any(|(known, _)| *known == number) {
                found.push((number, port.protocol));
            }
        }
    }
    found
}

/// What a workload that serves on a port speaks; found out where nothing says.
pub(super) fn protocol(cx: &Cx<'_>, port: u16) -> Protocol {
    served(cx).into_iter().find(|(number, _)| *number == port).map_or(Protocol::Detect, |(_, p)| p)
}

/// Limits and times of the connections to the workload, as its Sidecar says.
pub(super) fn pool(cx: &Cx<'_>, port: u16) -> Option<ConnectionPoolSettings> {
    let policy = cx.policy();
    let declared = policy.ingress.iter().find(|ingress| ingress.port == port);
    declared.and_then(|ingress| ingress.pool.clone()).or_else(|| policy.pool.clone())
}

/// Where the workload takes a port's connections: itself, or as its Sidecar says.
pub(super) fn workload_address(cx: &Cx<'_>, port: u16) -> Address {
    let policy = cx.policy();
    let declared = policy.ingress.iter().find(|ingress| ingress.port == port);
    match declared.and_then(|ingress| ingress.endpoint.as_deref()) {
        Some(endpoint) => match endpoint.strip_prefix("unix://") {
            Some(path) => pipe_address(path),
            None => {
                let own: Option<SocketAddr> = endpoint.parse().ok();
                let host = if own.is_some_and(|own| own.is_ipv6()) { "::1" } else { "127.0.0.1" };
                host_address(host, own.map_or(port, |own| own.port()))
            }
        },
        None => host_address("127.0.0.1", port),
    }
}

/// The port behind an inbound address: as told, else the workload's only one.
fn port_of(cx: &Cx<'_>, inbound: &Inbound) -> Option<u16> {
    inbound.port.or_else(|| match served(cx).as_slice() {
        [(number, _)] => Some(*number),
        _ => None,
    })
}

/// Which units take inbound connections.
pub(super) fn units(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    let explicit = cx.scope_inbound();
    for (place, inbound) in explicit.iter().enumerate() {
        if let Some(port) = port_of(cx, inbound) {
            units.push(Unit::InboundListener(place));
            units.push(Unit::InboundCluster(port));
        }
    }
    if explicit.is_empty() && cx.interception() != Interception::None {
        units.push(Unit::CaptureInbound);
        units.extend(served(cx).into_iter().map(|(port, _)| Unit::InboundCluster(port)));
    }
    units.sort();
    units.dedup();
    units
}

/// `inbound_PORT`.
pub(super) fn listener(cx: &Cx<'_>, place: usize) -> Value {
    let Some(inbound) = cx.scope_inbound().get(place) else { return Value::none() };
    let Some(port) = port_of(cx, inbound) else { return Value::none() };
    let base = match cx.scope_inbound().iter().take(place).any(|other| port_of(cx, other) == Some(port)) {
        false => format!("inbound_{port}"),
        true => format!("inbound_{port}_{place}"),
    };
    let name = cx.name(base);
    let mut listener = Listener {
        name: name.clone(),
        address: Some(socket_address(inbound.address)),
        traffic_direction: TrafficDirection::Inbound as i32,
        ..Default::default()
    };
    let protocol = protocol(cx, port);
    let mut resources = Resources::default();
    for chain in chains(cx, port, protocol, None, &mut resources.units) {
        if chain.filter_chain_match.is_some() {
            listener.filter_chains.push(chain);
        } else if protocol == Protocol::Detect {
            listener.default_filter_chain = Some(chain);
        } else {
            listener.filter_chains.push(chain);
        }
    }
    if protocol == Protocol::Detect {
        detecting(&mut listener);
    }
    resources.encoded.push(cx.encode(ResourceType::Listener, &name, &listener));
    resources.into()
}

fn detecting(listener: &mut Listener) {
    listener.listener_filters.push(hcm::http_inspector());
    listener.listener_filters_timeout = Some(duration(Duration::ZERO));
    listener.continue_on_listener_filters_timeout = true;
}

/// `virtualInbound`: captured connections, by the port they were on their way to.
pub(super) fn capture(cx: &Cx<'_>) -> Value {
    let name = cx.name("virtualInbound");
    let mut listener = Listener {
        name: name.clone(),
        address: Some(host_address("0.0.0.0", CAPTURE_PORT)),
        additional_addresses: both_families(cx),
        traffic_direction: TrafficDirection::Inbound as i32,
        transparent: (cx.interception() == Interception::Tproxy).then_some(true).and_then(boolean),
        listener_filters: vec![hcm::original_dst()],
        default_filter_chain: Some(hcm::chain(
            "virtualInbound-catchall",
            None,
            tcp::proxy_filter(cx, PASSTHROUGH, vec![(cx.name(PASSTHROUGH), 1)]),
        )),
        ..Default::default()
    };
    let mut resources = Resources::default();
    let mut detect = false;
    for (port, protocol) in served(cx) {
        detect |= protocol == Protocol::Detect;
        let chains = chains(cx, port, protocol, uint(u32::from(port)), &mut resources.units);
        listener.filter_chains.extend(chains);
    }
    if detect {
        detecting(&mut listener);
    }
    resources.encoded.push(cx.encode(ResourceType::Listener, &name, &listener));
    resources.into()
}

/// IPv6 beside IPv4. Another proxy would refuse the listener on a machine that has none.
fn both_families(cx: &Cx<'_>) -> Vec<AdditionalAddress> {
    let address = (cx.client() == ClientKind::Heddle).then(|| host_address("::", CAPTURE_PORT));
    address
        .map(|address| AdditionalAddress { address: Some(address), ..Default::default() })
        .into_iter()
        .collect()
}

/// The chains for one port: HTTP, TCP, or both with the choice by the first bytes.
fn chains(
    cx: &Cx<'_>,
    port: u16,
    protocol: Protocol,
    destination_port: Option<envoy_types::pb::google::protobuf::UInt32Value>,
    units: &mut Vec<Unit>,
) -> Vec<FilterChain> {
    let matched = |http: bool| {
        let base = if http { hcm::plain_http() } else { FilterChainMatch::default() };
        let found = FilterChainMatch { destination_port, ..base };
        (found != FilterChainMatch::default()).then_some(found)
    };
    let tls = ingress_tls(cx, port, protocol, units);
    let denied = tls == Some(None);
    let cluster = cx.name(if denied { BLACK_HOLE.to_owned() } else { inbound_name(port) });
    let http = |matched| {
        let manager = hcm::connection_manager(
            cx,
            Side::Inbound,
            &format!("inbound_0.0.0.0_{port}"),
            Routes::Inline(Box::new(routes(port, &cluster))),
        );
        let manager = hcm::speaking(protocol, manager);
        hcm::chain(&format!("inbound_{port}_http"), matched, hcm::http_connection_filter(&manager))
    };
    let tcp = |matched| {
        let filter = tcp::proxy_filter(cx, &cluster, vec![(cluster.clone(), 1)]);
        hcm::chain(&format!("inbound_{port}_tcp"), matched, filter)
    };
    if let Some(Some(socket)) = tls {
        // One chain for all: what is no TLS fails its handshake.
        let chain = if protocol.is_http() { http(matched(false)) } else { tcp(matched(false)) };
        return vec![FilterChain { transport_socket: Some(socket), ..chain }];
    }
    match protocol {
        _ if denied => vec![tcp(matched(false))],
        Protocol::Detect => {
            // Criteria are looked at one after the other and never again: a chain beside that of HTTP has to say what that
            // one says of the transport, or what is no HTTP finds no chain of its port.
            let clear = matched(false).map(|found| FilterChainMatch {
                transport_protocol: hcm::plain_http().transport_protocol,
                ..found
            });
            vec![http(matched(true)), tcp(clear)]
        }
        protocol if protocol.is_http() => vec![http(matched(false))],
        _ => vec![tcp(matched(false))],
    }
}

/// The TLS that a port's ingress listener asks for; `Some(None)` where it cannot be had, which is told.
fn ingress_tls(
    cx: &Cx<'_>,
    port: u16,
    protocol: Protocol,
    units: &mut Vec<Unit>,
) -> Option<Option<TransportSocket>> {
    let policy = cx.policy();
    let (n, ingress) = policy.ingress.iter().enumerate().find(|(_, ingress)| ingress.port == port)?;
    let (settings, key) = (ingress.tls.as_ref()?, policy.sidecar.as_ref()?);
    let at = |field: &str| ObjectRef { key: key.clone(), field: format!("spec.ingress[{n}]{field}").into() };
    let secrets = !settings.credential_name.is_empty() || !settings.ca_cert_credential_name.is_empty();
    if secrets && !policy.selects {
        let message = "Secrets go to the workloads that a workloadSelector of the Sidecar selects: connections are closed";
        cx.report(Finding::new(code::DENIED, at(".tls.credentialName"), message));
        return Some(None);
    }
    let alpn: &[&str] = match protocol {
        Protocol::Http2 | Protocol::Grpc => &["h2"],
        protocol if protocol.is_http() => &["h2", "http/1.1"],
        _ => &[],
    };
    Some(termination::socket(cx, &at, settings, alpn, units))
}

/// Everything to the workload; retried only where it has not seen the request.
fn routes(port: u16, cluster: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: cluster.to_owned(),
        validate_clusters: boolean(false),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{port}"),
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                name: "default".to_owned(),
                r#match: Some(route::everything()),
                action: Some(Action::Route(RouteAction {
                    cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
                    retry_policy: Some(RetryPolicy {
                        retry_on: "reset-before-request".to_owned(),
                        num_retries: uint(2),
                        ..Default::default()
                    }),
                    ..route::no_timeout()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[cfg(test)]
#[path = "inbound_test.rs"]
mod inbound_test;
