//! Clusters: how to reach a set of endpoints (`config.cluster.v3.Cluster`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::conn::proxy_protocol::Version;

use super::{EndpointSet, Name, Provenance, SocketCriteria, SocketMatch, UpstreamTls};

/// A compiled cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name.
    pub name: Name,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// How one is chosen.
    pub balancer: Balancer,
    /// `common_lb_config.healthy_panic_threshold` in percent, default 50 as Envoy; heddle's control plane sends 0.
    pub panic_threshold: u32,
    /// `common_lb_config.locality_weighted_lb_config` is present.
    pub locality_weighted: bool,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// `transport_socket`: endpoints are reached by TLS.
    pub tls: Option<Arc<UpstreamTls>>,
    /// `transport_socket_matches`: the first that holds for an endpoint counts, else `tls`.
    pub socket_matches: Box<[SocketMatch]>,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// Header names keep the case they came with (HTTP/1.1).
    pub preserve_case: bool,
    /// `max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// `common_http_protocol_options.idle_timeout`, default 1 h; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// HTTP/2 settings towards endpoints.
    pub http2: Http2Settings,
    /// Breakers of default and high priority.
    pub breakers: [Breakers; 2],
    /// Outlier detection, when switched on.
    pub outlier: Option<OutlierDetection>,
    /// `preconnect_policy.per_upstream_preconnect_ratio`, above 1 and up to 3: how many connections, or streams of HTTP/2,
    /// there are to be for each request under way. Nothing where none is made ahead.
    pub preconnect: Option<f64>,
    /// `upstream_connection_options.tcp_keepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `upstream_proxy_protocol` transport socket: endpoints are told who the client is.
    pub proxy_protocol: Option<Version>,
    /// `upstream_bind_config.source_address`.
    pub bind: Option<IpAddr>,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub buffer_limit: u32,
    /// Istio metadata or heddle's own: the service this cluster stands for.
    pub provenance: Option<Provenance>,
}

impl Cluster {
    /// How an endpoint of this description is reached.
    pub fn transport(&self, described: Option<&[(Box<str>, Box<str>)]>) -> Option<&Arc<UpstreamTls>> {
        let described = described.unwrap_or_default();
        let holds = |wanted: &SocketMatch| wanted.wanted.iter().all(|pair| described.contains(pair));
        match self.socket_matches.iter().find(|wanted| holds(wanted)) {
            Some(found) => found.tls.as_ref(),
            None => self.tls.as_ref(),
        }
    }

    /// No endpoint is reached by TLS.
    pub fn reached_plainly(&self) -> bool {
        self.tls.is_none() && self.socket_matches.is_empty()
    }

    /// Every context that an endpoint can be reached by.
    pub fn transports(&self) -> impl Iterator<Item = &Arc<UpstreamTls>> {
        self.tls.iter().chain(self.socket_matches.iter().filter_map(|wanted| wanted.tls.as_ref()))
    }
}

/// Where a cluster's endpoints come from (`type`).
#[derive(Clone, Debug)]
pub enum Discovery {
    /// STATIC: part of the cluster.
    Static(Arc<EndpointSet>),
    /// EDS: under this name.
    Eds {
        /// `eds_cluster_config.service_name`, else the cluster's name.
        service_name: Name,
    },
    /// STRICT_DNS or LOGICAL_DNS: names to resolve; see [`super::SnapshotBuilder::set_resolved`].
    Dns(Arc<DnsCluster>),
    /// ORIGINAL_DST: where the connection was going, or where a header says.
    OriginalDst {
        /// `original_dst_lb_config.http_header_name` when `use_http_header`
        /// (default name `x-envoy-original-dst-host`).
        header: Option<Box<str>>,
        /// `original_dst_lb_config.upstream_port_override`.
        port: Option<u16>,
    },
}

/// A cluster whose endpoints are names.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsCluster {
    /// LOGICAL_DNS: one address at a time, the first answer.
    pub logical: bool,
    /// Every name, in order.
    pub hosts: Vec<DnsHost>,
    /// `dns_refresh_rate`, default 5 s; used when `respect_ttl` is false.
    pub refresh: Duration,
    /// `respect_dns_ttl`.
    pub respect_ttl: bool,
    /// `dns_lookup_family`.
    pub family: DnsFamily,
}

/// One name of a DNS cluster with the attributes its addresses inherit.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsHost {
    /// A DNS name, or an address in text.
    pub name: Box<str>,
    /// Port.
    pub port: u16,
    /// Weight of each address.
    pub weight: u32,
    /// Priority.
    pub priority: u32,
    /// Locality: region, zone, sub-zone, weight.
    pub locality: super::Locality,
    /// Metadata `envoy.transport_socket_match`.
    pub socket_match: Option<Arc<SocketCriteria>>,
    /// `Endpoint.hostname`; for automatic host rewriting the DNS name stands in when absent.
    pub hostname: Option<Box<str>>,
}

/// `dns_lookup_family`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// AUTO: IPv6 first, IPv4 if there is none.
    #[default]
    Auto,
    /// V4_ONLY.
    V4,
    /// V6_ONLY.
    V6,
    /// V4_PREFERRED.
    V4Preferred,
    /// ALL.
    All,
}

/// How an endpoint is chosen (`lb_policy`, `load_balancing_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Balancer {
    /// ROUND_ROBIN, by weight where weights differ.
    #[default]
    RoundRobin,
    /// LEAST_REQUEST.
    LeastRequest {
        /// `choice_count`, default 2.
        choices: u32,
        /// `active_request_bias`, default 1.0; used when weights differ.
        bias: f64,
    },
    /// RANDOM, by weight.
    Random,
    /// CLUSTER_PROVIDED: original destination.
    ClusterProvided,
}

/// What is spoken to the endpoints (`typed_extension_protocol_options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// What the client spoke (`use_downstream_protocol_config`).
    Downstream,
    /// What the endpoint prefers, told by ALPN (`auto_config`).
    Auto,
}

/// HTTP/2 settings of one side; absent values mean the implementation's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2Settings {
    /// `max_concurrent_streams`.
    pub max_concurrent_streams: Option<u32>,
    /// `initial_stream_window_size`, bytes.
    pub stream_window: Option<u32>,
    /// `initial_connection_window_size`, bytes.
    pub connection_window: Option<u32>,
    /// `allow_connect`: a client may ask for another protocol by CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `connection_keepalive.interval`.
    pub keepalive_interval: Option<Duration>,
    /// `connection_keepalive.timeout`.
    pub keepalive_timeout: Option<Duration>,
}

/// `circuit_breakers.thresholds` of one priority; absent values mean no limit
/// (Envoy's own default of 1024 is not heddle's: DESIGN 7.5).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breakers {
    /// `max_connections`.
    pub max_connections: Option<u32>,
    /// `max_pending_requests`.
    pub max_pending: Option<u32>,
    /// `max_requests`.
    pub max_requests: Option<u32>,
    /// `max_retries`.
    pub max_retries: Option<u32>,
    /// `retry_budget`: percent of active requests and least concurrency.
    pub retry_budget: Option<(f64, u32)>,
}

/// `outlier_detection` with defaults filled in (DESIGN 7.5).
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// Consecutive 5xx before ejection; 0 is off.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503, 504; 0 is off (the default).
    pub consecutive_gateway: u32,
    /// Sweep interval.
    pub interval: Duration,
    /// Ejection time for the first ejection.
    pub base_ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// Most of the hosts, percent, that may be ejected at once (one always may).
    pub max_ejection_percent: u32,
    /// Count local failures (connect, reset) apart from 5xx.
    pub split_local_errors: bool,
    /// Consecutive local failures; 0 is off.
    pub consecutive_local: u32,
}

/// TCP keepalive, seconds and probes; absent values mean the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes`.
    pub probes: Option<u32>,
    /// `keepalive_time`, seconds.
    pub time: Option<u32>,
    /// `keepalive_interval`, seconds.
    pub interval: Option<u32>,
}
