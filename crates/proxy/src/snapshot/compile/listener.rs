//! `Listener` to [`Listener`].

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as proto;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use prost::Message as _;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::tls::{DOWNSTREAM, downstream_tls};
use super::{access_log, cluster, http, proxy_protocol, value};
use crate::snapshot::{
    Address, ChainMatch, Direction, DownstreamTls, FilterChain, Inspect, Listener, Name, NetworkFilter,
    SourceType, TcpProxy, TlsInspect,
};

judge!(listener, envoy_types::pb::envoy::config::listener::v3::Listener as "Listener",
    acts: [name, address, additional_addresses, filter_chains, use_original_dst, default_filter_chain,
        per_connection_buffer_limit_bytes, metadata, listener_filters, listener_filters_timeout,
        continue_on_listener_filters_timeout, transparent, freebind, traffic_direction, api_listener, tcp_backlog_size,
        bind_to_port, deprecated_v1],
    listed: [stat_prefix, stats_matcher, per_connection_buffer_high_watermark_timeout, drain_type, socket_options,
        tcp_fast_open_queue_length, connection_balance_config, reuse_port, enable_reuse_port, access_log,
        max_connections_to_accept_per_socket_event, enable_mptcp, ignore_global_conn_limit, bypass_overload_manager,
        tcp_keepalive],
    refused: [fcds_config, filter_chain_matcher, udp_listener_config, listener_specifier]);
judge!(chain, envoy_types::pb::envoy::config::listener::v3::FilterChain as "FilterChain",
    acts: [filter_chain_match, filters, metadata, transport_socket, transport_socket_connect_timeout, name,
        use_proxy_proto],
    listed: [], refused: []);
judge!(chain_match, envoy_types::pb::envoy::config::listener::v3::FilterChainMatch as "FilterChainMatch",
    acts: [destination_port, prefix_ranges, direct_source_prefix_ranges, source_type, source_prefix_ranges, source_ports,
        server_names, transport_protocol, application_protocols],
    listed: [], refused: [address_suffix, suffix_len]);
judge!(tcp_proxy, envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as "TcpProxy",
    acts: [cluster_specifier, idle_timeout, max_connect_attempts, max_downstream_connection_duration,
        access_log],
    listed: [stat_prefix, downstream_idle_timeout, upstream_idle_timeout, backoff_options, hash_policy,
        max_downstream_connection_duration_jitter_percentage, access_log_flush_interval, flush_access_log_on_connected,
        access_log_options, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy, upstream_connect_mode,
        max_early_data_bytes, check_drain_close],
    refused: [on_demand, metadata_match, tunneling_config]);
judge!(tls_inspector, envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector as "TlsInspector",
    acts: [max_client_hello_size, close_connection_on_client_hello_parsing_errors],
    listed: [initial_read_buffer_size, enable_ja3_fingerprinting, enable_ja4_fingerprinting], refused: []);

const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// How long a TLS handshake may take where nothing says.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A listener.
pub(crate) fn compile(value: &proto::Listener, seen: &mut Listed) -> Compiled<Listener> {
    listener::judge(value, seen)?;
    let (mut addresses, mut modes) = (SmallVec::new(), Vec::new());
    if value.api_listener.is_none() {
        let address = value.address.as_ref().ok_or_else(|| Refusal::new("address", "is required"))?;
        addresses.push(place_of(address, &mut modes).map_err(|error| error.within("address"))?);
    }
    for (index, more) in value.additional_addresses.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("additional_addresses[{index}].address"));
        let address = more.address.as_ref().ok_or_else(|| place(Refusal::new("", "is required")))?;
        addresses.push(place_of(address, &mut modes).map_err(place)?);
    }
    let mut chains = Vec::new();
    for (index, given) in value.filter_chains.iter().enumerate() {
        let compiled = filter_chain(given, seen).map_err(|e| e.within(format!("filter_chains[{index}]")))?;
        chains.push(Arc::new(compiled));
    }
    duplicates(&chains)?;
    let default = value.default_filter_chain.as_ref().map(|given| filter_chain(given, seen)).transpose();
    let mut default_chain = default.map_err(|error| error.within("default_filter_chain"))?.map(Arc::new);
    if let Some(api) = &value.api_listener {
        default_chain = Some(Arc::new(api_chain(api, seen).map_err(|error| error.within("api_listener"))?));
    }
    if chains.is_empty() && default_chain.is_none() && !value::flag(value.use_original_dst.as_ref(), false) {
        return Err(Refusal::new("filter_chains", "at least one is required"));
    }
    let mut inspect = inspect(&value.listener_filters, seen)?;
    if inspect.proxy_protocol.is_none() {
        let all = value.filter_chains.iter().chain(&value.default_filter_chain);
        inspect.proxy_protocol = proxy_protocol::of_chains(all)?;
    }
    let bind = value.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port.as_ref());
    let timeout = value.listener_filters_timeout.as_ref();
    Ok(Listener {
        name: Name::new(&value.name),
        bind_to_port: !addresses.is_empty() && value::flag(value.bind_to_port.as_ref().or(bind), true),
        addresses,
        modes: modes.into(),
        use_original_dst: value::flag(value.use_original_dst.as_ref(), false),
        inspect,
        inspect_timeout: value::limit(timeout, "listener_filters_timeout", Some(Duration::from_secs(15)))?,
        continue_on_timeout: value.continue_on_listener_filters_timeout,
        chains: chains.into(),
        default_chain,
        transparent: value::flag(value.transparent.as_ref(), false),
        freebind: value::flag(value.freebind.as_ref(), false),
        direction: match value.traffic_direction {
            1 => Direction::Inbound,
            2 => Direction::Outbound,
            _ => Direction::Unspecified,
        },
        buffer_limit: value.per_connection_buffer_limit_bytes.as_ref().map_or(1 << 20, |limit| limit.value),
        backlog: value.tcp_backlog_size.as_ref().map(|size| size.value),
        fingerprint: fingerprint_of(value),
        provenance: value::provenance(value.metadata.as_ref()),
    })
}

/// An address to listen on; the mode of a Unix socket's file is noted.
fn place_of(value: &core::Address, modes: &mut Vec<(Address, u32)>) -> Compiled<Address> {
    let address = value::address(value)?;
    if let Some(core::address::Address::Pipe(pipe)) = &value.address
        && pipe.mode != 0
    {
        if pipe.mode > 0o777 {
            return Err(Refusal::new("pipe.mode", format!("{:#o} is more than 0o777", pipe.mode)));
        }
        if pipe.path.starts_with('@') {
            return Err(Refusal::new(
                "pipe.mode",
                "has no meaning for an abstract socket, which has no file",
            ));
        }
        modes.push((address, pipe.mode));
    }
    Ok(address)
}

/// Metadata says where a listener came from, and changes nothing for its connections; it is also the one part whose
/// encoding has no fixed order.
fn fingerprint_of(value: &proto::Listener) -> u64 {
    let rest = proto::Listener {
        filter_chains: Vec::new(),
        default_filter_chain: None,
        metadata: None,
        ..value.clone()
    };
    xxh3_64(&rest.encode_to_vec())
}

/// Envoy refuses two chains with the same match; which of them wins would be a guess.
fn duplicates(chains: &[Arc<FilterChain>]) -> Compiled<()> {
    for (index, chain) in chains.iter().enumerate() {
        if let Some(first) = chains[..index].iter().position(|earlier| earlier.matches == chain.matches) {
            let reason = format!("matches exactly what filter_chains[{first}] matches");
            return Err(Refusal::new(&format!("filter_chains[{index}].filter_chain_match"), reason));
        }
    }
    Ok(())
}

fn api_chain(api: &proto::ApiListener, seen: &mut Listed) -> Compiled<FilterChain> {
    let any = api.api_listener.as_ref().ok_or_else(|| Refusal::new("api_listener", "is required"))?;
    if value::type_name(&any.type_url) != HCM {
        return Err(Refusal::new(
            "api_listener",
            format!("{} is not built", value::type_name(&any.type_url)),
        ));
    }
    let manager = http::compile(&value::unpack::<Hcm>(any)?, seen)?;
    Ok(FilterChain {
        name: "".into(),
        matches: ChainMatch::default(),
        tls: None,
        handshake_timeout: HANDSHAKE,
        filter: NetworkFilter::Http(Arc::new(manager)),
        fingerprint: 0,
        provenance: None,
    })
}

fn inspect(filters: &[proto::ListenerFilter], seen: &mut Listed) -> Compiled<Inspect> {
    let mut out = Inspect::default();
    for (index, filter) in filters.iter().enumerate() {
        let place = |reason: String| Err(Refusal::new(&format!("listener_filters[{index}]"), reason));
        let config = match filter.config_type.as_ref() {
            Some(proto::listener_filter::ConfigType::TypedConfig(any)) => any,
            Some(proto::listener_filter::ConfigType::ConfigDiscovery(_)) => {
                return place("config_discovery is not built".into());
            }
            None => return place(format!("{:?} needs a typed_config", filter.name)),
        };
        if filter.filter_disabled.is_some() {
            return place("filter_disabled is not built".into());
        }
        let within = |error: Refusal| error.within(format!("listener_filters[{index}].typed_config"));
        match value::type_name(&config.type_url) {
            "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => out.original_dst = true,
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => {
                let given = value::unpack::<tls::TlsInspector>(config).map_err(within)?;
                out.tls = Some(tls_inspect(&given, seen).map_err(within)?);
            }
            "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => out.http = true,
            "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" => {
                if out.tls.is_some() || out.http {
                    return place(
                        "the header comes first: proxy_protocol stands before what inspects".into(),
                    );
                }
                let given = value::unpack(config).map_err(within)?;
                out.proxy_protocol = Some(proxy_protocol::downstream(&given, seen).map_err(within)?);
            }
            other => return place(format!("{} {other:?} is not built", filter.name)),
        }
    }
    Ok(out)
}

fn tls_inspect(value: &tls::TlsInspector, seen: &mut Listed) -> Compiled<TlsInspect> {
    tls_inspector::judge(value, seen)?;
    let most = value.max_client_hello_size.as_ref().map_or(16 * 1024, |most| most.value);
    if !(256..=64 * 1024).contains(&most) {
        return Err(Refusal::new("max_client_hello_size", format!("{most} is not 256 to 65536 bytes")));
    }
    Ok(TlsInspect { max_hello: most, only: value.close_connection_on_client_hello_parsing_errors })
}

fn filter_chain(value: &proto::FilterChain, seen: &mut Listed) -> Compiled<FilterChain> {
    chain::judge(value, seen)?;
    let tls = transport(value.transport_socket.as_ref(), seen).map_err(|e| e.within("transport_socket"))?;
    let timeout = value::duration_of(
        value.transport_socket_connect_timeout.as_ref(),
        "transport_socket_connect_timeout",
    )?;
    let matches = value.filter_chain_match.as_ref().map(|given| matches_of(given, seen)).transpose();
    let mut filter = NetworkFilter::Close;
    for (index, given) in value.filters.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("filters[{index}]"));
        let any = match given.config_type.as_ref() {
            Some(proto::filter::ConfigType::TypedConfig(any)) => any,
            _ => return Err(place(Refusal::new("typed_config", format!("{:?} needs one", given.name)))),
        };
        if !matches!(filter, NetworkFilter::Close) {
            return Err(place(Refusal::new("", "stands behind a filter that ends the chain")));
        }
        filter = match value::type_name(&any.type_url) {
            HCM => {
                let manager: Hcm = value::unpack(any).map_err(place)?;
                NetworkFilter::Http(Arc::new(http::compile(&manager, seen).map_err(place)?))
            }
            TCP_PROXY => {
                let proxy: tcp::TcpProxy = value::unpack(any).map_err(place)?;
                let mut proxy = tcp_proxy_of(&proxy, seen).map_err(place)?;
                proxy.provenance = value::provenance(value.metadata.as_ref());
                NetworkFilter::Tcp(Arc::new(proxy))
            }
            other => return Err(place(Refusal::new("", format!("{:?} ({other}) is not built", given.name)))),
        };
    }
    Ok(FilterChain {
        name: value.name.as_str().into(),
        matches: matches.map_err(|error| error.within("filter_chain_match"))?.unwrap_or_default(),
        tls,
        handshake_timeout: timeout.filter(|most| !most.is_zero()).unwrap_or(HANDSHAKE),
        filter,
        fingerprint: xxh3_64(&proto::FilterChain { metadata: None, ..value.clone() }.encode_to_vec()),
        provenance: value::provenance(value.metadata.as_ref()),
    })
}

/// The client's side: plain, or TLS.
fn transport(
    value: Option<&core::TransportSocket>,
    seen: &mut Listed,
) -> Compiled<Option<Arc<DownstreamTls>>> {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) =
        value.and_then(|socket| socket.config_type.as_ref())
    else {
        return Ok(None);
    };
    match value::type_name(&any.type_url) {
        cluster::RAW_BUFFER => Ok(None),
        DOWNSTREAM => Ok(Some(Arc::new(downstream_tls(&value::unpack(any)?, seen)?))),
        other => {
            Err(Refusal::new("", format!("{other} is not built; raw_buffer and DownstreamTlsContext are")))
        }
    }
}

fn matches_of(value: &proto::FilterChainMatch, seen: &mut Listed) -> Compiled<ChainMatch> {
    chain_match::judge(value, seen)?;
    let ranges = |list: &[_], field: &str| -> Compiled<Vec<ipnet::IpNet>> {
        list.iter().map(value::range).collect::<Compiled<_>>().map_err(|error| error.within(field))
    };
    let port = value.destination_port.as_ref().map(|port| value::port(port.value, "destination_port"));
    let names = value.server_names.iter().map(|name| server_name(name)).collect::<Compiled<_>>()?;
    Ok(ChainMatch {
        destination_port: port.transpose()?,
        destinations: ranges(&value.prefix_ranges, "prefix_ranges")?,
        server_names: names,
        transport_protocol: value.transport_protocol.as_str().into(),
        application_protocols: value.application_protocols.iter().map(|name| name.as_str().into()).collect(),
        direct_sources: ranges(&value.direct_source_prefix_ranges, "direct_source_prefix_ranges")?,
        source_type: match value.source_type {
            1 => SourceType::SameIpOrLoopback,
            2 => SourceType::External,
            _ => SourceType::Any,
        },
        sources: ranges(&value.source_prefix_ranges, "source_prefix_ranges")?,
        source_ports: value
            .source_ports
            .iter()
            .map(|port| value::port(*port, "source_ports"))
            .collect::<Compiled<_>>()?,
    })
}

/// A host name or `*.suffix`, lowercased.
fn server_name(text: &str) -> Compiled<Box<str>> {
    let name = text.to_ascii_lowercase();
    let rest = if name == "*" { "" } else { name.strip_prefix("*.").unwrap_or(&name) };
    if text.is_empty() || rest.contains('*') {
        return Err(Refusal::new("server_names", format!("{text:?} is no host name, *.suffix or *")));
    }
    Ok(name.into())
}

fn tcp_proxy_of(value: &tcp::TcpProxy, seen: &mut Listed) -> Compiled<TcpProxy> {
    tcp_proxy::judge(value, seen)?;
    let clusters: SmallVec<[(Name, u32); 1]> = match value.cluster_specifier.as_ref() {
        Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name)) => SmallVec::from_iter([(Name::new(name), 1)]),
        Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|cluster| (Name::new(&cluster.name), cluster.weight)).collect()
        }
        None => SmallVec::new(),
    };
    let total_weight = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if total_weight == 0 {
        return Err(Refusal::new("cluster_specifier", "a cluster, or clusters with weights, are required"));
    }
    let longest = value.max_downstream_connection_duration.as_ref();
    Ok(TcpProxy {
        clusters,
        total_weight,
        idle_timeout: value::limit(
            value.idle_timeout.as_ref(),
            "idle_timeout",
            Some(Duration::from_secs(3600)),
        )?,
        max_connect_attempts: value.max_connect_attempts.as_ref().map_or(1, |most| most.value.max(1)),
        max_duration: value::limit(longest, "max_downstream_connection_duration", None)?,
        access_log: access_log::compile(&value.access_log, seen)?,
        provenance: None,
    })
}
