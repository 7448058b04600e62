//! TCP and TLS routes.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::{
        listener::v3::{Filter, FilterChain, FilterChainMatch, filter::ConfigType},
        route::v3::{WeightedCluster, route_action::ClusterSpecifier, weighted_cluster::ClusterWeight},
    },
    extensions::filters::network::tcp_proxy::v3::{
        TcpProxy,
        tcp_proxy::{self, weighted_cluster::ClusterWeight as TcpWeight},
    },
};
use heddle_resource::{
    ObjectRef,
    istio::{RouteDestination, TcpSettings},
    value::Dur,
};

use super::{
    access_log,
    build::{any, duration, uint},
    cluster::BLACK_HOLE,
    cx::Cx,
    gateway_api, inbound, policy, rds,
    route::{self, Place},
};
use crate::{
    finding::{Finding, code},
    world::{Service, VirtualServiceEntry, host},
};

/// Clusters with their weights.
pub(crate) type Weighted = Vec<(String, u32)>;

/// Where a TCP connection to a service's port goes: by the first `tcp` route of the rule that decides
/// whose match holds, else to the service.
pub(crate) fn destinations(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Weighted {
    if let Some(found) = gateway_api::mesh_destinations(cx, service, port) {
        return found;
    }
    if let Some(entry) = rds::deciding(cx, &service.host).filter(|entry| !entry.spec.tcp.is_empty())
        && let Some(found) = rule(cx, entry, Place { port, gateways: &rds::mesh() })
    {
        return found;
    }
    match route::denied_at(cx, service, port, "") {
        Some(denied) => {
            let at = ObjectRef { key: service.object.clone(), field: "spec.ports".into() };
            let message = format!("{denied}; it protects this traffic: connections are closed");
            cx.report(Finding::new(code::DENIED, at, message));
            vec![(cx.name(BLACK_HOLE), 1)]
        }
        None => vec![(rds::service_cluster(cx, service, port), 1)],
    }
}

/// Whether a match is for every destination. One for some subnets never holds: it would take what is not meant for it.
fn any_subnet(
    cx: &Cx<'_>,
    entry: &VirtualServiceEntry,
    subnets: &[String],
    path: impl FnOnce() -> String,
) -> bool {
    if !subnets.is_empty() {
        let at = entry.object.field(format!("{}.destinationSubnets", path()));
        cx.report(Finding::new(code::LEFT_OUT, at, "not built yet: the match never holds"));
    }
    subnets.is_empty()
}

/// The destinations of the first `tcp` route that applies at a place.
pub(crate) fn rule(cx: &Cx<'_>, entry: &VirtualServiceEntry, place: Place<'_>) -> Option<Weighted> {
    let (n, found) = entry.spec.tcp.iter().enumerate().find(|(n, route)| {
        route.matches.is_empty()
            || route.matches.iter().enumerate().any(|(m_n, m)| {
                any_subnet(cx, entry, &m.destination_subnets, || format!("spec.tcp[{n}].match[{m_n}]"))
                    && m.port.is_none_or(|port| port == place.port)
                    && route::source_applies(cx, &m.gateways, &m.source_namespace, &m.source_labels, place)
            })
    })?;
    Some(weighted(cx, entry, &found.route, place.port, &format!("spec.tcp[{n}]")))
}

/// The destinations of a TCP or TLS route.
pub(crate) fn weighted(
    cx: &Cx<'_>,
    entry: &VirtualServiceEntry,
    route: &[RouteDestination],
    port: u16,
    path: &str,
) -> Weighted {
    let alone = route.len() == 1;
    let mut found = Vec::new();
    for (n, to) in route.iter().enumerate().filter(|(_, to)| alone || to.weight > 0) {
        let resolved = route::destination(cx, &to.destination, &entry.object.meta.namespace, port);
        let at = || entry.object.field(format!("{path}.route[{n}].destination"));
        let weight = u32::try_from(to.weight).unwrap_or_default().max(1);
        if let Some(denied) = &resolved.denied {
            let message = format!("{denied}; it protects this traffic: connections are closed");
            cx.report(Finding::new(code::DENIED, at(), message));
            found.push((cx.name(BLACK_HOLE), weight));
            continue;
        }
        if let Some(fault) = route::dangling(cx, &to.destination, &resolved) {
            cx.report(Finding::new(code::DANGLING, at(), format!("{fault}: connections are closed")));
        }
        found.push((resolved.cluster, weight));
    }
    found
}

/// The same for CONNECT.
pub(crate) fn tunnel(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> ClusterSpecifier {
    let mut found = destinations(cx, service, port);
    if found.len() == 1 {
        return ClusterSpecifier::Cluster(found.remove(0).0);
    }
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: found
            .into_iter()
            .map(|(name, weight)| ClusterWeight { name, weight: uint(weight), ..Default::default() })
            .collect(),
        ..Default::default()
    })
}

/// What holds for the connections to a cluster, by its name: `outbound|PORT|SUBSET|HOST` or `inbound|PORT||`.
fn pool(cx: &Cx<'_>, cluster: &str) -> Option<TcpSettings> {
    let mut parts = cluster.splitn(4, '|');
    let (direction, port) = (parts.next()?, parts.next()?.parse().ok()?);
    if direction == "inbound" {
        return inbound::pool(cx, port)?.tcp;
    }
    let subset = parts.next().filter(|subset| !subset.is_empty());
    // A proxy of several scopes has the scope behind the name.
    let host = parts.next()?.split('~').next()?;
    let rule = policy::rule(cx, cx.seen(host)?)?;
    rule.effective(port, subset).policy.connection_pool?.tcp
}

/// `envoy.filters.network.tcp_proxy`.
pub(crate) fn proxy_filter(cx: &Cx<'_>, stat_prefix: &str, mut to: Weighted) -> Filter {
    let pools: Vec<_> = to.iter().filter_map(|(cluster, _)| pool(cx, cluster)).collect();
    // One filter serves all destinations: the shortest time that one of them asks for.
    let shortest = |of: fn(&TcpSettings) -> Option<Dur>| {
        pools.iter().filter_map(of).map(|time| time.0).min().map(duration)
    };
    let idle_timeout = shortest(|tcp| tcp.idle_timeout);
    let max_downstream_connection_duration = shortest(|tcp| tcp.max_connection_duration);
    let specifier = if to.len() == 1 {
        tcp_proxy::ClusterSpecifier::Cluster(to.remove(0).0)
    } else {
        tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster {
            clusters: to
                .into_iter()
                .map(|(name, weight)| TcpWeight { name, weight, ..Default::default() })
                .collect(),
        })
    };
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        idle_timeout,
        max_downstream_connection_duration,
        access_log: access_log::logs(cx.config()),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&proxy))),
    }
}

/// The filter chains that a service's port takes for TLSRoutes, else for `tls` routes: by SNI. Without any, none.
pub(crate) fn tls_chains(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Vec<FilterChain> {
    if let Some(chains) = gateway_api::secure::of_mesh(cx, service, port) {
        return chains;
    }
    let Some(entry) = rds::deciding(cx, &service.host) else { return Vec::new() };
    sni_chains(cx, entry, Place { port, gateways: &rds::mesh() })
}

/// The filter chains of a VirtualService's `tls` routes at a place.
pub(crate) fn sni_chains(cx: &Cx<'_>, entry: &VirtualServiceEntry, place: Place<'_>) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    for (n, route) in entry.spec.tls.iter().enumerate() {
        for (m_n, matched) in route.matches.iter().enumerate() {
            let path = || format!("spec.tls[{n}].match[{m_n}]");
            let here = any_subnet(cx, entry, &matched.destination_subnets, path)
                && matched.port.is_none_or(|port| port == place.port)
                && route::source_applies(
                    cx,
                    &matched.gateways,
                    &matched.source_namespace,
                    &matched.source_labels,
                    place,
                );
            if !here {
                continue;
            }
            let mut names: Vec<_> = matched.sni_hosts.iter().map(|name| name.to_ascii_lowercase()).collect();
            names.retain(|name| taken.insert(name.clone()));
            if names.is_empty() {
                continue;
            }
            names.sort_by(|a, b| host::specificity(a, b));
            let to = weighted(cx, entry, &route.route, place.port, &format!("spec.tls[{n}]"));
            if to.is_empty() {
                continue;
            }
            // `*` is every name: no server_names at all.
            let all = names.iter().any(|name| name == "*");
            chains.push(FilterChain {
                name: format!("{}.{n}", entry.object.meta.name),
                filter_chain_match: Some(FilterChainMatch {
                    server_names: if all { Vec::new() } else { names },
                    transport_protocol: "tls".to_owned(),
                    ..Default::default()
                }),
                filters: vec![proxy_filter(cx, &to[0].0.clone(), to)],
                ..Default::default()
            });
        }
    }
    chains
}
