//! `Sidecar`: what a workload's proxy is told of, and what it listens for.

use super::{ConnectionPoolSettings, Destination, Port, ServerTlsSettings, WorkloadSelector};
use crate::schema::described;

described! {
    /// What the proxies of a namespace, or of chosen workloads, receive.
    pub struct Sidecar {
        /// Workloads; absent: the namespace.
        acts "workloadSelector" workload_selector: Option<WorkloadSelector>;
        /// Listeners for traffic to the workload; none: by its services.
        acts "ingress" ingress: Vec<IngressListener>;
        /// What the workload can call; none: everything it can see.
        acts "egress" egress: Vec<EgressListener>;
        /// Traffic to unknown hosts; absent: ALLOW_ANY.
        acts "outboundTrafficPolicy" outbound_traffic_policy: Option<OutboundTrafficPolicy>;
        /// Connections from the proxy to the workload.
        acts "inboundConnectionPool" inbound_connection_pool: Option<ConnectionPoolSettings>;
    }

    /// A listener for traffic to the workload.
    pub struct IngressListener {
        /// Port.
        acts "port" port: Option<Port>, required;
        /// Address; absent: the instance's.
        later "bind" bind: String;
        /// How traffic is captured.
        acts "captureMode" capture_mode: String, later("NONE"), one_of("DEFAULT", "IPTABLES", "NONE");
        /// Where the workload listens: `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT` or
        /// `unix:///path` (`unix://@name`).
        acts "defaultEndpoint" default_endpoint: String;
        /// TLS that is ended here: `SIMPLE` or `MUTUAL`, with files of the proxy's machine, or with `credentialName` where the
        /// Sidecar has a `workloadSelector`. Inside of it is what the port's protocol says; `HTTPS` is HTTP.
        acts "tls" tls: Option<ServerTlsSettings>;
        /// Connections to the workload.
        acts "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
    }

    /// What the workload can call.
    pub struct EgressListener {
        /// Port; absent: every port of the hosts.
        acts "port" port: Option<Port>;
        /// Address; absent: the hosts' addresses.
        later "bind" bind: String;
        /// How traffic is captured.
        acts "captureMode" capture_mode: String, later("NONE"), one_of("DEFAULT", "IPTABLES", "NONE");
        /// Hosts: `NAMESPACE/NAME`, with `*`, `.` and `~` for namespaces and `*` for names.
        acts "hosts" hosts: Vec<String>, required;
    }

    /// Traffic to unknown hosts.
    pub struct OutboundTrafficPolicy {
        /// Whether it is let through.
        acts "mode" mode: OutboundMode;
        /// Where it is sent.
        later "egressProxy" egress_proxy: Option<Destination>;
    }

    /// Whether traffic to unknown hosts is let through.
    pub enum OutboundMode {
        #[default] RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
    }
}
