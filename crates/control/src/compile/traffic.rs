//! What a `DestinationRule` says of the traffic to a cluster: breakers, times, balancing, ejection.

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster, OutlierDetection, UpstreamConnectionOptions,
                circuit_breakers::thresholds::RetryBudget,
                cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
            },
            core::v3::TcpKeepalive,
        },
        r#type::v3::Percent,
    },
    google::protobuf::UInt32Value,
};
use heddle_resource::istio::{self, ConnectionPoolSettings, LoadBalancerSettings, SimpleLb, TrafficPolicy};

use super::build::{boolean, duration, uint};

/// Puts a policy into a cluster.
pub(super) fn traffic_policy(policy: &TrafficPolicy, cluster: &mut Cluster) {
    if let Some(pool) = &policy.connection_pool {
        connection_pool(pool, cluster);
    }
    if let Some(balancer) = &policy.load_balancer {
        load_balancer(balancer, cluster);
    }
    if let Some(declared) = &policy.outlier_detection {
        cluster.outlier_detection = Some(outlier_detection(declared));
    }
    if let Some(declared) = &policy.retry_budget
        && let Some(budget) = budget_of(cluster)
    {
        if let Some(percent) = declared.percent {
            budget.budget_percent = Some(Percent { value: percent });
        }
        if let Some(least) = declared.min_retry_concurrency {
            budget.min_retry_concurrency = uint(least);
        }
    }
}

/// As Istio: what is given replaces Envoy's default, 0 switches a check off, success rates are never looked at.
fn outlier_detection(declared: &istio::OutlierDetection) -> OutlierDetection {
    let check =
        |count: Option<u32>| (count.and_then(uint), count.and_then(|n| uint(if n > 0 { 100 } else { 0 })));
    let (consecutive_5xx, enforcing_consecutive_5xx) = check(declared.consecutive_5xx_errors);
    let old = declared.consecutive_errors.and_then(|n| u32::try_from(n).ok());
    let (consecutive_gateway_failure, enforcing_consecutive_gateway_failure) =
        check(declared.consecutive_gateway_errors.or(old));
    let split = declared.split_external_local_origin_errors;
    let (local, enforcing_local) = check(declared.consecutive_local_origin_failures.filter(|_| split));
    let percent = declared.max_ejection_percent.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    OutlierDetection {
        consecutive_5xx,
        enforcing_consecutive_5xx,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        consecutive_local_origin_failure: local,
        enforcing_consecutive_local_origin_failure: enforcing_local,
        split_external_local_origin_errors: split,
        interval: declared.interval.map(|time| duration(time.0)),
        base_ejection_time: declared.base_ejection_time.map(|time| duration(time.0)),
        max_ejection_percent: percent.and_then(uint),
        enforcing_success_rate: uint(0),
        enforcing_local_origin_success_rate: split.then_some(0).and_then(uint),
        always_eject_one_host: boolean(true),
        ..Default::default()
    }
}

/// The cluster's budget for retries; none where a declared limit stands in for it.
fn budget_of(cluster: &mut Cluster) -> Option<&mut RetryBudget> {
    cluster.circuit_breakers.as_mut()?.thresholds.first_mut()?.retry_budget.as_mut()
}

fn connection_pool(pool: &ConnectionPoolSettings, cluster: &mut Cluster) {
    let limit = |declared: Option<i32>| -> Option<UInt32Value> {
        declared.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).and_then(uint)
    };
    let thresholds = cluster.circuit_breakers.as_mut().and_then(|breakers| breakers.thresholds.first_mut());
    let Some(thresholds) = thresholds else { return };
    if let Some(http) = &pool.http {
        if let Some(retries) = limit(http.max_retries) {
            // A declared limit stands in for the budget.
            thresholds.max_retries = Some(retries);
            thresholds.retry_budget = None;
        }
        if let Some(pending) = limit(http.http1_max_pending_requests) {
            thresholds.max_pending_requests = Some(pending);
        }
        if let Some(requests) = limit(http.http2_max_requests) {
            thresholds.max_requests = Some(requests);
        }
    }
    if let Some(tcp) = &pool.tcp {
        if let Some(timeout) = tcp.connect_timeout {
            cluster.connect_timeout = Some(duration(timeout.0));
        }
        if let Some(connections) = limit(tcp.max_connections) {
            thresholds.max_connections = Some(connections);
        }
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let seconds = |time: Option<heddle_resource::value::Dur>| {
                time.and_then(|time| u32::try_from(time.0.as_secs()).ok()).and_then(uint)
            };
            cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
                tcp_keepalive: Some(TcpKeepalive {
                    keepalive_probes: keepalive.probes.and_then(uint),
                    keepalive_time: seconds(keepalive.time),
                    keepalive_interval: seconds(keepalive.interval),
                }),
                ..Default::default()
            });
        }
    }
}

fn load_balancer(balancer: &LoadBalancerSettings, cluster: &mut Cluster) {
    if cluster.lb_policy == LbPolicy::ClusterProvided as i32 {
        return;
    }
    match balancer.simple {
        Some(SimpleLb::RoundRobin) => cluster.lb_policy = LbPolicy::RoundRobin as i32,
        Some(SimpleLb::Random) => cluster.lb_policy = LbPolicy::Random as i32,
        Some(SimpleLb::Passthrough) => {
            cluster.lb_policy = LbPolicy::ClusterProvided as i32;
            cluster.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
            cluster.eds_cluster_config = None;
            cluster.load_assignment = None;
        }
        _ => {}
    }
}
