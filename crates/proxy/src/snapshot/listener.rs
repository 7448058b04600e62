//! Listeners and filter chains (`config.listener.v3`).

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{AccessLog, Address, DownstreamTls, HttpConnectionManager, Name, Provenance};

/// A compiled listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name.
    pub name: Name,
    /// Addresses, the main one first; empty for an API listener.
    pub addresses: SmallVec<[Address; 1]>,
    /// Modes of the files of Unix sockets among them, where one is given (`pipe.mode`); else the process' umask decides.
    pub modes: Box<[(Address, u32)]>,
    /// `bind_to_port`, default true; false means reached through `use_original_dst` of another.
    pub bind_to_port: bool,
    /// `use_original_dst`: hand the connection to the listener of its original destination.
    pub use_original_dst: bool,
    /// Listener filters.
    pub inspect: Inspect,
    /// `listener_filters_timeout`, default 15 s; `None` waits for ever.
    pub inspect_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`.
    pub continue_on_timeout: bool,
    /// Filter chains in order.
    pub chains: Box<[Arc<FilterChain>]>,
    /// Used when no chain matches.
    pub default_chain: Option<Arc<FilterChain>>,
    /// `transparent` (TPROXY).
    pub transparent: bool,
    /// `freebind`.
    pub freebind: bool,
    /// `traffic_direction`.
    pub direction: Direction,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub buffer_limit: u32,
    /// `tcp_backlog_size`.
    pub backlog: Option<u32>,
    /// Of everything but the filter chains and where it came from: connections live on while it stays the same.
    pub fingerprint: u64,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

impl Listener {
    /// What a connection is served by: the same under two versions of a listener when nothing that concerns the
    /// connection differs between them.
    pub(crate) fn ground(&self, chain: &FilterChain) -> u64 {
        self.fingerprint.rotate_left(1) ^ chain.fingerprint
    }

    /// Who may connect to the Unix socket at one of its addresses.
    pub(crate) fn mode(&self, address: Address) -> Option<u32> {
        self.modes.iter().find(|(of, _)| *of == address).map(|(_, mode)| *mode)
    }

    /// Whether a connection that stands on `ground` may live on under this version of its listener (Envoy's in-place
    /// update of filter chains).
    pub(crate) fn keeps(&self, ground: u64) -> bool {
        self.chains.iter().chain(&self.default_chain).any(|chain| self.ground(chain) == ground)
    }
}

/// `traffic_direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// UNSPECIFIED.
    #[default]
    Unspecified,
    /// INBOUND.
    Inbound,
    /// OUTBOUND.
    Outbound,
}

/// What is looked at before a filter chain is chosen (`listener_filters`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspect {
    /// `envoy.filters.listener.original_dst`.
    pub original_dst: bool,
    /// `envoy.filters.listener.tls_inspector`.
    pub tls: Option<TlsInspect>,
    /// `envoy.filters.listener.http_inspector`.
    pub http: bool,
    /// `envoy.filters.listener.proxy_protocol`, or `use_proxy_proto` of the filter chains.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// `envoy.filters.listener.proxy_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// `allow_requests_without_proxy_protocol`.
    pub optional: bool,
    /// Version 1 is not among `disallowed_versions`.
    pub v1: bool,
    /// Version 2 is not among `disallowed_versions`.
    pub v2: bool,
}

/// `envoy.filters.listener.tls_inspector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInspect {
    /// `max_client_hello_size` in bytes, default 16 KiB; the connection of a longer one is closed.
    pub max_hello: u32,
    /// `close_connection_on_client_hello_parsing_errors`: everything but TLS is closed.
    pub only: bool,
}

/// A filter chain: when it applies and what it does.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Name, possibly empty.
    pub name: Box<str>,
    /// When it applies.
    pub matches: ChainMatch,
    /// `transport_socket`: the client's side is TLS.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`, default 15 s: how long the TLS handshake may take.
    pub handshake_timeout: Duration,
    /// What it does with the connection.
    pub filter: NetworkFilter,
    /// Of everything but where it came from: connections live on while their chain stays the same.
    pub fingerprint: u64,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

/// `filter_chain_match`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`.
    pub destinations: Vec<IpNet>,
    /// `server_names`, lowercased: exact, `*.suffix`.
    pub server_names: Vec<Box<str>>,
    /// `transport_protocol`: `raw_buffer`, `tls`; empty matches any.
    pub transport_protocol: Box<str>,
    /// `application_protocols`.
    pub application_protocols: Vec<Box<str>>,
    /// `direct_source_prefix_ranges`.
    pub direct_sources: Vec<IpNet>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub sources: Vec<IpNet>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// `ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// ANY.
    #[default]
    Any,
    /// SAME_IP_OR_LOOPBACK.
    SameIpOrLoopback,
    /// EXTERNAL.
    External,
}

/// What a filter chain does with its connection.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// HTTP connection manager.
    Http(Arc<HttpConnectionManager>),
    /// TCP proxy.
    Tcp(Arc<TcpProxy>),
    /// No filter: the connection is closed.
    Close,
}

/// `tcp_proxy`.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    /// Clusters by weight; one entry for a single cluster.
    pub clusters: SmallVec<[(Name, u32); 1]>,
    /// Sum of the weights.
    pub total_weight: u64,
    /// `idle_timeout`, default 1 h; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`, default 1.
    pub max_connect_attempts: u32,
    /// `max_downstream_connection_duration`.
    pub max_duration: Option<Duration>,
    /// `access_log`: those that are built.
    pub access_log: Arc<[AccessLog]>,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

impl TcpProxy {
    /// The cluster for a roll.
    pub fn cluster(&self, random: u64) -> Option<&Name> {
        if self.clusters.len() <= 1 {
            return self.clusters.first().map(|(name, _)| name);
        }
        let mut left = random % self.total_weight.max(1);
        for (name, weight) in &self.clusters {
            if left < u64::from(*weight) {
                return Some(name);
            }
            left -= u64::from(*weight);
        }
        None
    }
}
