//! One model of a service, whatever kind of resource declared it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use heddle_resource::Key;

use super::{host::ExportTo, protocol::Protocol};

/// Names a service in the world: host names may repeat across namespaces (ServiceEntry).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServiceId {
    pub host: Arc<str>,
    pub namespace: Arc<str>,
}

/// A service: a host name with ports.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Full name, lower case: `reviews.default.svc.cluster.local`, `api.example.com`, `*.example.com`.
    pub host: Arc<str>,
    pub namespace: Arc<str>,
    /// `metadata.name` of the object.
    pub name: Arc<str>,
    /// The object that declares it.
    pub object: Key,
    /// RFC 3339; empty sorts first.
    pub created: String,
    /// `clusterIP`s, or a ServiceEntry's single addresses.
    pub addresses: Vec<IpAddr>,
    /// A ServiceEntry's address ranges (CIDR).
    pub ranges: Vec<ipnet::IpNet>,
    pub ports: Vec<Port>,
    pub resolution: Resolution,
    /// `clusterIP: None`: every endpoint is dialled by its own address.
    pub headless: bool,
    /// ServiceEntry `location: MESH_EXTERNAL` (its default).
    pub external: bool,
    pub export_to: ExportTo,
    /// Selects pods and WorkloadEntries of the namespace; empty selects none.
    pub selector: BTreeMap<String, String>,
    /// Core Service: has short names.
    pub kubernetes: bool,
}

/// One port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub number: u16,
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// Where endpoints take it, unless the endpoint's own port map says otherwise.
    pub target: Target,
}

/// `targetPort`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Number(u16),
    /// A named container port.
    Name(Arc<str>),
}

/// How a service's endpoints are found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resolution {
    /// The registry's endpoints, by EDS.
    Static,
    /// The proxy resolves the endpoints' names: STRICT_DNS.
    Dns,
    /// LOGICAL_DNS.
    DnsRoundRobin,
    /// `NONE`: where the client was going already.
    Original,
}

impl Service {
    pub fn id(&self) -> ServiceId {
        ServiceId { host: self.host.clone(), namespace: self.namespace.clone() }
    }

    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The ports that TCP carries.
    pub fn tcp_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| port.protocol.is_tcp_based())
    }
}

/// One endpoint of a service.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// An IP address, a host name (resolved by the proxy) or `unix:///PATH`.
    pub address: Arc<str>,
    /// Service port to endpoint port; a service port that is missing is not served here.
    pub ports: Vec<(u16, u16)>,
    pub labels: Arc<BTreeMap<String, String>>,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    pub weight: Option<u32>,
    pub health: Health,
    pub workload: Workload,
}

/// What the registry knows of an endpoint's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    #[default]
    Healthy,
    /// A check says no, or the endpoint is not ready.
    Unhealthy,
    /// About to go: no new requests.
    Draining,
}

/// Who an endpoint is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workload {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub uid: Arc<str>,
    pub service_account: Arc<str>,
    /// DNS host name (`hostname` of an EndpointSlice's endpoint), for headless services' names.
    pub hostname: Arc<str>,
}
