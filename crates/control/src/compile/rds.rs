//! Route configurations of sidecars, assembled from virtual hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route::Action,
    route_action::ClusterSpecifier,
};
use heddle_resource::ObjectRef;
use heddle_xds::ResourceType;
use prost::Message;

use super::{
    build::{boolean, uint},
    canonical::{self, RouteDraft, field},
    cluster::{BLACK_HOLE, PASSTHROUGH, outbound_name},
    cx::Cx,
    gateway_api, hcm,
    route::{self, Place},
    tcp,
    unit::{RouteName, Unit, Value},
};
use crate::world::{Protocol, Service, ServiceId, VirtualServiceEntry, host};

/// The gateway name of the mesh itself.
pub(crate) fn mesh() -> [Arc<str>; 1] {
    ["mesh".into()]
}

impl RouteName {
    /// The resource's name, before it is marked for the scope.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::HttpProxy => "http_proxy".to_owned(),
            Self::Port(port) => port.to_string(),
            Self::Service(service, port) => format!("{}:{port}", service.host),
            Self::Gateway(port) => format!("http.{port}"),
            Self::GatewayServer(port, gateway, index) => {
                let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
                format!("https.{port}.{index}.{name}.{namespace}")
            }
        }
    }
}

/// The virtual hosts of a route name: which services and which other hosts.
pub(super) fn hosts(cx: &Cx<'_>, route: &RouteName) -> Value {
    let mut units = Vec::new();
    if let RouteName::Service(service, port) = route {
        units.push(Unit::VirtualHost(route.clone(), service.clone(), *port));
        return Value::Units(units.into());
    }
    let visible = cx.visible();
    for (service, imported) in visible.services() {
        for port in service.tcp_ports().filter(|port| imported(port.number)) {
            let here = match route {
                RouteName::HttpProxy => true,
                RouteName::Port(number) => port.number == *number && port.protocol.is_http(),
                _ => false,
            };
            if here {
                units.push(Unit::VirtualHost(route.clone(), service.id(), port.number));
            }
        }
    }
    for pattern in cx.mesh_hosts() {
        if pattern.starts_with('*') || visible.service(pattern).is_some() {
            continue;
        }
        units.push(Unit::ForeignHost(route.clone(), pattern.clone()));
    }
    Value::Units(units.into())
}

/// The VirtualService that decides for a host in the mesh: of the most specific pattern, the oldest that
/// is exported to this scope and imported by its Sidecar.
pub(crate) fn deciding<'a>(cx: &Cx<'a>, host: &str) -> Option<&'a Arc<VirtualServiceEntry>> {
    for pattern in host::patterns(host) {
        let entries = cx.mesh_routes(&pattern);
        if entries.is_empty() {
            continue;
        }
        let namespace = cx.namespace();
        let policy = cx.policy();
        let found = entries.iter().find(|e| e.export_to.visible_to(namespace) && policy.imports(e));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The routes for a service's port: of the rule that decides, else straight to the service.
pub(crate) fn service_routes(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Vec<RouteDraft> {
    let of_gateway_api = gateway_api::mesh_routes(cx, service, port);
    if let Some(drafts) = of_gateway_api {
        return drafts;
    }
    match deciding(cx, &service.host).filter(|entry| !entry.spec.http.is_empty()) {
        Some(entry) => route::http_routes(cx, entry, Place { port, gateways: &mesh() }),
        None => vec![route::default_route(cx, service, port)],
    }
}

/// The virtual host of a service's port.
pub(super) fn service_host(cx: &Cx<'_>, route: &RouteName, id: &ServiceId, number: u16) -> Value {
    let Some(service) = cx.service(id) else { return Value::VirtualHosts(Arc::from([])) };
    let Some(port) = service.port(number) else { return Value::VirtualHosts(Arc::from([])) };
    let tunnel = *route == RouteName::HttpProxy;
    let mut drafts = Vec::new();
    if tunnel {
        let of = ObjectRef { key: service.object.clone(), field: "spec.ports".into() };
        drafts.push(match route::denied_at(cx, service, number, "") {
            Some(_) => {
                let nowhere = ClusterSpecifier::Cluster(cx.name(BLACK_HOLE));
                route::connect_route(cx, nowhere, of)
            }
            None => route::connect_route(cx, tcp::tunnel(cx, service, number), of),
        });
    }
    if port.protocol.is_http() || port.protocol == Protocol::Detect {
        drafts.extend(service_routes(cx, service, number));
    }
    let domains = domains(cx, service, number, route);
    let mut host = VirtualHost { domains, ..head(format!("{}:{number}", service.host)) };
    // Where the connection manager is shared.
    if port.protocol == Protocol::GrpcWeb && matches!(route, RouteName::Port(_)) {
        host.typed_per_filter_config = hcm::told();
    }
    Value::VirtualHosts(Arc::from([canonical::virtual_host(&host, &drafts)]))
}

/// The virtual host of a VirtualService's host that is no service of the registry.
pub(super) fn foreign_host(cx: &Cx<'_>, route: &RouteName, pattern: &Arc<str>) -> Value {
    let none = Value::VirtualHosts(Arc::from([]));
    let Some(entry) = deciding(cx, pattern).filter(|entry| !entry.spec.http.is_empty()) else { return none };
    let port = match route {
        RouteName::Port(port) => *port,
        _ => 80,
    };
    let drafts = route::http_routes(cx, entry, Place { port, gateways: &mesh() });
    if drafts.is_empty() {
        return none;
    }
    let mut domains = vec![pattern.to_string()];
    if *route == RouteName::HttpProxy {
        domains.push(format!("{pattern}:{port}"));
    }
    let host = VirtualHost { domains, ..head(format!("{pattern}:{port}")) };
    Value::VirtualHosts(Arc::from([canonical::virtual_host(&host, &drafts)]))
}

/// What every virtual host has: the attempt is counted towards the upstream.
pub(crate) fn head(name: String) -> VirtualHost {
    VirtualHost { name, include_request_attempt_count: true, ..Default::default() }
}

/// The names by which a service is asked for: full, and short as the client's namespace allows; for
/// captured requests its addresses too. In `http_proxy` with the port, and bare where that is clear. Whatever came to
/// the service's own address is the service's, by whatever name.
pub(crate) fn domains(cx: &Cx<'_>, service: &Service, number: u16, route: &RouteName) -> Vec<String> {
    if matches!(route, RouteName::Service(..)) {
        return vec!["*".to_owned()];
    }
    let mut names = vec![service.host.to_string()];
    if service.kubernetes {
        let (name, namespace) = (&service.name, &service.namespace);
        names.push(format!("{name}.{namespace}.svc"));
        names.push(format!("{name}.{namespace}"));
        if *cx.namespace() == *namespace {
            names.push(name.to_string());
        }
    }
    let addresses = cx.addresses(service).into_iter().map(|ip| match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    });
    names.extend(addresses);
    if *route != RouteName::HttpProxy {
        return names;
    }
    let http: Vec<_> = service
        .tcp_ports()
        .filter(|port| port.protocol.is_http() || port.protocol == Protocol::Detect)
        .map(|port| port.number)
        .collect();
    let bare = number == 80 || (http == [number] && service.port(80).is_none());
    let mut all: Vec<_> = names.iter().map(|name| format!("{name}:{number}")).collect();
    if bare {
        all.extend(names);
    }
    all
}

/// A route configuration of the mesh.
pub(super) fn route(cx: &Cx<'_>, name: &RouteName) -> Value {
    let Value::Units(units) = cx.unit(&Unit::Hosts(name.clone())) else { return Value::none() };
    let mut hosts = Vec::new();
    for unit in units.iter() {
        if let Value::VirtualHosts(found) = cx.unit(unit) {
            hosts.extend(found.iter().cloned());
        }
    }
    if *name != RouteName::HttpProxy {
        hosts.push(fallback(cx));
    }
    let captured = *name != RouteName::HttpProxy;
    let text = cx.name(name.text());
    let bytes = assemble(&text, captured, hosts);
    cx.encoded(ResourceType::Route, &text, bytes).into()
}

/// Frames encoded virtual hosts as a `RouteConfiguration`. A domain that was taken before is left out of
/// later hosts: Envoy would refuse the whole.
pub(crate) fn assemble(name: &str, ignore_port: bool, hosts: Vec<Vec<u8>>) -> Vec<u8> {
    let head = RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: boolean(false),
        ignore_port_in_host_matching: ignore_port,
        max_direct_response_body_size_bytes: uint(1 << 20),
        ..Default::default()
    };
    let mut bytes = head.encode_to_vec();
    for host in distinct(hosts) {
        field(&mut bytes, 2, &host);
    }
    bytes
}

/// Domains as they are named; of the hosts, only those that lose a domain are written anew.
fn distinct(hosts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = Vec::with_capacity(hosts.len());
    for bytes in hosts {
        let Ok((name, domains)) = domains_of(&bytes) else { continue };
        let own: BTreeSet<_> = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        let count = names.entry(name).or_default();
        *count += 1;
        if *count == 1 && own.len() == domains.len() && own.is_disjoint(&taken) {
            taken.extend(own);
            kept.push(bytes);
            continue;
        }
        let Ok(mut host) = VirtualHost::decode(bytes.as_slice()) else { continue };
        host.domains.retain(|domain| taken.insert(domain.to_ascii_lowercase()));
        if *count > 1 {
            host.name = format!("{}#{count}", host.name);
        }
        if !host.domains.is_empty() {
            kept.push(canonical::sorted_host(&host));
        }
    }
    kept
}

/// Name and domains of an encoded virtual host, without decoding its routes.
fn domains_of(bytes: &[u8]) -> Result<(String, Vec<String>), prost::DecodeError> {
    /// The first fields of `VirtualHost`; the others are skipped.
    #[derive(Clone, PartialEq, Message)]
    struct Head {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, repeated, tag = "2")]
        domains: Vec<String>,
    }
    let head = Head::decode(bytes)?;
    Ok((head.name, head.domains))
}

/// What becomes of captured requests to hosts that the mesh does not know.
fn fallback(cx: &Cx<'_>) -> Vec<u8> {
    let allow = cx.policy().allow_any;
    let action = if allow {
        Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cx.name(PASSTHROUGH))),
            ..route::no_timeout()
        })
    } else {
        Action::DirectResponse(DirectResponseAction { status: 502, ..Default::default() })
    };
    let draft = RouteDraft {
        route: Route {
            name: if allow { "allow_any" } else { "block_all" }.to_owned(),
            r#match: Some(route::everything()),
            action: Some(action),
            ..Default::default()
        },
        ..Default::default()
    };
    let host = VirtualHost {
        domains: vec!["*".to_owned()],
        ..head(if allow { "allow_any" } else { "block_all" }.to_owned())
    };
    canonical::virtual_host(&host, &[draft])
}

/// The cluster of a service's port.
pub(crate) fn service_cluster(cx: &Cx<'_>, service: &Service, port: u16) -> String {
    cx.name(outbound_name(port, "", &service.host))
}
