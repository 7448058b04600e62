//! `DestinationRule`: what holds for traffic to a host after routing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{PortSelector, WorkloadSelector};
use crate::{schema::described, value::Dur};

described! {
    pub struct DestinationRule {
        acts "host" host: String; acts "trafficPolicy" traffic_policy: Option<TrafficPolicy>; acts "subsets" subsets: Vec<Subset>;
        acts "exportTo" export_to: Vec<String>; acts "workloadSelector" workload_selector: Option<WorkloadSelector>;
    }
    pub struct Subset { acts "name" name: String; acts "labels" labels: BTreeMap<String, String>; acts "trafficPolicy" traffic_policy: Option<TrafficPolicy>; }
    pub struct TrafficPolicy {
        acts "loadBalancer" load_balancer: Option<LoadBalancerSettings>; acts "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
        later "outlierDetection" outlier_detection: Option<OutlierDetection>; acts "tls" tls: Option<ClientTlsSettings>;
        acts "portLevelSettings" port_level_settings: Vec<PortTrafficPolicy>; later "tunnel" tunnel: Option<Value>; later "proxyProtocol" proxy_protocol: Option<Value>;
        later "retryBudget" retry_budget: Option<RetryBudget>;
    }
    pub struct PortTrafficPolicy {
        acts "port" port: Option<PortSelector>; acts "loadBalancer" load_balancer: Option<LoadBalancerSettings>; acts "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
        later "outlierDetection" outlier_detection: Option<OutlierDetection>; acts "tls" tls: Option<ClientTlsSettings>;
    }
    pub struct RetryBudget { later "percent" percent: Option<f64>; later "minRetryConcurrency" min_retry_concurrency: Option<u32>; }
    pub struct LoadBalancerSettings {
        acts "simple" simple: Option<SimpleLb>; later "consistentHash" consistent_hash: Option<ConsistentHash>; later "localityLbSetting" locality_lb_setting: Option<Value>;
        later "warmupDurationSecs" warmup_duration_secs: Option<Dur>; later "warmup" warmup: Option<Value>;
    }
    pub enum SimpleLb { #[default] Unspecified = "UNSPECIFIED", LeastConn = "LEAST_CONN", Random = "RANDOM", Passthrough = "PASSTHROUGH", RoundRobin = "ROUND_ROBIN", LeastRequest = "LEAST_REQUEST" }
    pub struct ConsistentHash {
        later "httpHeaderName" http_header_name: Option<String>; later "httpCookie" http_cookie: Option<HttpCookie>; later "useSourceIp" use_source_ip: Option<bool>;
        later "httpQueryParameterName" http_query_parameter_name: Option<String>; later "ringHash" ring_hash: Option<RingHash>; later "maglev" maglev: Option<Maglev>; later "minimumRingSize" minimum_ring_size: Option<u64>;
    }
    pub struct HttpCookie { later "name" name: String; later "path" path: String; later "ttl" ttl: Option<Dur>; later "attributes" attributes: Option<Value>; }
    pub struct RingHash { later "minimumRingSize" minimum_ring_size: u64; }
    pub struct Maglev { later "tableSize" table_size: u64; }
    pub struct ConnectionPoolSettings { acts "tcp" tcp: Option<TcpSettings>; acts "http" http: Option<HttpSettings>; }
    pub struct TcpSettings { later "maxConnections" max_connections: Option<i32>; acts "connectTimeout" connect_timeout: Option<Dur>; later "tcpKeepalive" tcp_keepalive: Option<TcpKeepalive>; later "maxConnectionDuration" max_connection_duration: Option<Dur>; later "idleTimeout" idle_timeout: Option<Dur>; }
    pub struct TcpKeepalive { later "probes" probes: Option<u32>; later "time" time: Option<Dur>; later "interval" interval: Option<Dur>; }
    pub struct HttpSettings {
        later "http1MaxPendingRequests" http1_max_pending_requests: Option<i32>; later "http2MaxRequests" http2_max_requests: Option<i32>; acts "maxRequestsPerConnection" max_requests_per_connection: Option<i32>;
        acts "maxRetries" max_retries: Option<i32>; acts "idleTimeout" idle_timeout: Option<Dur>; acts "h2UpgradePolicy" h2_upgrade_policy: Option<H2UpgradePolicy>; acts "useClientProtocol" use_client_protocol: Option<bool>;
        later "maxConcurrentStreams" max_concurrent_streams: Option<i32>;
    }
    pub enum H2UpgradePolicy { #[default] Default = "DEFAULT", DoNotUpgrade = "DO_NOT_UPGRADE", Upgrade = "UPGRADE" }
    pub struct OutlierDetection {
        later "consecutiveErrors" consecutive_errors: Option<i32>; later "splitExternalLocalOriginErrors" split_external_local_origin_errors: bool; later "consecutiveLocalOriginFailures" consecutive_local_origin_failures: Option<u32>;
        later "consecutiveGatewayErrors" consecutive_gateway_errors: Option<u32>; later "consecutive5xxErrors" consecutive_5xx_errors: Option<u32>; later "interval" interval: Option<Dur>;
        later "baseEjectionTime" base_ejection_time: Option<Dur>; later "maxEjectionPercent" max_ejection_percent: Option<i32>; later "minHealthPercent" min_health_percent: Option<i32>;
    }
    pub struct ClientTlsSettings {
        acts "mode" mode: TlsMode; denies "clientCertificate" client_certificate: String; denies "privateKey" private_key: String; denies "caCertificates" ca_certificates: String; denies "credentialName" credential_name: String;
        denies "subjectAltNames" subject_alt_names: Vec<String>; denies "sni" sni: String; denies "insecureSkipVerify" insecure_skip_verify: Option<bool>; denies "caCrl" ca_crl: String;
    }
    pub enum TlsMode { #[default] Disable = "DISABLE", Simple = "SIMPLE", Mutual = "MUTUAL", IstioMutual = "ISTIO_MUTUAL" }
}
