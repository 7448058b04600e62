//! Which units a scope consists of.

use heddle_xds::ClientKind;

use super::{
    cx::Cx,
    gateway, gateway_api, grpc, inbound, outbound,
    unit::{RouteName, Unit, Value},
};
use crate::scope::{Interception, Role};

pub(super) fn compile(cx: &Cx<'_>) -> Value {
    let mut units = match (cx.client(), cx.role()) {
        (ClientKind::Grpc, _) => grpc::plan(cx),
        (_, Role::Router) => gateway(cx),
        (_, Role::Sidecar | Role::Node) => sidecar(cx),
    };
    units.sort();
    units.dedup();
    Value::Units(units.into())
}

fn sidecar(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = vec![Unit::FixedClusters];
    let without_capture = cx.interception() == Interception::None;
    // A proxy that takes no outbound connections needs none of what they would need.
    if !(without_capture && cx.scope_outbound().outbound.is_empty() && !cx.scope_inbound().is_empty()) {
        units.push(Unit::OutboundListener);
        units.push(Unit::Route(RouteName::HttpProxy));
        units.extend(clusters(cx));
        if !without_capture {
            units.extend(outbound::captured(cx));
        }
    }
    units.extend(inbound::units(cx));
    if cx.client() == ClientKind::Heddle {
        units.push(Unit::Names);
    }
    units
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
