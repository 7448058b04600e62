//! What gRPC clients are told: a `Listener` for each name by which a service port may be asked for, its
//! routes, and clusters of endpoint sets.
//!
//! gRPC follows only a part of a route (matching, weights, faults, retries): what it cannot follow is
//! reported, and a route that denies stays one that fails.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster, LoadBalancingPolicy,
            cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
            load_balancing_policy::Policy,
        },
        core::v3::TypedExtensionConfig,
        listener::v3::{ApiListener, Filter, FilterChain, Listener, filter},
        route::v3::{
            NonForwardingAction, Route, RouteAction, RouteConfiguration, VirtualHost, route::Action,
        },
    },
    extensions::{
        filters::{
            http::{fault::v3::HttpFault, router::v3::Router},
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
        load_balancing_policies::{least_request::v3::LeastRequest, round_robin::v3::RoundRobin},
    },
};
use heddle_resource::ObjectRef;
use heddle_xds::ResourceType;
use prost::{Message, Name};

use super::{
    build::{ads, any, host_address},
    canonical::{self, RouteDraft, field},
    cx::Cx,
    rds, route,
    unit::{self, Resources, RouteName, Value},
};
use crate::{
    finding::{Finding, code},
    world::{Protocol, Resolution, Service, ServiceId, Target},
};

/// Units for gRPC clients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {
    /// What clients of a service port ask for by name.
    Listeners(ServiceId, u16),
    /// The route configuration of a service port.
    Routes(ServiceId, u16),
    /// What servers of a service ask for by the address on which they listen.
    Servers(ServiceId),
}

impl Unit {
    pub(crate) fn resource_type(&self) -> Option<ResourceType> {
        Some(match self {
            Self::Listeners(..) | Self::Servers(_) => ResourceType::Listener,
            Self::Routes(..) => ResourceType::Route,
        })
    }
}

/// What a gRPC client's scope consists of.
pub(crate) fn plan(cx: &Cx<'_>) -> Vec<unit::Unit> {
    let mut units = super::plan::clusters(cx);
    for (service, imported) in cx.visible().services() {
        // gRPC knows endpoint sets; it resolves no names and no original destinations.
        if service.resolution != Resolution::Static {
            continue;
        }
        for port in service.tcp_ports().filter(|port| imported(port.number)) {
            if port.protocol.is_http() || port.protocol == Protocol::Detect {
                units.push(unit::Unit::Grpc(Unit::Listeners(service.id(), port.number)));
                units.push(unit::Unit::Grpc(Unit::Routes(service.id(), port.number)));
            }
        }
    }
    let own = cx.services_in(cx.namespace());
    units.extend(own.into_iter().map(|service| unit::Unit::Grpc(Unit::Servers(service.id()))));
    units
}

pub(crate) fn compile(cx: &Cx<'_>, unit: &Unit) -> Value {
    match unit {
        Unit::Listeners(id, port) => cx.service(id).map(|service| listeners(cx, service, *port)),
        Unit::Routes(id, port) => cx.service(id).map(|service| routes(cx, service, *port)),
        Unit::Servers(id) => cx.service(id).map(|service| servers(cx, service)),
    }
    .unwrap_or_else(Value::none)
}

/// The names by which a service port is asked for: `say:7070`, `say.ns:7070`, ... as the client's namespace
/// allows.
fn targets(cx: &Cx<'_>, service: &Service, port: u16) -> Vec<String> {
    let suffix = format!(":{port}");
    let mut names = rds::domains(cx, service, port, &RouteName::HttpProxy);
    names.retain(|name| {
        name.strip_suffix(&suffix).is_some_and(|host| {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() && !host.starts_with('*')
        })
    });
    names
}

fn route_name(service: &Service, port: u16) -> String {
    format!("{}:{port}", service.host)
}

/// A listener for each name, byte for byte as asked.
fn listeners(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Value {
    let manager = HttpConnectionManager {
        stat_prefix: "grpc".to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route_name(service, port),
        })),
        http_filters: vec![
            filter("envoy.filters.http.fault", &HttpFault::default(), true),
            filter("envoy.filters.http.router", &Router::default(), false),
        ],
        ..Default::default()
    };
    let api_listener = Some(ApiListener { api_listener: Some(any(&manager)) });
    let one = |name: String| {
        let listener = Listener { name, api_listener: api_listener.clone(), ..Default::default() };
        cx.encode(ResourceType::Listener, &listener.name, &listener)
    };
    let encoded = targets(cx, service, port).into_iter().map(one).collect();
    Resources { encoded, units: Vec::new() }.into()
}

fn filter<M: Message + Name>(name: &str, config: &M, is_optional: bool) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        is_optional,
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

fn routes(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Value {
    let mut drafts = rds::service_routes(cx, service, port);
    report(cx, service, &drafts);
    for draft in &mut drafts {
        // Unknown to gRPC, which would refuse the whole.
        draft.filters.retain(|name, _| *name == "envoy.filters.http.fault");
    }
    let name = route_name(service, port);
    let domains = targets(cx, service, port);
    if domains.is_empty() {
        return Value::none();
    }
    let host = canonical::virtual_host(&VirtualHost { domains, ..rds::head(name.clone()) }, &drafts);
    let mut bytes = RouteConfiguration { name: name.clone(), ..Default::default() }.encode_to_vec();
    field(&mut bytes, 2, &host);
    cx.encoded(ResourceType::Route, &name, bytes).into()
}

/// Says what of these routes a gRPC client does not do.
fn report(cx: &Cx<'_>, service: &Service, drafts: &[RouteDraft]) {
    let mut missing: Vec<&str> = drafts.iter().flat_map(|draft| not_followed(&draft.route)).collect();
    missing.extend(drafts.iter().flat_map(|draft| draft.filters.keys()).filter_map(|name| {
        (*name != "envoy.filters.http.fault").then_some(if name.ends_with("cors") { "CORS" } else { name })
    }));
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return;
    }
    let of = match rds::deciding(cx, &service.host) {
        Some(entry) => entry.object.field("spec.http"),
        None => ObjectRef { key: service.object.clone(), field: "".into() },
    };
    let message = format!("gRPC clients without a proxy do not do this: {}", missing.join(", "));
    cx.report(Finding::new(code::NOT_FOR_GRPC, of, message));
}

fn not_followed(route: &Route) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut note = |is: bool, what| {
        if is {
            found.push(what);
        }
    };
    let headers = [&route.request_headers_to_add, &route.response_headers_to_add];
    let removed = [&route.request_headers_to_remove, &route.response_headers_to_remove];
    let changes = headers.iter().any(|list| !list.is_empty()) || removed.iter().any(|list| !list.is_empty());
    note(changes, "header changes");
    match &route.action {
        Some(Action::Redirect(_)) => note(true, "redirects (such calls fail)"),
        Some(Action::DirectResponse(_)) => note(true, "direct responses (such calls fail)"),
        Some(Action::Route(action)) => {
            note(rewrites(action), "rewrites");
            note(!action.request_mirror_policies.is_empty(), "mirroring");
        }
        _ => {}
    }
    let queries = route.r#match.as_ref().is_some_and(|matched| !matched.query_parameters.is_empty());
    note(queries, "matches on the query (such routes are skipped)");
    found
}

fn rewrites(action: &RouteAction) -> bool {
    action.host_rewrite_specifier.is_some()
        || !action.prefix_rewrite.is_empty()
        || action.regex_rewrite.is_some()
}

/// Turns a cluster into one for gRPC; `false` if it can be none: of endpoint sets only, with balancers of
/// which a client takes the first that it knows.
pub(super) fn adapt(cluster: &mut Cluster) -> bool {
    if cluster.cluster_discovery_type != Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)) {
        return false;
    }
    let policy = |name: &str, config| Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(config),
        }),
    };
    let least_request = policy("envoy.load_balancing_policies.least_request", any(&LeastRequest::default()));
    let round_robin = policy("envoy.load_balancing_policies.round_robin", any(&RoundRobin::default()));
    let first = (cluster.lb_policy == LbPolicy::LeastRequest as i32).then_some(least_request);
    cluster.load_balancing_policy =
        Some(LoadBalancingPolicy { policies: first.into_iter().chain([round_robin]).collect() });
    // For clients that do not know the list; of the old values all of them know this one.
    cluster.lb_policy = LbPolicy::RoundRobin as i32;
    // Options of HTTP connections that gRPC makes itself.
    cluster.typed_extension_protocol_options.clear();
    true
}

/// Where servers of gRPC's xDS API learn how to serve: Istio's name for the listener.
const INBOUND: &str = "xds.istio.io/grpc/lds/inbound/";

/// Listeners for the ports on which this service's endpoints take requests.
fn servers(cx: &Cx<'_>, service: &Arc<Service>) -> Value {
    let declared = service.tcp_ports().filter_map(|port| match port.target {
        Target::Number(number) => Some(number),
        Target::Name(_) => None,
    });
    let endpoints = cx.endpoints(&service.id());
    let own = endpoints.iter().flat_map(|endpoint| endpoint.ports.iter().map(|(_, own)| *own));
    let mut ports: Vec<u16> = declared.chain(own).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut encoded = Vec::new();
    for port in ports {
        for ip in ["0.0.0.0", "::"] {
            let shown = if ip == "::" { format!("[::]:{port}") } else { format!("{ip}:{port}") };
            let listener = server(format!("{INBOUND}{shown}"), ip, port);
            encoded.push(cx.encode(ResourceType::Listener, &listener.name, &listener));
        }
    }
    Resources { encoded, units: Vec::new() }.into()
}

/// A listener that takes every call.
fn server(name: String, ip: &str, port: u16) -> Listener {
    let all = Route {
        r#match: Some(route::everything()),
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "inbound".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![all],
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "grpc".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "inbound".to_owned(),
            virtual_hosts: vec![host],
            ..Default::default()
        })),
        http_filters: vec![filter("envoy.filters.http.router", &Router::default(), false)],
        ..Default::default()
    };
    Listener {
        name,
        address: Some(host_address(ip, port)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
