//! Endpoint sets: where a cluster's requests can go.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Name;

/// An immutable set of endpoints, ordered as received (`ClusterLoadAssignment`).
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// Unique per build of a set: balancer state is rebuilt when it changes.
    pub id: u64,
    /// Every endpoint.
    pub endpoints: Box<[Endpoint]>,
    /// Localities that endpoints point into.
    pub localities: Box<[Locality]>,
    /// Priorities from 0 up, without gaps.
    pub priorities: Box<[Priority]>,
    /// `policy.overprovisioning_factor` in percent, default 140.
    pub overprovisioning: u32,
    /// Sum of `policy.drop_overloads` in parts per million, default 0.
    pub drop_per_million: u32,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Identity that outlives changes of the set: the workload's UID and the address where known, else the address.
    pub id: Name,
    /// Where to connect.
    pub address: SocketAddr,
    /// `Endpoint.hostname`, used by automatic host rewriting.
    pub hostname: Option<Box<str>>,
    /// `load_balancing_weight`, at least 1, default 1.
    pub weight: u32,
    /// Health as the control plane sees it.
    pub health: Health,
    /// Index into [`EndpointSet::localities`].
    pub locality: u32,
    /// Priority, 0 is the best.
    pub priority: u32,
    /// Who runs there, when the control plane said so.
    pub workload: Option<Arc<Workload>>,
}

/// `core.v3.HealthStatus` reduced to what balancing asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// UNKNOWN and HEALTHY.
    #[default]
    Healthy,
    /// DEGRADED: used when too few are healthy.
    Degraded,
    /// UNHEALTHY and TIMEOUT: used when nothing better exists.
    Unhealthy,
    /// DRAINING: finishes what it has, takes nothing new while others exist.
    Draining,
}

/// A locality of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Region.
    pub region: Box<str>,
    /// Zone.
    pub zone: Box<str>,
    /// Sub-zone.
    pub sub_zone: Box<str>,
    /// `load_balancing_weight` of the locality; 0 when not given.
    pub weight: u32,
    /// Priority it belongs to.
    pub priority: u32,
}

/// The endpoints of one priority, partitioned by health.
#[derive(Clone, Debug, Default)]
pub struct Priority {
    /// Indices of healthy endpoints.
    pub healthy: Box<[u32]>,
    /// Indices of degraded endpoints.
    pub degraded: Box<[u32]>,
    /// Indices of unhealthy endpoints that are not draining.
    pub unhealthy: Box<[u32]>,
    /// Indices of draining endpoints.
    pub draining: Box<[u32]>,
    /// Localities with a weight, used when the cluster is locality weighted.
    pub localities: Box<[LocalityShare]>,
    /// Endpoints that count towards availability (all but draining ones).
    pub total: u32,
}

/// One locality of one priority.
#[derive(Clone, Debug, Default)]
pub struct LocalityShare {
    /// Index into [`EndpointSet::localities`].
    pub locality: u32,
    /// `load_balancing_weight`.
    pub weight: u32,
    /// Healthy members.
    pub healthy: Box<[u32]>,
    /// Degraded members.
    pub degraded: Box<[u32]>,
    /// Members, draining ones left out.
    pub total: u32,
}

/// Who runs at an endpoint (`metadata.filter_metadata["heddle.dev"]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Workload name.
    pub name: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// UID.
    pub uid: Box<str>,
    /// `version` label.
    pub version: Box<str>,
    /// Labels.
    pub labels: Vec<(Box<str>, Box<str>)>,
}
