//! `DestinationRule`: what holds for traffic to a host after routing.

use std::collections::BTreeMap;

use super::{PortSelector, WorkloadSelector};
use crate::{schema::described, value::Dur};

described! {
    /// Policies for traffic to a host, and its subsets.
    pub struct DestinationRule {
        /// Host in the registry; a short name is completed with the object's namespace.
        acts "host" host: String, required;
        /// For all subsets and ports, unless they say otherwise.
        acts "trafficPolicy" traffic_policy: Option<TrafficPolicy>;
        /// Named parts of the service.
        acts "subsets" subsets: Vec<Subset>;
        /// Namespaces that see this object: `.`, `*` or names; none means all.
        acts "exportTo" export_to: Vec<String>;
        /// Callers for which the rule holds; absent: all that see it.
        acts "workloadSelector" workload_selector: Option<WorkloadSelector>;
    }

    /// Part of a service, by labels of its endpoints.
    pub struct Subset {
        /// Name, to which routes refer.
        acts "name" name: String, required;
        /// Labels that an endpoint must have.
        acts "labels" labels: BTreeMap<String, String>;
        /// Policies that replace those of the rule, setting by setting.
        acts "trafficPolicy" traffic_policy: Option<TrafficPolicy>;
    }

    /// Policies for traffic to a destination.
    pub struct TrafficPolicy {
        /// Choice of an endpoint.
        acts "loadBalancer" load_balancer: Option<LoadBalancerSettings>;
        /// Connections.
        acts "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
        /// Ejection of endpoints that fail.
        acts "outlierDetection" outlier_detection: Option<OutlierDetection>;
        /// TLS to the endpoints.
        acts "tls" tls: Option<ClientTlsSettings>;
        /// Policies of single ports, which replace those of the destination altogether.
        acts "portLevelSettings" port_level_settings: Vec<PortTrafficPolicy>;
        /// Sends TCP through a tunnel.
        later "tunnel" tunnel: Option<TunnelSettings>;
        /// Announces the caller with the PROXY protocol.
        later "proxyProtocol" proxy_protocol: Option<ProxyProtocol>;
        /// Bounds retries by active requests.
        acts "retryBudget" retry_budget: Option<RetryBudget>;
    }

    /// Policies of one port.
    pub struct PortTrafficPolicy {
        /// The port.
        acts "port" port: Option<PortSelector>;
        /// Choice of an endpoint.
        acts "loadBalancer" load_balancer: Option<LoadBalancerSettings>;
        /// Connections.
        acts "connectionPool" connection_pool: Option<ConnectionPoolSettings>;
        /// Ejection of endpoints that fail.
        acts "outlierDetection" outlier_detection: Option<OutlierDetection>;
        /// TLS to the endpoints.
        acts "tls" tls: Option<ClientTlsSettings>;
    }

    /// Bounds retries by active requests.
    pub struct RetryBudget {
        /// Share of active requests that may be retries; absent: 20.
        acts "percent" percent: Option<f64>;
        /// Retries that are always allowed; absent: 3.
        acts "minRetryConcurrency" min_retry_concurrency: Option<u32>;
        /// Time over which requests are counted.
        later "budgetInterval" budget_interval: Option<Dur>;
    }

    /// Choice of an endpoint: `simple` or `consistentHash`.
    pub struct LoadBalancerSettings {
        /// An algorithm without settings.
        acts "simple" simple: Option<SimpleLb>;
        /// By hash of a property of the request.
        later "consistentHash" consistent_hash: Option<ConsistentHash>;
        /// Preference of near endpoints.
        later "localityLbSetting" locality_lb_setting: Option<LocalityLbSetting>;
        /// Deprecated: `warmup.duration`.
        later "warmupDurationSecs" warmup_duration_secs: Option<Dur>;
        /// Little traffic for new endpoints at first.
        later "warmup" warmup: Option<Warmup>;
        /// Preference of the caller's zone by capacity.
        later "zoneAwareLbSetting" zone_aware_lb_setting: Option<ZoneAwareLbSetting>;
    }

    /// Algorithms without settings.
    pub enum SimpleLb {
        #[default] Unspecified = "UNSPECIFIED",
        LeastConn = "LEAST_CONN",
        Random = "RANDOM",
        Passthrough = "PASSTHROUGH",
        RoundRobin = "ROUND_ROBIN",
        LeastRequest = "LEAST_REQUEST",
    }

    /// Choice by hash.
    pub struct ConsistentHash {
        /// Hash of a header.
        later "httpHeaderName" http_header_name: Option<String>;
        /// Hash of a cookie, made where absent.
        later "httpCookie" http_cookie: Option<HttpCookie>;
        /// Hash of the caller's address.
        later "useSourceIp" use_source_ip: Option<bool>;
        /// Hash of a query parameter.
        later "httpQueryParameterName" http_query_parameter_name: Option<String>;
        /// Ketama ring.
        later "ringHash" ring_hash: Option<RingHash>;
        /// Maglev table.
        later "maglev" maglev: Option<Maglev>;
        /// Deprecated: `ringHash.minimumRingSize`.
        later "minimumRingSize" minimum_ring_size: Option<u64>;
    }

    /// The cookie that is hashed.
    pub struct HttpCookie {
        /// Name.
        later "name" name: String, required;
        /// Path of a cookie made here.
        later "path" path: String;
        /// Lifetime of a cookie made here; 0: the session's.
        later "ttl" ttl: Option<Dur>;
        /// Further attributes of a cookie made here.
        later "attributes" attributes: Vec<CookieAttribute>;
    }

    /// Ketama ring.
    pub struct RingHash {
        /// Least number of entries; absent: 1024.
        later "minimumRingSize" minimum_ring_size: u64;
    }

    /// Maglev table.
    pub struct Maglev {
        /// A prime number; absent: 65537.
        later "tableSize" table_size: u64;
    }

    /// Connections to a destination.
    pub struct ConnectionPoolSettings {
        /// Of every kind.
        acts "tcp" tcp: Option<TcpSettings>;
        /// Of HTTP.
        acts "http" http: Option<HttpSettings>;
    }

    /// Settings of TCP connections.
    pub struct TcpSettings {
        /// Most connections of one proxy; each of its workers may hold one to each endpoint all the same. HTTP requests
        /// beyond wait, TCP connections beyond are closed. Absent: no limit.
        acts "maxConnections" max_connections: Option<i32>;
        /// Time to connect; absent: 5 s.
        acts "connectTimeout" connect_timeout: Option<Dur>;
        /// TCP keep-alive.
        acts "tcpKeepalive" tcp_keepalive: Option<TcpKeepalive>;
        /// Longest life of a connection.
        acts "maxConnectionDuration" max_connection_duration: Option<Dur>;
        /// Idle time after which a connection is closed; absent: 1 h.
        acts "idleTimeout" idle_timeout: Option<Dur>;
    }

    /// TCP keep-alive.
    pub struct TcpKeepalive {
        /// Probes without answer before the connection is given up.
        acts "probes" probes: Option<u32>;
        /// Idle time before the first probe.
        acts "time" time: Option<Dur>;
        /// Time between probes.
        acts "interval" interval: Option<Dur>;
    }

    /// Settings of HTTP connections.
    pub struct HttpSettings {
        /// Most requests that wait for a connection, HTTP/2 included; absent: no limit.
        acts "http1MaxPendingRequests" http1_max_pending_requests: Option<i32>;
        /// Most active requests, HTTP/1.1 included; absent: no limit.
        acts "http2MaxRequests" http2_max_requests: Option<i32>;
        /// Requests per connection; 0: no limit.
        acts "maxRequestsPerConnection" max_requests_per_connection: Option<i32>;
        /// Most retries at a time.
        acts "maxRetries" max_retries: Option<i32>;
        /// Idle time after which a connection is closed; absent: 1 h.
        acts "idleTimeout" idle_timeout: Option<Dur>;
        /// Whether HTTP/1.1 requests go upstream as HTTP/2.
        acts "h2UpgradePolicy" h2_upgrade_policy: Option<H2UpgradePolicy>;
        /// Speak upstream what the caller speaks.
        acts "useClientProtocol" use_client_protocol: Option<bool>;
        /// Most streams on an HTTP/2 connection.
        acts "maxConcurrentStreams" max_concurrent_streams: Option<i32>;
        /// HTTP/2 PING.
        acts "http2KeepAlive" http2_keep_alive: Option<Http2KeepAlive>;
    }

    /// Whether HTTP/1.1 requests go upstream as HTTP/2.
    pub enum H2UpgradePolicy {
        #[default] Default = "DEFAULT",
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }

    /// Ejection of endpoints that fail.
    pub struct OutlierDetection {
        /// Deprecated: `consecutiveGatewayErrors`.
        acts "consecutiveErrors" consecutive_errors: Option<i32>;
        /// Count local failures (connect, reset) apart from answers.
        acts "splitExternalLocalOriginErrors" split_external_local_origin_errors: bool;
        /// Local failures in a row; absent: 5.
        acts "consecutiveLocalOriginFailures" consecutive_local_origin_failures: Option<u32>;
        /// 502, 503, 504 in a row; absent or 0: off.
        acts "consecutiveGatewayErrors" consecutive_gateway_errors: Option<u32>;
        /// 5xx in a row; absent: 5, 0: off.
        acts "consecutive5xxErrors" consecutive_5xx_errors: Option<u32>;
        /// Time between sweeps; absent: 10 s.
        acts "interval" interval: Option<Dur>;
        /// First time of ejection; absent: 30 s.
        acts "baseEjectionTime" base_ejection_time: Option<Dur>;
        /// Most endpoints ejected, in per cent; absent: 10.
        acts "maxEjectionPercent" max_ejection_percent: Option<i32>;
        /// Off while fewer than this many per cent are healthy.
        later "minHealthPercent" min_health_percent: Option<i32>;
        /// Status codes that count as failures.
        later "outlierDetectionHttpErrorCodes" outlier_detection_http_error_codes: Vec<u32>;
    }

    /// TLS to the endpoints.
    pub struct ClientTlsSettings {
        /// How the connection is protected.
        acts "mode" mode: TlsMode, denies("ISTIO_MUTUAL");
        /// File of the client's certificate, for `MUTUAL`.
        acts "clientCertificate" client_certificate: String;
        /// File of its key, for `MUTUAL`.
        acts "privateKey" private_key: String;
        /// File of the authorities that are trusted; absent: those of the proxy's machine.
        acts "caCertificates" ca_certificates: String;
        /// Secret with the client's certificate (`MUTUAL`) and the authorities (`NAME-cacert`, or in it), in the proxy's
        /// namespace. For gateways, and for sidecars that the rule's workloadSelector selects.
        acts "credentialName" credential_name: String;
        /// Names of which the server's certificate holds one; none: the server name that is asked for.
        acts "subjectAltNames" subject_alt_names: Vec<String>;
        /// Server name that is asked for; absent: the host.
        acts "sni" sni: String;
        /// Do not verify the server.
        acts "insecureSkipVerify" insecure_skip_verify: Option<bool>;
        /// File of revoked certificates.
        acts "caCrl" ca_crl: String;
    }

    /// How a connection to an endpoint is protected.
    pub enum TlsMode {
        #[default] Disable = "DISABLE",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        IstioMutual = "ISTIO_MUTUAL",
    }

    /// Further attributes of a cookie made here: `SameSite=Lax` and the like.
    pub struct CookieAttribute {
        /// Name.
        later "name" name: String, required;
        /// Value.
        later "value" value: String;
    }

    /// Preference of near endpoints.
    pub struct LocalityLbSetting {
        /// Shares of localities.
        later "distribute" distribute: Vec<LocalityDistribute>;
        /// Where traffic goes when a region fails.
        later "failover" failover: Vec<LocalityFailover>;
        /// Labels that order endpoints.
        later "failoverPriority" failover_priority: Vec<String>;
        /// Whether it is on.
        later "enabled" enabled: Option<bool>;
    }

    /// Shares of localities for the callers of one.
    pub struct LocalityDistribute {
        /// The caller's locality, `region/zone/subzone`, `*` allowed.
        later "from" from: String;
        /// Locality to per cent; the sum is 100.
        later "to" to: BTreeMap<String, u32>;
    }

    /// From a region to another.
    pub struct LocalityFailover {
        /// Region that failed.
        later "from" from: String;
        /// Region that takes over.
        later "to" to: String;
    }

    /// Preference of the caller's zone by capacity.
    pub struct ZoneAwareLbSetting {
        /// Whether it is on.
        later "enabled" enabled: Option<bool>;
        /// Least number of endpoints from which it acts.
        later "minClusterSize" min_cluster_size: Option<u32>;
        /// Where traffic goes when a region fails.
        later "failover" failover: Vec<LocalityFailover>;
        /// Labels that order endpoints.
        later "failoverPriority" failover_priority: Vec<String>;
    }

    /// Little traffic for new endpoints at first.
    pub struct Warmup {
        /// How long.
        later "duration" duration: Option<Dur>, required;
        /// Share at the beginning, in per cent; absent: 10.
        later "minimumPercent" minimum_percent: Option<f64>;
        /// Curvature; absent: 1, a straight line.
        later "aggression" aggression: Option<f64>;
    }

    /// HTTP/2 PING.
    pub struct Http2KeepAlive {
        /// Time between pings.
        acts "interval" interval: Option<Dur>;
        /// Time to wait for the answer.
        acts "timeout" timeout: Option<Dur>;
    }

    /// Sends TCP through a tunnel.
    pub struct TunnelSettings {
        /// `CONNECT` or `POST`.
        later "protocol" protocol: String;
        /// Host behind the tunnel.
        later "targetHost" target_host: String, required;
        /// Port behind the tunnel.
        later "targetPort" target_port: u32, required;
    }

    /// Announces the caller with the PROXY protocol.
    pub struct ProxyProtocol {
        /// Version.
        later "version" version: String, one_of("V1", "V2");
    }
}
