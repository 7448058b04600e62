//! Endpoint sets: where a cluster's requests can go.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Address, DnsCluster, Name, SocketCriteria};

static NEXT_SET: AtomicU64 = AtomicU64::new(1);

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
    /// All endpoints have the same weight.
    pub uniform: bool,
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
    pub address: Address,
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
    /// Metadata `envoy.transport_socket_match`.
    pub socket_match: Option<Arc<SocketCriteria>>,
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

impl EndpointSet {
    /// A set from its endpoints (each pointing into `localities`), the overprovisioning factor in percent (Envoy's default
    /// is 140), and the share of requests to drop in parts per million.
    pub fn new(
        endpoints: Vec<Endpoint>,
        localities: Vec<Locality>,
        overprovisioning: u32,
        drop_per_million: u32,
    ) -> EndpointSet {
        let count = endpoints.iter().map(|endpoint| endpoint.priority + 1).max().unwrap_or(0);
        let priorities = (0..count).map(|priority| Priority::of(priority, &endpoints, &localities)).collect();
        let uniform = endpoints.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        EndpointSet {
            uniform,
            id: NEXT_SET.fetch_add(1, Ordering::Relaxed),
            endpoints: endpoints.into(),
            localities: localities.into(),
            priorities,
            overprovisioning,
            drop_per_million,
        }
    }
}

impl Priority {
    fn of(priority: u32, endpoints: &[Endpoint], localities: &[Locality]) -> Priority {
        let having = |health: Health, locality: Option<u32>| -> Box<[u32]> {
            (0u32..)
                .zip(endpoints)
                .filter(|(_, e)| e.priority == priority && e.health == health)
                .filter(|(_, e)| locality.is_none_or(|wanted| e.locality == wanted))
                .map(|(index, _)| index)
                .collect()
        };
        let shares =
            (0u32..).zip(localities).filter(|(_, here)| here.priority == priority && here.weight > 0);
        let share = |(locality, here): (u32, &Locality)| {
            let counted = |e: &&Endpoint| e.locality == locality && e.health != Health::Draining;
            LocalityShare {
                locality,
                weight: here.weight,
                healthy: having(Health::Healthy, Some(locality)),
                degraded: having(Health::Degraded, Some(locality)),
                total: endpoints.iter().filter(counted).count() as u32,
            }
        };
        let mut out = Priority {
            healthy: having(Health::Healthy, None),
            degraded: having(Health::Degraded, None),
            unhealthy: having(Health::Unhealthy, None),
            draining: having(Health::Draining, None),
            localities: shares.map(share).collect(),
            total: 0,
        };
        out.total = (out.healthy.len() + out.degraded.len() + out.unhealthy.len()) as u32;
        out
    }
}

impl DnsCluster {
    /// The endpoints for what DNS answered: `answers` gives the addresses of a name, in the order to keep. A name that is an
    /// address stands for itself.
    pub fn endpoints(&self, answers: impl Fn(&str) -> Vec<IpAddr>) -> EndpointSet {
        let (mut endpoints, mut localities): (Vec<Endpoint>, Vec<Locality>) = (Vec::new(), Vec::new());
        for host in &self.hosts {
            let locality = match localities.iter().position(|known| *known == host.locality) {
                Some(at) => at,
                None => {
                    localities.push(host.locality.clone());
                    localities.len() - 1
                }
            };
            let found = host.name.parse().map_or_else(|_| answers(&host.name), |ip| vec![ip]);
            let most = if self.logical { 1 } else { found.len() };
            for ip in found.into_iter().take(most) {
                let address = Address::Ip(SocketAddr::new(ip, host.port));
                endpoints.push(Endpoint {
                    id: Name::new(&address.to_string()),
                    address,
                    hostname: Some(host.hostname.clone().unwrap_or_else(|| host.name.clone())),
                    weight: host.weight,
                    health: Health::Healthy,
                    locality: locality as u32,
                    priority: host.priority,
                    socket_match: host.socket_match.clone(),
                    workload: None,
                });
            }
        }
        EndpointSet::new(endpoints, localities, 140, 0)
    }
}
