//! `Sidecar`: what a workload's proxy is told of, and what it listens for.

use super::{ConnectionPoolSettings, Destination, Port, ServerTlsSettings, WorkloadSelector};
use crate::schema::described;

described! {
    pub struct Sidecar {
        acts "workloadSelector" workload_selector: Option<WorkloadSelector>; acts "ingress" ingress: Vec<IngressListener>; acts "egress" egress: Vec<EgressListener>;
        acts "outboundTrafficPolicy" outbound_traffic_policy: Option<OutboundTrafficPolicy>; later "inboundConnectionPool" inbound_connection_pool: Option<ConnectionPoolSettings>;
    }
    pub struct IngressListener {
        acts "port" port: Option<Port>; acts "bind" bind: String; acts "captureMode" capture_mode: String; acts "defaultEndpoint" default_endpoint: String; denies "tls" tls: Option<ServerTlsSettings>; later "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
    }
    pub struct EgressListener { acts "port" port: Option<Port>; acts "bind" bind: String; acts "captureMode" capture_mode: String; acts "hosts" hosts: Vec<String>; }
    pub struct OutboundTrafficPolicy { acts "mode" mode: OutboundMode; later "egressProxy" egress_proxy: Option<Destination>; }
    pub enum OutboundMode { #[default] RegistryOnly = "REGISTRY_ONLY", AllowAny = "ALLOW_ANY" }
}
