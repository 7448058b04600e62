//! `ClusterLoadAssignment` to [`EndpointSet`].

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as proto;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::google::protobuf::value::Kind;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::value;
use crate::snapshot::{
    Address, DnsHost, Endpoint, EndpointSet, Health, Locality, Name, SocketCriteria, Workload,
};

judge!(assignment, envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment as "ClusterLoadAssignment",
    acts: [cluster_name, endpoints, policy], listed: [], refused: [named_endpoints]);
judge!(policy, envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy as "ClusterLoadAssignment.Policy",
    acts: [drop_overloads, overprovisioning_factor], listed: [endpoint_stale_after], refused: [weighted_priority_health]);
judge!(locality, envoy_types::pb::envoy::config::endpoint::v3::LocalityLbEndpoints as "LocalityLbEndpoints",
    acts: [locality, lb_endpoints, load_balancing_weight, priority], listed: [metadata, proximity], refused: [lb_config]);
judge!(lb_endpoint, envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint as "LbEndpoint",
    acts: [health_status, metadata, load_balancing_weight, host_identifier], listed: [], refused: []);
judge!(endpoint, envoy_types::pb::envoy::config::endpoint::v3::Endpoint as "Endpoint",
    acts: [address, hostname], listed: [health_check_config, additional_addresses, observability_name], refused: []);

/// An endpoint set received by EDS or standing in a STATIC cluster.
pub(crate) fn endpoint_set(value: &proto::ClusterLoadAssignment, seen: &mut Listed) -> Compiled<EndpointSet> {
    let mut endpoints = Vec::new();
    let (localities, overprovisioning, drop) = walk(value, seen, &mut |lb, at, seen| {
        endpoints.push(lb_endpoint_of(lb, at, seen)?);
        Ok(())
    })?;
    Ok(EndpointSet::new(endpoints, localities, overprovisioning, drop))
}

/// The names of a DNS cluster.
pub(crate) fn dns_hosts(value: &proto::ClusterLoadAssignment, seen: &mut Listed) -> Compiled<Vec<DnsHost>> {
    let mut hosts = Vec::new();
    walk(value, seen, &mut |lb, (locality, _), seen| {
        let (endpoint, weight) = parts(lb, seen)?;
        let address =
            endpoint.address.as_ref().ok_or_else(|| Refusal::new("endpoint.address", "is required"))?;
        let (name, port) = value::named_address(address).map_err(|e| e.within("endpoint.address"))?;
        hosts.push(DnsHost {
            name: name.into(),
            port,
            weight,
            priority: locality.priority,
            locality: locality.clone(),
            socket_match: socket_match(lb.metadata.as_ref())?,
            hostname: (!endpoint.hostname.is_empty()).then(|| endpoint.hostname.as_str().into()),
        });
        Ok(())
    })?;
    Ok(hosts)
}

/// A locality and its position.
type At<'a> = (&'a Locality, u32);

type Visit<'v> = dyn FnMut(&proto::LbEndpoint, At<'_>, &mut Listed) -> Compiled<()> + 'v;

fn walk(
    value: &proto::ClusterLoadAssignment,
    seen: &mut Listed,
    visit: &mut Visit<'_>,
) -> Compiled<(Vec<Locality>, u32, u32)> {
    assignment::judge(value, seen)?;
    let (mut overprovisioning, mut drop) = (140, 0u64);
    if let Some(given) = &value.policy {
        policy::judge(given, seen).map_err(|error| error.within("policy"))?;
        overprovisioning = given.overprovisioning_factor.as_ref().map_or(140, |factor| factor.value.max(1));
        for overload in &given.drop_overloads {
            let share = overload.drop_percentage.as_ref().map(value::fraction).transpose()?;
            drop += u64::from(share.map_or(0, |share| share.0));
        }
    }
    let mut localities = Vec::new();
    for (index, group) in value.endpoints.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("endpoints[{index}]"));
        locality::judge(group, seen).map_err(place)?;
        if group.priority > 128 {
            return Err(place(Refusal::new("priority", format!("{} is more than 128", group.priority))));
        }
        let name = group.locality.clone().unwrap_or_default();
        let here = Locality {
            region: name.region.into(),
            zone: name.zone.into(),
            sub_zone: name.sub_zone.into(),
            weight: group.load_balancing_weight.as_ref().map_or(0, |weight| weight.value),
            priority: group.priority,
        };
        for (position, lb) in group.lb_endpoints.iter().enumerate() {
            visit(lb, (&here, index as u32), seen)
                .map_err(|error| place(error.within(format!("lb_endpoints[{position}]"))))?;
        }
        localities.push(here);
    }
    Ok((localities, overprovisioning, u32::try_from(drop.min(1_000_000)).unwrap_or(1_000_000)))
}

fn parts<'e>(value: &'e proto::LbEndpoint, seen: &mut Listed) -> Compiled<(&'e proto::Endpoint, u32)> {
    lb_endpoint::judge(value, seen)?;
    let endpoint = match value.host_identifier.as_ref() {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => return Err(Refusal::new("endpoint_name", "is not built")),
        None => return Err(Refusal::new("endpoint", "is required")),
    };
    endpoint::judge(endpoint, seen).map_err(|error| error.within("endpoint"))?;
    let weight = value.load_balancing_weight.as_ref().map_or(1, |weight| weight.value.max(1));
    Ok((endpoint, weight))
}

fn lb_endpoint_of(
    value: &proto::LbEndpoint,
    (locality, index): At<'_>,
    seen: &mut Listed,
) -> Compiled<Endpoint> {
    let (endpoint, weight) = parts(value, seen)?;
    let address = endpoint.address.as_ref().ok_or_else(|| Refusal::new("endpoint.address", "is required"))?;
    let address = value::address(address).map_err(|error| error.within("endpoint.address"))?;
    let workload = workload(value.metadata.as_ref());
    Ok(Endpoint {
        id: identity(workload.as_deref(), address),
        address,
        hostname: (!endpoint.hostname.is_empty()).then(|| endpoint.hostname.as_str().into()),
        weight,
        health: health(value.health_status),
        locality: index,
        priority: locality.priority,
        socket_match: socket_match(value.metadata.as_ref())?,
        workload,
    })
}

fn identity(workload: Option<&Workload>, address: Address) -> Name {
    match workload {
        Some(workload) if !workload.uid.is_empty() => Name::new(&format!("{}@{address}", workload.uid)),
        _ => Name::new(&address.to_string()),
    }
}

/// What chooses among `transport_socket_matches`.
fn socket_match(metadata: Option<&core::Metadata>) -> Compiled<Option<Arc<SocketCriteria>>> {
    let given = metadata.and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
    let Some(given) = given else { return Ok(None) };
    let criteria = value::criteria(given);
    Ok(Some(Arc::new(criteria.map_err(|error| error.within("metadata[envoy.transport_socket_match]"))?)))
}

fn health(value: i32) -> Health {
    match core::HealthStatus::try_from(value) {
        Ok(core::HealthStatus::Degraded) => Health::Degraded,
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Timeout) => Health::Unhealthy,
        Ok(core::HealthStatus::Draining) => Health::Draining,
        _ => Health::Healthy,
    }
}

fn workload(metadata: Option<&core::Metadata>) -> Option<Arc<Workload>> {
    let text = |field| value::text_of(value::own_field(metadata, field)).unwrap_or_default().into();
    value::own_field(metadata, "workload").or_else(|| value::own_field(metadata, "uid"))?;
    let labels = match value::own_field(metadata, "labels").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => {
            let mut all: Vec<(Box<str>, Box<str>)> = labels
                .fields
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().into(), value::text_of(Some(value))?.into())))
                .collect();
            all.sort();
            all
        }
        _ => Vec::new(),
    };
    Some(Arc::new(Workload {
        name: text("workload"),
        namespace: text("namespace"),
        uid: text("uid"),
        version: text("version"),
        labels,
    }))
}
