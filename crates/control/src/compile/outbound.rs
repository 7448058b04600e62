//! Listeners for connections from the workload.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use envoy_types::pb::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{
        AdditionalAddress, FilterChain, FilterChainMatch, Listener, filter_chain_match::ConnectionSourceType,
    },
};
use heddle_xds::ResourceType;

use super::{
    build::{boolean, duration, host_address, socket_address, uint},
    cluster::{BLACK_HOLE, PASSTHROUGH},
    cx::Cx,
    gateway_api,
    hcm::{self, Routes, Side},
    rds, tcp,
    unit::{RouteName, Value},
};
use crate::{
    scope::Interception,
    world::{Protocol, ServiceId},
};

/// `virtualOutbound`: captured connections are handed to the listener of their destination; the others
/// are plain HTTP for `http_proxy`.
pub(super) fn listener(cx: &Cx<'_>) -> Value {
    let (address, others) = cx.scope_outbound().outbound_addresses();
    let proxy = hcm::with_connect(hcm::connection_manager(
        cx,
        Side::Outbound,
        "http_proxy",
        Routes::Named(cx.name(RouteName::HttpProxy.text())),
    ));
    // Who captures listens wherever connections come from: what is dialled must still come from this machine.
    let captures = cx.interception() != Interception::None && !address.ip().is_loopback();
    let uncaptured = FilterChainMatch {
        destination_port: uint(u32::from(address.port())),
        source_type: if captures { ConnectionSourceType::SameIpOrLoopback } else { ConnectionSourceType::Any }
            as i32,
        ..Default::default()
    };
    let name = cx.name("virtualOutbound");
    let listener = Listener {
        name: name.clone(),
        address: Some(socket_address(address)),
        additional_addresses: others
            .map(|address| AdditionalAddress { address: Some(socket_address(address)), ..Default::default() })
            .collect(),
        traffic_direction: TrafficDirection::Outbound as i32,
        use_original_dst: boolean(true),
        transparent: (cx.interception() == Interception::Tproxy).then_some(true).and_then(boolean),
        listener_filters: vec![hcm::original_dst()],
        filter_chains: vec![hcm::chain("http_proxy", Some(uncaptured), hcm::http_connection_filter(&proxy))],
        default_filter_chain: Some(unknown(cx)),
        ..Default::default()
    };
    cx.encode(ResourceType::Listener, &name, &listener).into()
}

/// What becomes of connections to addresses that the mesh does not know.
fn unknown(cx: &Cx<'_>) -> FilterChain {
    let cluster = if cx.policy().allow_any { PASSTHROUGH } else { BLACK_HOLE };
    let name =
        if cluster == PASSTHROUGH { "virtualOutbound-catchall-tcp" } else { "virtualOutbound-blackhole" };
    hcm::chain(name, None, tcp::proxy_filter(cx, cluster, vec![(cx.name(cluster), 1)]))
}

/// A listener that gets its connections from `virtualOutbound`.
fn behind(name: String, address: &str, port: u16) -> Listener {
    Listener {
        name,
        address: Some(host_address(address, port)),
        traffic_direction: TrafficDirection::Outbound as i32,
        bind_to_port: boolean(false),
        listener_filters_timeout: Some(duration(Duration::ZERO)),
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

/// `0.0.0.0_PORT`: everything to a port that speaks HTTP somewhere and goes to no address of a service
/// that speaks something else there.
///
/// Its services share a connection manager: where some are of gRPC-Web (`web`), their virtual hosts switch its filter on, and
/// the others take what comes as it is.
pub(super) fn http_listener(cx: &Cx<'_>, port: u16, web: bool) -> Value {
    let name = cx.name(format!("0.0.0.0_{port}"));
    let manager = hcm::connection_manager(
        cx,
        Side::Outbound,
        &format!("outbound_0.0.0.0_{port}"),
        Routes::Named(cx.name(RouteName::Port(port).text())),
    );
    let manager = if web { hcm::speaking_where_told(manager) } else { manager };
    let mut listener = behind(name.clone(), "0.0.0.0", port);
    listener.additional_addresses =
        vec![AdditionalAddress { address: Some(host_address("::", port)), ..Default::default() }];
    listener.listener_filters = vec![hcm::tls_inspector(), hcm::http_inspector()];
    listener.filter_chains =
        vec![hcm::chain("http", Some(hcm::plain_http()), hcm::http_connection_filter(&manager))];
    listener.default_filter_chain = Some(unknown(cx));
    cx.encode(ResourceType::Listener, &name, &listener).into()
}

/// `IP_PORT`: a service's port at its own addresses: TCP, TLS by SNI, HTTP, or whatever is found out.
pub(super) fn address_listener(cx: &Cx<'_>, id: &ServiceId, number: u16) -> Value {
    let Some(service) = cx.service(id) else { return Value::none() };
    let Some(port) = service.port(number) else { return Value::none() };
    let mut addresses = cx.addresses(service).into_iter();
    let Some(first) = addresses.next() else { return Value::none() };
    let name = cx.name(format!("{first}_{number}"));
    let mut listener = behind(name.clone(), &first.to_string(), number);
    listener.additional_addresses = addresses
        .map(|ip: IpAddr| AdditionalAddress {
            address: Some(host_address(&ip.to_string(), number)),
            ..Default::default()
        })
        .collect();
    let to = tcp::destinations(cx, service, number);
    let plain =
        hcm::chain("tcp", None, tcp::proxy_filter(cx, &rds::service_cluster(cx, service, number), to));
    let by_name = tcp::tls_chains(cx, service, number);
    if !by_name.is_empty() {
        listener.listener_filters.push(hcm::tls_inspector());
    }
    listener.filter_chains = by_name;
    if port.protocol == Protocol::Detect || port.protocol.is_http() {
        if listener.listener_filters.is_empty() {
            listener.listener_filters.push(hcm::tls_inspector());
        }
        listener.listener_filters.push(hcm::http_inspector());
        let route = RouteName::Service(id.clone(), number);
        let manager = hcm::connection_manager(
            cx,
            Side::Outbound,
            &format!("outbound_{first}_{number}"),
            Routes::Named(cx.name(route.text())),
        );
        let manager = hcm::speaking(port.protocol, manager);
        listener.filter_chains.push(hcm::chain(
            "http",
            Some(hcm::plain_http()),
            hcm::http_connection_filter(&manager),
        ));
    }
    listener.default_filter_chain = Some(if port.protocol.is_http() { unknown(cx) } else { plain });
    cx.encode(ResourceType::Listener, &name, &listener).into()
}

/// Which listeners and routes captured connections of this scope need.
pub(super) fn captured(cx: &Cx<'_>) -> Vec<super::unit::Unit> {
    use super::unit::Unit;
    let mut units = Vec::new();
    /// What some service of a port has.
    #[derive(Default)]
    struct Here {
        gateway_routes: bool,
        web: bool,
    }
    let mut http: BTreeMap<u16, Here> = BTreeMap::new();
    let visible = cx.visible();
    let imported = visible.services().flat_map(|(service, imported)| {
        service.tcp_ports().filter(move |port| imported(port.number)).map(move |port| (service, port))
    });
    let ports: Vec<_> = imported.collect();
    for (service, port) in ports.iter().filter(|(_, port)| port.protocol.is_http()) {
        let here = http.entry(port.number).or_default();
        here.gateway_routes |= gateway_api::has_mesh_routes(cx, service, port.number);
        here.web |= port.protocol == Protocol::GrpcWeb;
    }
    for (service, port) in ports {
        let is_http = port.protocol.is_http();
        // Such routes are for what is sent to a service's address; an Istio rule for what names its host.
        if is_http && !http[&port.number].gateway_routes {
            continue;
        }
        units.push(Unit::AddressListener(service.id(), port.number));
        if is_http || port.protocol == Protocol::Detect {
            units.push(Unit::Route(RouteName::Service(service.id(), port.number)));
        }
    }
    for (port, here) in http {
        units.push(Unit::HttpListener(port, here.web));
        units.push(Unit::Route(RouteName::Port(port)));
    }
    units
}

#[cfg(test)]
#[path = "outbound_test.rs"]
mod outbound_test;
