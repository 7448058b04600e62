//! What a data plane is told when it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use serde::{Deserialize, Serialize};
use socket2::Socket;

/// What kind of data plane this is (DESIGN 7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Beside one workload.
    #[default]
    Sidecar,
    /// For all workloads of a machine.
    Node,
    /// Traffic that enters or leaves the mesh.
    Gateway,
}

impl Role {
    /// The first part of a node id.
    pub fn node_type(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Node => "node",
            Self::Gateway => "router",
        }
    }
}

/// How connections reach a sidecar (`INTERCEPTION_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    /// They are dialled to it.
    #[default]
    None,
    /// The kernel redirects them.
    Redirect,
    /// The kernel hands them over with their addresses (TPROXY).
    Tproxy,
}

/// A socket that is on its way; see [`WorkloadNetwork::stream`].
pub type SocketFuture = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

/// UDP and TCP socket of one address at which names are asked for.
pub type NameSockets = (std::net::UdpSocket, std::net::TcpListener);

/// Makes the sockets that face the workload, where that is in a network namespace of its own. All are non-blocking.
pub trait WorkloadNetwork: fmt::Debug + Send + Sync {
    /// Sockets for connections from the workload: so many, bound to one address with `SO_REUSEPORT`, not yet listening.
    ///
    /// # Errors
    /// The system's.
    fn outbound(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Socket>>;

    /// Bound sockets for the workload's questions for names, at an address and at those that stand for it in other
    /// address families; the TCP sockets listen.
    ///
    /// # Errors
    /// The system's.
    fn names(&self, address: SocketAddr) -> io::Result<Vec<NameSockets>>;

    /// A TCP socket, not yet connected, that reaches the workload at an address. Called on workers: it must not block.
    ///
    /// # Errors
    /// The future yields the system's.
    fn stream(&self, to: SocketAddr) -> SocketFuture;
}

/// The settings of one data plane. [`ProxyConfig::default`] holds the documented defaults (DESIGN 7.1).
#[derive(Clone)]
pub struct ProxyConfig {
    /// xDS server, `http://HOST:PORT`.
    pub xds: String,
    /// Role.
    pub role: Role,
    /// Workload name; default: the host's name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account, empty for none.
    pub service_account: String,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// The whole node id, when it is not to be made of role, address, name and namespace.
    pub node_id: Option<String>,
    /// `CLUSTER_ID`.
    pub cluster_id: String,
    /// Domain of the mesh's names.
    pub cluster_domain: String,
    /// Address others reach this workload at.
    pub advertise: Option<IpAddr>,
    /// Outbound listeners: whose workloads each one serves (`NAMESPACE[/KEY=VALUE,...]`; none: this proxy's own), and address.
    /// A node proxy has one for each workload scope that it carries.
    pub outbound: Vec<(Option<String>, SocketAddr)>,
    /// Inbound listeners: application port (none: the only one) and address.
    pub inbound: Vec<(Option<u16>, SocketAddr)>,
    /// Interception mode.
    pub interception: Interception,
    /// `[istio:|k8s:]NAMESPACE/NAME` of the Gateway to serve.
    pub gateway: Option<String>,
    /// Address to serve the Gateway on.
    pub bind: Option<IpAddr>,
    /// DNS.
    pub dns: Option<SocketAddr>,
    /// Admin server.
    pub admin: Option<SocketAddr>,
    /// Workers; default: the CPUs that may be used, at most 2 for a sidecar.
    pub workers: Option<usize>,
    /// Connections of clients at a time; default: half of the open files that this process may have, less 64.
    pub max_connections: Option<usize>,
    /// Bytes of memory to stay below; default: the limit of this process's cgroup, if it has one.
    pub max_memory: Option<u64>,
    /// Gives what the calling thread has freed back to the system, as only the allocator can; asked for while memory is
    /// short. Without it memory that was used once may count as used for ever.
    pub give_back: Option<fn()>,
    /// Where the last good configuration is kept.
    pub data_dir: Option<PathBuf>,
    /// Allows admin and explicit proxy off loopback without TLS.
    pub insecure: bool,
    /// Version of the binary, shown by `/server_info`.
    pub version: String,
    /// How long what is open may go on once the process was told to end, or once its listener is gone or changed; `None`
    /// for ever. Default 45 s (Istio's `drainDuration`).
    pub drain_time: Option<Duration>,
    /// How long what is open may go on once another process has taken over; `None`, the default, for ever.
    pub replaced_drain_time: Option<Duration>,
    /// Take over from the proxy that runs with the same `data_dir`, if there is one.
    pub replace: bool,
    /// Let a later process take over from this one, by a socket in `data_dir`.
    pub replaceable: bool,
    /// Makes the sockets that face the workload, if they are not to be made here.
    pub workload: Option<Arc<dyn WorkloadNetwork>>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            xds: "http://127.0.0.1:15010".to_owned(),
            role: Role::Sidecar,
            name: String::new(),
            namespace: "default".to_owned(),
            service_account: String::new(),
            labels: BTreeMap::new(),
            node_id: None,
            cluster_id: "Kubernetes".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            advertise: None,
            outbound: Vec::new(),
            inbound: Vec::new(),
            interception: Interception::None,
            gateway: None,
            bind: None,
            dns: None,
            admin: None,
            workers: None,
            max_connections: None,
            max_memory: None,
            give_back: None,
            data_dir: None,
            insecure: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            drain_time: Some(heddle_runtime::Drain::DEFAULT),
            replaced_drain_time: None,
            replace: false,
            replaceable: false,
            workload: None,
        }
    }
}

impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("xds", &self.xds)
            .field("role", &self.role)
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// The addresses a data plane really listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Outbound listeners.
    pub outbound: Vec<(Option<String>, SocketAddr)>,
    /// Inbound listeners.
    pub inbound: Vec<(Option<u16>, SocketAddr)>,
    /// Admin server.
    pub admin: Option<SocketAddr>,
    /// DNS.
    pub dns: Option<SocketAddr>,
}

impl ProxyConfig {
    /// Where a successor asks for the sockets of this process.
    pub(crate) fn door(&self) -> Option<PathBuf> {
        Some(self.data_dir.as_ref()?.join(crate::handover::DOOR))
    }

    /// Where this process answers admin requests once it has been replaced.
    pub(crate) fn draining_admin(&self) -> Option<PathBuf> {
        Some(self.data_dir.as_ref()?.join(format!("draining-{}.sock", std::process::id())))
    }

    /// The number of workers.
    pub(crate) fn worker_count(&self) -> usize {
        self.workers
            .unwrap_or_else(|| {
                let cpus = heddle_runtime::available_cpus();
                if self.role == Role::Sidecar { cpus.min(2) } else { cpus }
            })
            .max(1)
    }

    /// `ROLE~IP~NAME.NAMESPACE~NAMESPACE.svc.CLUSTER_DOMAIN`.
    pub(crate) fn id(&self) -> String {
        if let Some(id) = &self.node_id {
            return id.clone();
        }
        let address = self.advertise.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let (namespace, domain) = (&self.namespace, &self.cluster_domain);
        format!("{}~{address}~{}.{namespace}~{namespace}.svc.{domain}", self.role.node_type(), self.name)
    }

    /// The node that is presented to the xDS server.
    pub(crate) fn node(&self, bound: &Bound) -> Node {
        let mut metadata = BTreeMap::from([
            ("NAMESPACE".to_owned(), text(&self.namespace)),
            ("CLUSTER_ID".to_owned(), text(&self.cluster_id)),
            ("NAME".to_owned(), text(&self.name)),
        ]);
        let labels = self.labels.iter().map(|(name, value)| (name.clone(), text(value)));
        let labels = Struct { fields: labels.collect() };
        metadata.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) });
        if !self.service_account.is_empty() {
            metadata.insert("SERVICE_ACCOUNT".to_owned(), text(&self.service_account));
        }
        if !bound.outbound.is_empty() {
            let list = bound.outbound.iter().map(|(of, address)| match of {
                Some(of) => text(&format!("{of}={address}")),
                None => text(&address.to_string()),
            });
            let list = ListValue { values: list.collect() };
            metadata.insert("OUTBOUND".to_owned(), Value { kind: Some(Kind::ListValue(list)) });
        }
        if !bound.inbound.is_empty() {
            let list = bound.inbound.iter().map(|(port, address)| match port {
                Some(port) => text(&format!("{port}={address}")),
                None => text(&address.to_string()),
            });
            let list = ListValue { values: list.collect() };
            metadata.insert("INBOUND".to_owned(), Value { kind: Some(Kind::ListValue(list)) });
        }
        if let Some(gateway) = &self.gateway {
            metadata.insert("GATEWAY".to_owned(), text(gateway));
        }
        if let Some(bind) = self.bind {
            metadata.insert("BIND".to_owned(), text(&bind.to_string()));
        }
        let mode = match self.interception {
            Interception::None => "NONE",
            Interception::Redirect => "REDIRECT",
            Interception::Tproxy => "TPROXY",
        };
        metadata.insert("INTERCEPTION_MODE".to_owned(), text(mode));
        Node {
            id: self.id(),
            cluster: format!("{}.{}", self.name, self.namespace),
            metadata: Some(Struct { fields: metadata.into_iter().collect() }),
            user_agent_name: "heddle".to_owned(),
            user_agent_version_type: Some(
                envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType::UserAgentVersion(
                    self.version.clone(),
                ),
            ),
            ..Node::default()
        }
    }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}
