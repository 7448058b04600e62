//! What a `DestinationRule` says of connections reaches the cluster.

use envoy_types::pb::envoy::{
    config::cluster::v3::circuit_breakers::Thresholds,
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
    },
};
use prost::Message;

use crate::kit::{Seen, sidecar, world};

/// The cluster of a service `web` under this traffic policy.
fn under(policy: &str) -> (Seen, &'static str) {
    let text = format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec: {{host: web, trafficPolicy: {policy}}}
"
    );
    (sidecar(&world(&text), "default"), "outbound|80||web.default.svc.cluster.local")
}

fn thresholds(policy: &str) -> Thresholds {
    let (seen, name) = under(policy);
    seen.cluster(name).circuit_breakers.expect("breakers").thresholds.remove(0)
}

fn options(policy: &str) -> HttpProtocolOptions {
    let (seen, name) = under(policy);
    let any = seen.cluster(name).typed_extension_protocol_options.into_values().next().expect("options");
    HttpProtocolOptions::decode(&*any.value).expect("decodes")
}

#[test]
fn limits_reach_the_breakers() {
    let limits = thresholds(
        "{connectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 4, http2MaxRequests: 5, maxRetries: 6}}}",
    );
    assert_eq!(limits.max_connections.map(|n| n.value), Some(3));
    assert_eq!(limits.max_pending_requests.map(|n| n.value), Some(4));
    assert_eq!(limits.max_requests.map(|n| n.value), Some(5));
    assert_eq!(limits.max_retries.map(|n| n.value), Some(6));
    assert!(limits.retry_budget.is_none(), "a declared limit stands in for the budget");
}

#[test]
fn a_budget_for_retries_reaches_the_breakers() {
    let budget =
        thresholds("{retryBudget: {percent: 35, minRetryConcurrency: 7}}").retry_budget.expect("a budget");
    assert_eq!(budget.budget_percent.map(|p| p.value), Some(35.0));
    assert_eq!(budget.min_retry_concurrency.map(|n| n.value), Some(7));
}

#[test]
fn times_and_counts_of_connections_reach_the_cluster() {
    let policy = "{connectionPool: {tcp: {connectTimeout: 3s, tcpKeepalive: {probes: 2, time: 7s, interval: 5s}}, \
                  http: {maxRequestsPerConnection: 9, idleTimeout: 11s, maxConcurrentStreams: 13, h2UpgradePolicy: UPGRADE}}}";
    let (seen, name) = under(policy);
    let cluster = seen.cluster(name);
    assert_eq!(cluster.connect_timeout.map(|t| t.seconds), Some(3));
    let keepalive = cluster.upstream_connection_options.and_then(|o| o.tcp_keepalive).expect("keep-alive");
    assert_eq!(keepalive.keepalive_probes.map(|n| n.value), Some(2));
    assert_eq!(keepalive.keepalive_time.map(|n| n.value), Some(7));
    assert_eq!(keepalive.keepalive_interval.map(|n| n.value), Some(5));
    let options = options(policy);
    let common = options.common_http_protocol_options.expect("common options");
    assert_eq!(common.max_requests_per_connection.map(|n| n.value), Some(9));
    assert_eq!(common.idle_timeout.map(|t| t.seconds), Some(11));
    let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) = options.upstream_protocol_options
    else {
        panic!("no explicit protocol")
    };
    let Some(ProtocolConfig::Http2ProtocolOptions(http2)) = explicit.protocol_config else {
        panic!("not HTTP/2")
    };
    assert_eq!(http2.max_concurrent_streams.map(|n| n.value), Some(13));
}

#[test]
fn the_clients_protocol_is_asked_for() {
    let same = options("{connectionPool: {http: {useClientProtocol: true}}}").upstream_protocol_options;
    assert!(matches!(same, Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_))), "{same:?}");
}
