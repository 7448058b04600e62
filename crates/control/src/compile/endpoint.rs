//! Endpoint sets.
//!
//! A set does not depend on who asks but for the kind of client, so a change of endpoints is compiled
//! and encoded once for all scopes.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::{
    core::v3::{HealthStatus, Locality},
    endpoint::v3::{ClusterLoadAssignment, Endpoint as Target, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
};
use heddle_resource::ObjectRef;
use heddle_xds::{ClientKind, ResourceType};
use prost::Message;
use serde_json::Value as Json;

use super::{
    build::{host_address, pipe_address, uint},
    canonical::{self, field},
    cluster::outbound_name,
    cx::Cx,
    unit::{EndpointSet, Value},
};
use crate::{
    finding::{Finding, code},
    world::{Endpoint, Health},
};

pub(super) fn compile(cx: &Cx<'_>, set: &EndpointSet) -> Value {
    let subset = set.subset.as_ref().map_or("", |(name, _)| name);
    let name = cx.name(outbound_name(set.port, subset, &set.service.host));
    let ours = cx.client() == ClientKind::Heddle;
    // Written by hand where metadata is in it: see `canonical`.
    let mut bytes =
        ClusterLoadAssignment { cluster_name: name.clone(), ..Default::default() }.encode_to_vec();
    for (locality, mut members) in localities(&cx.endpoints(&set.service), set) {
        let all = members.len();
        members.retain(|(endpoint, _)| usable(cx.client(), &endpoint.address));
        if members.len() < all {
            left_out(cx, set, all - members.len());
        }
        let head = LocalityLbEndpoints {
            locality: Some(locality),
            load_balancing_weight: uint(total_weight(&members)),
            ..Default::default()
        };
        let mut group = head.encode_to_vec();
        for (endpoint, port) in &members {
            let metadata = ours.then(|| metadata(endpoint));
            let one = canonical::with_metadata(&lb_endpoint(endpoint, *port), 3, metadata.as_deref());
            field(&mut group, 2, &one);
        }
        field(&mut bytes, 2, &group);
    }
    cx.encoded(ResourceType::Endpoint, &name, bytes).into()
}

/// Whether a client can use an address in an endpoint set; one that it cannot makes it refuse the whole set.
fn usable(client: ClientKind, address: &str) -> bool {
    // Nobody resolves names here.
    let socket = is_socket(address) && client != ClientKind::Grpc;
    socket || address.parse::<std::net::IpAddr>().is_ok()
}

fn left_out(cx: &Cx<'_>, set: &EndpointSet, count: usize) {
    let Some(service) = cx.service(&set.service) else { return };
    let at = ObjectRef { key: service.object.clone(), field: "spec.endpoints".into() };
    let what = match cx.client() {
        ClientKind::Grpc => "names or unix sockets, which gRPC does not dial",
        _ => "names, which nobody resolves here",
    };
    let message = format!("{count} endpoints are {what}: left out");
    cx.report(Finding::new(code::LEFT_OUT, at, message));
}

fn sockets_left_out(cx: &Cx<'_>, set: &EndpointSet, count: usize) {
    let Some(service) = cx.service(&set.service) else { return };
    let at = ObjectRef { key: service.object.clone(), field: "spec.resolution".into() };
    let message =
        format!("{count} endpoints are unix sockets, which DNS does not find (use STATIC): left out");
    cx.report(Finding::new(code::LEFT_OUT, at, message));
}

/// The same as part of a cluster that resolves names.
pub(super) fn assignment(cx: &Cx<'_>, name: &str, set: &EndpointSet) -> ClusterLoadAssignment {
    let all = cx.endpoints(&set.service);
    let endpoints = localities(&all, set).into_iter().map(|(locality, mut members)| {
        let count = members.len();
        members.retain(|(endpoint, _)| !is_socket(&endpoint.address));
        if members.len() < count {
            sockets_left_out(cx, set, count - members.len());
        }
        LocalityLbEndpoints {
            locality: Some(locality),
            load_balancing_weight: uint(total_weight(&members)),
            lb_endpoints: members.iter().map(|(endpoint, port)| lb_endpoint(endpoint, *port)).collect(),
            ..Default::default()
        }
    });
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: endpoints.collect(),
        ..Default::default()
    }
}

/// The set's members with the port that each serves it on, by locality.
fn localities<'e>(endpoints: &'e [Endpoint], set: &EndpointSet) -> Vec<(Locality, Vec<(&'e Endpoint, u16)>)> {
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for endpoint in endpoints {
        let Some((_, port)) = endpoint.ports.iter().find(|(number, _)| *number == set.port) else { continue };
        let selected = set.subset.as_ref().is_none_or(|(_, labels)| {
            labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))
        });
        if selected {
            groups.entry(&endpoint.locality).or_default().push((endpoint, *port));
        }
    }
    groups.into_iter().map(|(locality, members)| (parse_locality(locality), members)).collect()
}

fn parse_locality(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), sub_zone: next() }
}

fn total_weight(members: &[(&Endpoint, u16)]) -> u32 {
    let sum =
        members.iter().fold(0u32, |sum, (endpoint, _)| sum.saturating_add(endpoint.weight.unwrap_or(1)));
    sum.max(1)
}

fn lb_endpoint(endpoint: &Endpoint, port: u16) -> LbEndpoint {
    let address = match endpoint.address.strip_prefix("unix://") {
        Some(path) => pipe_address(path),
        None => host_address(&endpoint.address, port),
    };
    let by_name = endpoint.address.parse::<std::net::IpAddr>().is_err() && !is_socket(&endpoint.address);
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Unknown,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Draining => HealthStatus::Draining,
    };
    LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: uint(endpoint.weight.unwrap_or(1)),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Target {
            address: Some(address),
            hostname: if by_name { endpoint.address.to_string() } else { String::new() },
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn is_socket(address: &str) -> bool {
    address.starts_with("unix://")
}

/// Who the endpoint is: `workload`, `namespace`, `uid`, `version`, `labels`, `service_account`.
fn metadata(endpoint: &Endpoint) -> Vec<u8> {
    let mut fields: BTreeMap<&str, Json> = BTreeMap::new();
    let workload = &endpoint.workload;
    let texts = [
        ("workload", &workload.name),
        ("namespace", &workload.namespace),
        ("uid", &workload.uid),
        ("service_account", &workload.service_account),
    ];
    for (key, text) in texts {
        if !text.is_empty() {
            fields.insert(key, Json::String(text.to_string()));
        }
    }
    let version = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    if let Some(version) = version.iter().find_map(|key| endpoint.labels.get(*key)) {
        fields.insert("version", Json::String(version.clone()));
    }
    if !endpoint.labels.is_empty() {
        let labels = endpoint.labels.iter().map(|(key, value)| (key.clone(), Json::String(value.clone())));
        fields.insert("labels", Json::Object(labels.collect()));
    }
    canonical::metadata(&fields)
}
