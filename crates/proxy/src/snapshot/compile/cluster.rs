//! `Cluster` to [`Cluster`].

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use envoy_types::pb::google::protobuf;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::options::http_options;
use super::tls::{UPSTREAM, upstream_tls};
use super::{endpoint, proxy_protocol, value};
use crate::snapshot::{
    Balancer, Breakers, Cluster, Discovery, DnsCluster, DnsFamily, Name, OutlierDetection, SocketMatch,
    UpstreamProtocol, UpstreamTls,
};

judge!(cluster, envoy_types::pb::envoy::config::cluster::v3::Cluster as "Cluster",
    acts: [name, eds_cluster_config, connect_timeout, per_connection_buffer_limit_bytes, lb_policy, load_assignment,
        max_requests_per_connection, circuit_breakers, common_http_protocol_options, http_protocol_options,
        http2_protocol_options, typed_extension_protocol_options, dns_refresh_rate, respect_dns_ttl, dns_lookup_family,
        outlier_detection, upstream_bind_config, common_lb_config, transport_socket, transport_socket_matches, metadata, upstream_connection_options,
        preconnect_policy, load_balancing_policy, cluster_discovery_type, lb_config],
    listed: [alt_stat_name, stats_matcher, per_connection_buffer_high_watermark_timeout, health_checks,
        upstream_http_protocol_options, dns_jitter, dns_failure_refresh_rate, dns_resolvers, use_tcp_for_dns_lookups,
        dns_resolution_config, typed_dns_resolver_config, wait_for_warm_on_init, cleanup_interval, protocol_selection,
        close_connections_on_host_health_failure, ignore_health_on_host_removal, lrs_server, lrs_report_endpoint_metrics,
        track_timeout_budgets, track_cluster_stats, connection_pool_per_downstream_connection,
        queuing_policies],
    refused: [transport_socket_matcher, lb_subset_config, filters, upstream_config]);
judge!(common_lb, envoy_types::pb::envoy::config::cluster::v3::cluster::CommonLbConfig as "CommonLbConfig",
    acts: [healthy_panic_threshold, locality_config_specifier],
    listed: [update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change,
        consistent_hashing_lb_config, override_host_status],
    refused: []);
judge!(preconnect, envoy_types::pb::envoy::config::cluster::v3::cluster::PreconnectPolicy as "PreconnectPolicy",
    acts: [per_upstream_preconnect_ratio],
    listed: [predictive_preconnect_ratio, preconnect_enabled_metadata],
    refused: []);
judge!(outlier, envoy_types::pb::envoy::config::cluster::v3::OutlierDetection as "OutlierDetection",
    acts: [consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
        consecutive_gateway_failure, enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
        consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure, max_ejection_time],
    listed: [enforcing_success_rate, success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
        enforcing_local_origin_success_rate, failure_percentage_threshold, enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts, failure_percentage_request_volume,
        max_ejection_time_jitter, successful_active_health_check_uneject_host, monitors, always_eject_one_host,
        detect_degraded_hosts],
    refused: []);
/// Type of the one transport socket that adds nothing.
pub(super) const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// A cluster. `name` is the resource's name.
pub(crate) fn compile(value: &proto::Cluster, seen: &mut Listed) -> Compiled<Cluster> {
    cluster::judge(value, seen)?;
    if value.name.is_empty() {
        return Err(Refusal::new("name", "is required"));
    }
    let (introduction, socket) = proxy_protocol::upstream(value.transport_socket.as_ref(), seen)
        .map_err(|error| error.within("transport_socket"))?;
    let http = http_options(value, seen)?;
    let place = if introduction.is_some() { "transport_socket.transport_socket" } else { "transport_socket" };
    let tls = transport(socket.as_ref(), http.names, seen).map_err(|error| error.within(place))?;
    let mut socket_matches = Vec::new();
    for (index, given) in value.transport_socket_matches.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("transport_socket_matches[{index}]"));
        let wanted = given.r#match.as_ref().map(value::criteria).transpose();
        let tls = transport(given.transport_socket.as_ref(), http.names, seen);
        socket_matches.push(SocketMatch {
            wanted: wanted.map_err(|error| place(error.within("match")))?.unwrap_or_default(),
            tls: tls.map_err(|error| place(error.within("transport_socket")))?,
        });
    }
    let plain = tls.is_none() || socket_matches.iter().any(|wanted| wanted.tls.is_none());
    if http.protocol == UpstreamProtocol::Auto && plain {
        return Err(Refusal::new(
            "auto_config",
            "needs ALPN, and so TLS to every endpoint (transport_socket)",
        ));
    }
    let (panic_threshold, locality_weighted) = common_lb(value.common_lb_config.as_ref(), seen)?;
    let connect = value::duration_of(value.connect_timeout.as_ref(), "connect_timeout")?;
    let discovery = discovery(value, seen)?;
    if introduction.is_some() && http.protocol != UpstreamProtocol::Http1 {
        let reason =
            "the PROXY protocol tells of one client a connection: with HTTP/2 upstream it is not built";
        return Err(Refusal::new("transport_socket", reason));
    }
    Ok(Cluster {
        name: Name::new(&value.name),
        balancer: balancer(value, &discovery)?,
        preconnect: preconnect_ratio(value, introduction.is_some(), seen)?,
        discovery,
        panic_threshold,
        locality_weighted,
        connect_timeout: connect.unwrap_or(Duration::from_secs(5)),
        tls,
        socket_matches: socket_matches.into(),
        protocol: http.protocol,
        preserve_case: http.preserve_case,
        max_requests_per_connection: http.max_requests,
        idle_timeout: http.idle_timeout,
        max_connection_duration: http.max_connection_duration,
        max_stream_duration: http.max_stream_duration,
        http2: http.http2,
        breakers: breakers(value.circuit_breakers.as_ref())?,
        outlier: value.outlier_detection.as_ref().map(|given| outlier_detection(given, seen)).transpose()?,
        tcp_keepalive: value
            .upstream_connection_options
            .as_ref()
            .and_then(|options| options.tcp_keepalive.as_ref())
            .map(value::keepalive),
        proxy_protocol: introduction,
        bind: bind(value.upstream_bind_config.as_ref())?,
        buffer_limit: value.per_connection_buffer_limit_bytes.as_ref().map_or(1 << 20, |limit| limit.value),
        provenance: value::provenance(value.metadata.as_ref()),
    })
}

/// How endpoints are reached: by the socket as it is, or TLS.
fn transport(
    socket: Option<&core::TransportSocket>,
    names: (bool, bool),
    seen: &mut Listed,
) -> Compiled<Option<Arc<UpstreamTls>>> {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) =
        socket.and_then(|socket| socket.config_type.as_ref())
    else {
        return Ok(None);
    };
    match value::type_name(&any.type_url) {
        RAW_BUFFER => Ok(None),
        UPSTREAM => Ok(Some(Arc::new(upstream_tls(&value::unpack(any)?, names, seen)?))),
        other => {
            Err(Refusal::new("", format!("{other} is not built; raw_buffer and UpstreamTlsContext are")))
        }
    }
}

fn bind(value: Option<&core::BindConfig>) -> Compiled<Option<std::net::IpAddr>> {
    let Some(source) = value.and_then(|bind| bind.source_address.as_ref()) else { return Ok(None) };
    let ip = source.address.parse().map_err(|_| {
        Refusal::new("upstream_bind_config.source_address", format!("{:?} is no IP address", source.address))
    })?;
    Ok(Some(ip))
}

fn discovery(value: &proto::Cluster, seen: &mut Listed) -> Compiled<Discovery> {
    let kind = match value.cluster_discovery_type.as_ref() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(*number)
            .map_err(|_| Refusal::new("type", format!("{number} is no discovery type")))?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(Refusal::new("cluster_type", format!("{:?} is not built", custom.name)));
        }
    };
    let assignment = value.load_assignment.as_ref();
    let within = |error: Refusal| error.within("load_assignment");
    Ok(match kind {
        DiscoveryType::Static => {
            let empty = Default::default();
            let set = endpoint::endpoint_set(assignment.unwrap_or(&empty), seen).map_err(within)?;
            Discovery::Static(Arc::new(set))
        }
        DiscoveryType::Eds => {
            let config = value.eds_cluster_config.as_ref();
            let service = config.map(|eds| eds.service_name.as_str()).filter(|name| !name.is_empty());
            Discovery::Eds { service_name: Name::new(service.unwrap_or(&value.name)) }
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let assignment =
                assignment.ok_or_else(|| Refusal::new("load_assignment", "is required with DNS"))?;
            let refresh = value::duration_of(value.dns_refresh_rate.as_ref(), "dns_refresh_rate")?;
            Discovery::Dns(Arc::new(DnsCluster {
                logical: kind == DiscoveryType::LogicalDns,
                hosts: endpoint::dns_hosts(assignment, seen).map_err(within)?,
                refresh: refresh.unwrap_or(Duration::from_secs(5)),
                respect_ttl: value.respect_dns_ttl,
                family: match DnsLookupFamily::try_from(value.dns_lookup_family) {
                    Ok(DnsLookupFamily::V4Only) => DnsFamily::V4,
                    Ok(DnsLookupFamily::V6Only) => DnsFamily::V6,
                    Ok(DnsLookupFamily::V4Preferred) => DnsFamily::V4Preferred,
                    Ok(DnsLookupFamily::All) => DnsFamily::All,
                    Ok(DnsLookupFamily::Auto) | Err(_) => DnsFamily::Auto,
                },
            }))
        }
        DiscoveryType::OriginalDst => original_dst(value)?,
    })
}

fn original_dst(value: &proto::Cluster) -> Compiled<Discovery> {
    let Some(LbConfig::OriginalDstLbConfig(config)) = value.lb_config.as_ref() else {
        return Ok(Discovery::OriginalDst { header: None, port: None });
    };
    if config.metadata_key.is_some() {
        return Err(Refusal::new("original_dst_lb_config.metadata_key", "is not built"));
    }
    let name = match config.http_header_name.as_str() {
        "" => "x-envoy-original-dst-host",
        name => name,
    };
    let header = config.use_http_header.then(|| value::header_name(name)).transpose()?;
    let port =
        config.upstream_port_override.as_ref().map(|port| value::port(port.value, "upstream_port_override"));
    Ok(Discovery::OriginalDst { header, port: port.transpose()? })
}

fn balancer(value: &proto::Cluster, discovery: &Discovery) -> Compiled<Balancer> {
    if matches!(discovery, Discovery::OriginalDst { .. }) {
        return Ok(Balancer::ClusterProvided);
    }
    if let Some(policy) = &value.load_balancing_policy {
        return policy_list(policy);
    }
    match LbPolicy::try_from(value.lb_policy) {
        Ok(LbPolicy::RoundRobin) => Ok(Balancer::RoundRobin),
        Ok(LbPolicy::Random) => Ok(Balancer::Random),
        Ok(LbPolicy::LeastRequest) => {
            let Some(LbConfig::LeastRequestLbConfig(config)) = value.lb_config.as_ref() else {
                return Ok(least_request(None, None));
            };
            Ok(least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref()))
        }
        Ok(other) => Err(Refusal::new("lb_policy", format!("{} is not built", other.as_str_name()))),
        Err(_) => Err(Refusal::new("lb_policy", format!("{} is no policy", value.lb_policy))),
    }
}

fn least_request(choices: Option<&protobuf::UInt32Value>, bias: Option<&core::RuntimeDouble>) -> Balancer {
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    Balancer::LeastRequest {
        choices: choices.map_or(2, |choices| choices.value).clamp(1, 64),
        bias: if bias.is_finite() && bias >= 0.0 { bias } else { 1.0 },
    }
}

/// The first policy of the list that is built, as Envoy chooses.
fn policy_list(list: &proto::LoadBalancingPolicy) -> Compiled<Balancer> {
    let mut names = Vec::new();
    for policy in &list.policies {
        let any = policy.typed_extension_config.as_ref().and_then(|config| config.typed_config.as_ref());
        let Some(any) = any else { continue };
        match value::type_name(&any.type_url) {
            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" => {
                let config: policies::least_request::v3::LeastRequest = value::unpack(any)?;
                return Ok(least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref()));
            }
            "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" => {
                return Ok(Balancer::RoundRobin);
            }
            "envoy.extensions.load_balancing_policies.random.v3.Random" => return Ok(Balancer::Random),
            other => names.push(other.to_string()),
        }
    }
    Err(Refusal::new("load_balancing_policy", format!("none of these is built: {}", names.join(", "))))
}

fn common_lb(value: Option<&proto::cluster::CommonLbConfig>, seen: &mut Listed) -> Compiled<(u32, bool)> {
    use proto::cluster::common_lb_config::LocalityConfigSpecifier;
    let Some(value) = value else { return Ok((50, false)) };
    common_lb::judge(value, seen).map_err(|error| error.within("common_lb_config"))?;
    let threshold = value.healthy_panic_threshold.as_ref().map_or(50.0, |percent| percent.value);
    let weighted = match &value.locality_config_specifier {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            seen.insert("CommonLbConfig.zone_aware_lb_config");
            false
        }
        None => false,
    };
    Ok((threshold.clamp(0.0, 100.0) as u32, weighted))
}

fn breakers(value: Option<&proto::CircuitBreakers>) -> Compiled<[Breakers; 2]> {
    let mut out = [Breakers::default(); 2];
    for threshold in value.map(|value| &*value.thresholds).unwrap_or_default() {
        let slot = usize::from(threshold.priority == 1);
        // The greatest number is how control planes write "none".
        let number = |value: Option<&protobuf::UInt32Value>| {
            value.map(|value| value.value).filter(|value| *value != u32::MAX)
        };
        out[slot] = Breakers {
            max_connections: number(threshold.max_connections.as_ref()),
            max_pending: number(threshold.max_pending_requests.as_ref()),
            max_requests: number(threshold.max_requests.as_ref()),
            max_retries: number(threshold.max_retries.as_ref()),
            retry_budget: threshold.retry_budget.as_ref().map(|budget| {
                let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
                let least = budget.min_retry_concurrency.as_ref().map_or(3, |least| least.value);
                (if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 20.0 }, least)
            }),
        };
    }
    Ok(out)
}

/// How many connections or streams there are to be for each request. `told`: endpoints are told whom a connection is for.
fn preconnect_ratio(value: &proto::Cluster, told: bool, seen: &mut Listed) -> Compiled<Option<f64>> {
    let Some(policy) = &value.preconnect_policy else { return Ok(None) };
    let within = |error: Refusal| error.within("preconnect_policy");
    let ratio = |field, given: Option<&protobuf::DoubleValue>| -> Compiled<f64> {
        let ratio = given.map_or(1.0, |given| given.value);
        match (1.0..=3.0).contains(&ratio) {
            true => Ok(ratio),
            false => Err(within(Refusal::new(field, format!("{ratio} is not between 1 and 3")))),
        }
    };
    preconnect::judge(policy, seen).map_err(within)?;
    ratio("predictive_preconnect_ratio", policy.predictive_preconnect_ratio.as_ref())?;
    let wanted = ratio("per_upstream_preconnect_ratio", policy.per_upstream_preconnect_ratio.as_ref())?;
    if wanted <= 1.0 {
        return Ok(None);
    }
    // A connection for a certain client, or to wherever one was going, cannot be made before he comes. And where only some
    // endpoints are to have them, none has rather than all.
    let original =
        value.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()));
    if told || original || policy.preconnect_enabled_metadata.is_some() {
        seen.insert("PreconnectPolicy.per_upstream_preconnect_ratio");
        return Ok(None);
    }
    Ok(Some(wanted))
}

fn outlier_detection(value: &proto::OutlierDetection, seen: &mut Listed) -> Compiled<OutlierDetection> {
    let within = |error: Refusal| error.within("outlier_detection");
    outlier::judge(value, seen).map_err(within)?;
    let enforced =
        |share: Option<&protobuf::UInt32Value>, default: u32| share.map_or(default, |v| v.value) > 0;
    let count = |given: Option<&protobuf::UInt32Value>, on: bool| {
        if on { given.map_or(5, |count| count.value) } else { 0 }
    };
    let time = |given, field, seconds| -> Compiled<Duration> {
        Ok(value::duration_of(given, field).map_err(within)?.unwrap_or(Duration::from_secs(seconds)))
    };
    let base = time(value.base_ejection_time.as_ref(), "base_ejection_time", 30)?;
    Ok(OutlierDetection {
        consecutive_5xx: count(
            value.consecutive_5xx.as_ref(),
            enforced(value.enforcing_consecutive_5xx.as_ref(), 100),
        ),
        consecutive_gateway: count(
            value.consecutive_gateway_failure.as_ref(),
            enforced(value.enforcing_consecutive_gateway_failure.as_ref(), 0),
        ),
        interval: time(value.interval.as_ref(), "interval", 10)?,
        base_ejection: base,
        max_ejection: time(value.max_ejection_time.as_ref(), "max_ejection_time", 300)?.max(base),
        max_ejection_percent: value
            .max_ejection_percent
            .as_ref()
            .map_or(10, |percent| percent.value.min(100)),
        split_local_errors: value.split_external_local_origin_errors,
        consecutive_local: count(
            value.consecutive_local_origin_failure.as_ref(),
            enforced(value.enforcing_consecutive_local_origin_failure.as_ref(), 100),
        ),
    })
}

#[cfg(test)]
#[path = "cluster_test.rs"]
mod cluster_test;
