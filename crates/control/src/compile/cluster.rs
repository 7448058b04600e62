//! Clusters.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster,
            circuit_breakers::{Thresholds, thresholds::RetryBudget},
            cluster::{
                ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
                LbPolicy,
            },
        },
        core::v3::{
            Address, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpOptions, KeepaliveSettings,
        },
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as LbTarget, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
        },
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{
            ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
            explicit_http_config::ProtocolConfig,
        },
    },
    r#type::v3::Percent,
};
use heddle_resource::istio::{H2UpgradePolicy, HttpSettings, TrafficPolicy};
use heddle_xds::{ClientKind, ResourceType};

use super::{
    build::{ads, any, duration, http1_keeping_case, uint},
    canonical::with_metadata,
    cx::Cx,
    endpoint, grpc,
    origination::{self, Origination},
    policy::{self, Effective},
    tls,
    traffic::traffic_policy,
    unit::{EndpointSet, Resources, Unit, Value},
};
use crate::{
    scope::Role,
    world::{Port, Protocol, Resolution, Service, ServiceId},
};

/// Where everything goes that was on its way to an address the mesh does not know.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// Where nothing answers.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// `outbound|PORT|SUBSET|HOST`, as Istio names clusters.
pub(crate) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|PORT||`.
pub(crate) fn inbound_name(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Tag of `Cluster.metadata`.
const METADATA: u32 = 25;

pub(super) fn outbound(cx: &Cx<'_>, id: &ServiceId, number: u16) -> Value {
    let Some(service) = cx.service(id) else { return Value::none() };
    let Some(port) = service.port(number) else { return Value::none() };
    let rule = policy::rule(cx, service);
    let effective =
        |subset: Option<&str>| rule.as_ref().map(|rule| rule.effective(number, subset)).unwrap_or_default();
    let mut resources = Resources::default();
    let whole = EndpointSet { service: id.clone(), port: number, subset: None };
    one(cx, service, port, whole, &effective(None), &mut resources);
    for (_, _, subset) in rule.iter().flat_map(|rule| &rule.subsets) {
        let labels = std::sync::Arc::new(subset.labels.clone());
        let set = EndpointSet {
            service: id.clone(),
            port: number,
            subset: Some((subset.name.as_str().into(), labels)),
        };
        one(cx, service, port, set, &effective(Some(&subset.name)), &mut resources);
    }
    resources.into()
}

fn one(
    cx: &Cx<'_>,
    service: &Service,
    port: &Port,
    set: EndpointSet,
    effective: &Effective,
    into: &mut Resources,
) {
    let subset = set.subset.as_ref().map_or("", |(name, _)| name);
    let name = cx.name(outbound_name(port.number, subset, &service.host));
    let mut cluster = Cluster { name: name.clone(), ..defaults() };
    let origination = origination::of(cx, service, port.number, effective);
    if let Origination::Denied(_) = origination {
        // Routes to it answer by themselves; whoever comes here another way finds nobody.
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        cluster.load_assignment =
            Some(ClusterLoadAssignment { cluster_name: name.clone(), ..Default::default() });
    } else {
        discovery(cx, service, &set, &mut cluster, into);
    }
    let spoken = match port.protocol {
        // A gateway's clients speak HTTP/2 to whatever serves them (Istio, protocol selection of gateways).
        Protocol::Detect if cx.role() == Role::Router => Protocol::Http,
        declared => declared,
    };
    protocol(spoken, &effective.policy, matches!(origination, Origination::Tls(..)), &mut cluster);
    if let Origination::Tls(client, credentials) = origination {
        cluster.transport_socket = Some(tls::upstream(&client, cx.client()));
        into.units.extend(credentials.into_iter().map(Unit::Secret));
    }
    traffic_policy(&effective.policy, &mut cluster);
    if cx.client() == ClientKind::Grpc && !grpc::adapt(&mut cluster) {
        return;
    }
    let from = effective.from.clone().unwrap_or_else(|| heddle_resource::ObjectRef {
        key: service.object.clone(),
        field: "spec.ports".into(),
    });
    let metadata = cx.provenance(&from);
    let bytes = with_metadata(&cluster, METADATA, metadata.as_deref());
    into.encoded.push(cx.encoded(ResourceType::Cluster, &name, bytes));
}

fn discovery(cx: &Cx<'_>, service: &Service, set: &EndpointSet, cluster: &mut Cluster, into: &mut Resources) {
    let kind = match service.resolution {
        Resolution::Static => {
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: Some(ads()), service_name: cluster.name.clone() });
            into.units.push(Unit::Endpoints(set.clone()));
            DiscoveryType::Eds
        }
        Resolution::Original => {
            cluster.lb_policy = LbPolicy::ClusterProvided as i32;
            DiscoveryType::OriginalDst
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            cluster.dns_lookup_family = DnsLookupFamily::V4Preferred as i32;
            #[expect(deprecated, reason = "as Istio; the successor is a cluster type of its own")]
            {
                cluster.respect_dns_ttl = true;
                cluster.dns_refresh_rate = Some(duration(Duration::from_secs(60)));
            }
            let mut assignment = endpoint::assignment(cx, &cluster.name, set);
            if service.resolution == Resolution::Dns {
                cluster.load_assignment = Some(assignment);
                DiscoveryType::StrictDns
            } else {
                // LOGICAL_DNS takes exactly one name.
                assignment.endpoints.truncate(1);
                for locality in &mut assignment.endpoints {
                    locality.lb_endpoints.truncate(1);
                }
                cluster.load_assignment = Some(assignment);
                DiscoveryType::LogicalDns
            }
        }
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
}

/// What every cluster has: least request, 5 s to connect, no breakers, the retry budget, no panic.
fn defaults() -> Cluster {
    Cluster {
        connect_timeout: Some(duration(Duration::from_secs(5))),
        lb_policy: LbPolicy::LeastRequest as i32,
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: uint(u32::MAX),
                max_pending_requests: uint(u32::MAX),
                max_requests: uint(u32::MAX),
                max_retries: uint(u32::MAX),
                retry_budget: Some(RetryBudget {
                    budget_percent: Some(Percent { value: 20.0 }),
                    min_retry_concurrency: uint(3),
                    ..Default::default()
                }),
                track_remaining: true,
                ..Default::default()
            }],
            ..Default::default()
        }),
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The name under which a cluster's HTTP options are kept.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Inside of TLS, what would be found out from the client is HTTP/1.1: a server that was not asked for HTTP/2 by
/// ALPN expects nothing else.
fn protocol(protocol: Protocol, policy: &TrafficPolicy, tls: bool, cluster: &mut Cluster) {
    let http = policy.connection_pool.as_ref().and_then(|pool| pool.http.as_ref());
    let upgrade = http.and_then(|http| http.h2_upgrade_policy) == Some(H2UpgradePolicy::Upgrade);
    let same = http.is_some_and(|http| http.use_client_protocol == Some(true));
    let options = if same || (protocol == Protocol::Detect && !upgrade && !tls) {
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(http1_keeping_case()),
            http2_protocol_options: Some(http2(http)),
            ..Default::default()
        })
    } else if protocol.is_http2() || upgrade {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2(http))),
        })
    } else if protocol.is_http() || tls {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(http1_keeping_case())),
        })
    } else {
        return;
    };
    let tcp = policy.connection_pool.as_ref().and_then(|pool| pool.tcp.as_ref());
    let idle = http.and_then(|http| http.idle_timeout).map(|timeout| duration(timeout.0));
    let per_connection =
        http.and_then(|http| http.max_requests_per_connection).and_then(|n| u32::try_from(n).ok());
    let common = CommonHttpOptions {
        idle_timeout: idle,
        max_requests_per_connection: per_connection.filter(|n| *n > 0).and_then(uint),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).map(|time| duration(time.0)),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: (common != CommonHttpOptions::default()).then_some(common),
        upstream_protocol_options: Some(options),
        ..Default::default()
    };
    cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), any(&options));
}

/// Streams on one connection: as declared, else as many as the endpoint takes. PING where declared.
fn http2(declared: Option<&HttpSettings>) -> Http2ProtocolOptions {
    let streams = declared.and_then(|http| http.max_concurrent_streams).and_then(|n| u32::try_from(n).ok());
    let most = streams.filter(|n| *n > 0).unwrap_or(1_073_741_824);
    let keepalive = declared.and_then(|http| http.http2_keep_alive.as_ref());
    Http2ProtocolOptions {
        max_concurrent_streams: uint(most),
        connection_keepalive: keepalive.map(|keepalive| KeepaliveSettings {
            interval: keepalive.interval.map(|time| duration(time.0)),
            timeout: keepalive.timeout.map(|time| duration(time.0)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `PassthroughCluster` and `BlackHoleCluster`.
pub(super) fn fixed(cx: &Cx<'_>) -> Value {
    let mut passthrough = Cluster {
        name: cx.name(PASSTHROUGH),
        lb_policy: LbPolicy::ClusterProvided as i32,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        ..defaults()
    };
    protocol(Protocol::Detect, &TrafficPolicy::default(), false, &mut passthrough);
    let black_hole = Cluster {
        name: cx.name(BLACK_HOLE),
        connect_timeout: Some(duration(Duration::from_secs(5))),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        ..Default::default()
    };
    let encoded = [passthrough, black_hole].map(|cluster| {
        let name = cluster.name.clone();
        cx.encode(ResourceType::Cluster, &name, &cluster)
    });
    Resources { encoded: encoded.into(), units: Vec::new() }.into()
}

fn lb_target(address: Address) -> LbEndpoint {
    let target = LbTarget { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(target)), ..Default::default() }
}

/// `inbound|PORT||`: the workload itself.
pub(super) fn inbound(cx: &Cx<'_>, port: u16) -> Value {
    let name = cx.name(inbound_name(port));
    let spoken = super::inbound::protocol(cx, port);
    let address = super::inbound::workload_address(cx, port);
    let mut cluster = Cluster {
        name: name.clone(),
        lb_policy: LbPolicy::RoundRobin as i32,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![lb_target(address)],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..defaults()
    };
    let policy = TrafficPolicy { connection_pool: super::inbound::pool(cx, port), ..Default::default() };
    protocol(spoken, &policy, false, &mut cluster);
    traffic_policy(&policy, &mut cluster);
    cx.encode(ResourceType::Cluster, &name, &cluster).into()
}

#[cfg(test)]
#[path = "cluster_test.rs"]
mod cluster_test;
