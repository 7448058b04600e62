//! What a `DestinationRule` says of connections reaches the cluster.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::circuit_breakers::Thresholds,
        core::v3::Address,
        endpoint::v3::lb_endpoint::HostIdentifier,
        listener::v3::{Listener, filter::ConfigType},
    },
    extensions::filters::network::tcp_proxy::v3::TcpProxy,
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
    },
};
use prost::Message;
use serde_json::json;

use crate::{
    compile::build::{host_address, pipe_address},
    kit::{Seen, gateway, sidecar, sidecar_with, world},
};

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
                  http: {maxRequestsPerConnection: 9, idleTimeout: 11s, maxConcurrentStreams: 13, http2KeepAlive: {interval: 15s, timeout: 17s}, h2UpgradePolicy: UPGRADE}}}";
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
    let keepalive = http2.connection_keepalive.expect("PING");
    assert_eq!(
        (keepalive.interval.map(|t| t.seconds), keepalive.timeout.map(|t| t.seconds)),
        (Some(15), Some(17))
    );
}

#[test]
fn the_clients_protocol_is_asked_for() {
    let same = options("{connectionPool: {http: {useClientProtocol: true}}}").upstream_protocol_options;
    assert!(matches!(same, Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_))), "{same:?}");
}

/// A browser speaks HTTP/2 to the gateway and knows nothing of the service.
#[test]
fn what_is_not_declared_is_the_clients_protocol_but_at_gateways() {
    let world = world(
        r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec: {selector: {istio: ingress}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: ['*'], gateways: [front], http: [{route: [{destination: {host: web}}]}]}
",
    );
    let spoken = |seen: &Seen| {
        let options =
            seen.cluster("outbound|80||web.default.svc.cluster.local").typed_extension_protocol_options;
        let any = options.into_values().next().expect("options");
        HttpProtocolOptions::decode(&*any.value)
            .expect("decodes")
            .upstream_protocol_options
            .expect("a protocol")
    };
    let near = spoken(&sidecar(&world, "default"));
    assert!(matches!(near, UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)), "{near:?}");
    let at_gateway = spoken(&gateway(&world, json!({"LABELS": {"istio": "ingress"}})));
    let UpstreamProtocolOptions::ExplicitHttpConfig(explicit) = at_gateway else { panic!("{at_gateway:?}") };
    assert!(matches!(explicit.protocol_config, Some(ProtocolConfig::HttpProtocolOptions(_))), "{explicit:?}");
}

/// What the sidecar of a workload `web` gets under this `Sidecar`.
fn inbound(spec: &str) -> Seen {
    let text = format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: web}}
spec: {spec}
"
    );
    let metadata = json!({"LABELS": {"app": "web"}, "INBOUND": ["8080=127.0.0.1:4000"]});
    sidecar_with(&world(&text), "default", metadata)
}

/// The addresses to which `inbound|8080||` connects.
fn workload(seen: &Seen) -> Vec<Address> {
    let assignment = seen.cluster("inbound|8080||").load_assignment.expect("an assignment");
    let all = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let addresses = all.filter_map(|endpoint| match endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(target)) => target.address,
        _ => None,
    });
    addresses.collect()
}

#[test]
fn a_sidecar_says_where_the_workload_listens() {
    let ingress = |endpoint: &str| {
        inbound(&format!(
            "{{ingress: [{{port: {{number: 8080, protocol: HTTP}}, defaultEndpoint: '{endpoint}'}}]}}"
        ))
    };
    assert_eq!(workload(&ingress("127.0.0.1:9000")), [host_address("127.0.0.1", 9000)]);
    assert_eq!(workload(&ingress("0.0.0.0:9000")), [host_address("127.0.0.1", 9000)]);
    assert_eq!(workload(&ingress("[::1]:9000")), [host_address("::1", 9000)]);
    for path in ["/run/web.sock", "@web"] {
        assert_eq!(workload(&ingress(&format!("unix://{path}"))), [pipe_address(path)]);
    }
}

#[test]
fn a_sidecar_limits_the_connections_to_the_workload() {
    let limit = |seen: &Seen| {
        let breakers = seen.cluster("inbound|8080||").circuit_breakers.expect("breakers");
        breakers.thresholds[0].max_connections.map(|n| n.value)
    };
    assert_eq!(limit(&inbound("{inboundConnectionPool: {tcp: {maxConnections: 3}}}")), Some(3));
    let own = "{inboundConnectionPool: {tcp: {maxConnections: 3}}, ingress: [{port: {number: 8080, protocol: HTTP}, \
               connectionPool: {tcp: {maxConnections: 4}}}]}";
    assert_eq!(limit(&inbound(own)), Some(4));
}

#[test]
fn a_sidecar_selects_by_labels_of_either_spelling() {
    for (selector, holds) in [
        ("labels: {app: web}", true),
        ("labels: {app: other}", false),
        ("matchLabels: {app: web}", true),
        ("matchLabels: {app: other}", false),
    ] {
        let seen = inbound(&format!(
            "{{workloadSelector: {{{selector}}}, inboundConnectionPool: {{tcp: {{maxConnections: 3}}}}}}"
        ));
        let limit =
            seen.cluster("inbound|8080||").circuit_breakers.expect("breakers").thresholds[0].max_connections;
        assert_eq!(limit.map(|n| n.value) == Some(3), holds, "{selector}");
    }
}

#[test]
fn a_destination_rule_selects_callers_by_labels_of_either_spelling() {
    for (selector, holds) in [
        ("labels: {app: caller}", true),
        ("labels: {app: other}", false),
        ("matchLabels: {app: caller}", true),
        ("matchLabels: {app: other}", false),
    ] {
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
spec:
  host: web
  workloadSelector: {{{selector}}}
  trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: 3s}}}}}}
"
        );
        let seen = sidecar_with(&world(&text), "default", json!({"LABELS": {"app": "caller"}}));
        let cluster = seen.cluster("outbound|80||web.default.svc.cluster.local");
        assert_eq!(cluster.connect_timeout.map(|t| t.seconds) == Some(3), holds, "{selector}");
    }
}

#[test]
fn endpoints_that_cannot_be_dialled_leave_the_others() {
    let text = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {matchLabels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one}
spec: {address: 10.0.0.1, labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: two}
spec: {address: 'unix:///run/web.sock', labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: three}
spec: {address: web.other.example, labels: {app: web}}
";
    let seen = sidecar(&world(text), "default");
    assert_eq!(seen.addresses("outbound|80||web.example"), ["10.0.0.1:80", "/run/web.sock"]);
    assert!(
        seen.findings.iter().any(|f| f.contains("1 endpoints are names, which nobody resolves here")),
        "{:?}",
        seen.findings
    );
}

/// The TCP filters of a listener.
fn tcp_proxies(listener: &Listener) -> Vec<TcpProxy> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let tcp = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".TcpProxy") => {
            TcpProxy::decode(&*any.value).ok()
        }
        _ => None,
    });
    tcp.collect()
}

#[test]
fn times_of_tcp_connections_reach_the_listener() {
    let text = r"
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: 10.0.0.5, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec:
  host: db
  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 24h, maxConnectionDuration: 48h}}}
  subsets: [{name: a, labels: {a: a}, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 6h}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: db}
spec:
  workloadSelector: {labels: {app: db}}
  inboundConnectionPool: {tcp: {idleTimeout: 12h}}
";
    let seen = sidecar(&world(text), "default");
    let outbound = &tcp_proxies(&seen.listener("10.0.0.5_5432"))[0];
    assert_eq!(outbound.idle_timeout.map(|t| t.seconds), Some(24 * 3600));
    assert_eq!(outbound.max_downstream_connection_duration.map(|t| t.seconds), Some(48 * 3600));
    let metadata = json!({"LABELS": {"app": "db"}, "INBOUND": ["5432=127.0.0.1:4000"]});
    let seen = sidecar_with(&world(text), "default", metadata);
    let inbound = &tcp_proxies(&seen.listener("inbound_5432"))[0];
    assert_eq!(inbound.idle_timeout.map(|t| t.seconds), Some(12 * 3600));
    let split = format!(
        "{text}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db}}\nspec:\n  hosts: [db]\n  \
         tcp:\n  - match: [{{destinationSubnets: [10.9.0.0/16]}}]\n    route: [{{destination: {{host: db, subset: none}}}}]\n  \
         - route: [{{destination: {{host: db}}, weight: 1}}, {{destination: {{host: db, subset: a}}, weight: 1}}]\n"
    );
    let seen = sidecar(&world(&split), "default");
    let outbound = &tcp_proxies(&seen.listener("10.0.0.5_5432"))[0];
    assert_eq!(outbound.idle_timeout.map(|t| t.seconds), Some(6 * 3600), "the shortest");
    let said = "spec.tcp[0].match[0].destinationSubnets: not built yet";
    assert!(seen.findings.iter().any(|found| found.contains(said)), "{:?}", seen.findings);
}

#[test]
fn outlier_detection_reaches_the_cluster() {
    let (seen, name) = under(
        "{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 5s, baseEjectionTime: 1m, \
         maxEjectionPercent: 50, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}",
    );
    let rules = seen.cluster(name).outlier_detection.expect("rules");
    let value = |n: Option<envoy_types::pb::google::protobuf::UInt32Value>| n.map(|n| n.value);
    assert_eq!((value(rules.consecutive_5xx), value(rules.enforcing_consecutive_5xx)), (Some(7), Some(100)));
    assert_eq!(value(rules.enforcing_consecutive_gateway_failure), Some(0));
    assert_eq!(value(rules.consecutive_local_origin_failure), Some(2));
    assert!(rules.split_external_local_origin_errors);
    assert_eq!(rules.interval.map(|t| t.seconds), Some(5));
    assert_eq!(rules.base_ejection_time.map(|t| t.seconds), Some(60));
    assert_eq!(value(rules.max_ejection_percent), Some(50));
    assert_eq!(value(rules.enforcing_success_rate), Some(0));
    let (seen, name) = under("{loadBalancer: {simple: RANDOM}}");
    assert!(seen.cluster(name).outlier_detection.is_none());
}
