//! Which units a scope consists of.

use heddle_xds::ClientKind;

use super::{
    cx::Cx,
    gateway, gateway_api, grpc, inbound, outbound,
    unit::{RouteName, Unit, Value},
};
use crate::scope::{Interception, Role};

/// What scopes share, or a whole scope where nothing is shared.
pub(super) fn compile(cx: &Cx<'_>) -> Value {
    units(match (cx.client(), cx.role()) {
        (ClientKind::Grpc, _) => grpc::plan(cx),
        (_, Role::Router) => gateway(cx),
        (_, Role::Sidecar | Role::Node) => sidecar(cx),
    })
}

fn units(mut units: Vec<Unit>) -> Value {
    units.sort();
    units.dedup();
    Value::Units(units.into())
}

fn sidecar(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = vec![Unit::FixedClusters, Unit::Route(RouteName::HttpProxy)];
    units.extend(clusters(cx));
    if cx.interception() != Interception::None {
        units.extend(outbound::captured(cx));
    }
    if cx.client() == ClientKind::Heddle {
        units.push(Unit::Names);
    }
    units
}

/// What is a sidecar's alone: its addresses.
pub(super) fn own(cx: &Cx<'_>) -> Value {
    let mut found = vec![Unit::OutboundListener];
    found.extend(inbound::units(cx));
    units(found)
}

fn gateway(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = vec![Unit::FixedClusters];
    units.extend(gateway::units(cx));
    units.extend(gateway_api::plan(cx));
    units.extend(clusters(cx));
    units
}

/// The clusters of every visible service port.
pub(super) fn clusters(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    for (service, imported) in cx.visible().services() {
        let ports = service.tcp_ports().filter(|port| imported(port.number));
        units.extend(ports.map(|port| Unit::Clusters(service.id(), port.number)));
    }
    units
}
