//! Istio `Gateway`s.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use envoy_types::pb::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
    route::v3::{VirtualHost, virtual_host::TlsRequirementType},
};
use heddle_resource::istio::{Server, ServerTlsMode};
use heddle_xds::ResourceType;

use super::{
    build::{pipe_address, socket_address},
    canonical::{self, RouteDraft},
    cluster::BLACK_HOLE,
    cx::Cx,
    gateway_tls,
    hcm::{self, Routes, Side},
    rds,
    route::{self, Place},
    tcp,
    unit::{Resources, RouteName, Unit, Value},
};
use crate::{
    finding::{Finding, code},
    scope::GatewayFamily,
    world::{GatewayEntry, Protocol, VirtualServiceEntry, host},
};

/// One server of a Gateway that this scope serves.
pub(super) struct Serving<'a> {
    pub(super) gateway: &'a Arc<GatewayEntry>,
    pub(super) index: usize,
    pub(super) server: &'a Server,
    pub(super) protocol: Protocol,
}

impl Serving<'_> {
    fn port(&self) -> u16 {
        self.server.port.as_ref().map_or(0, |port| port.number)
    }

    /// The server ends TLS.
    pub(super) fn terminates(&self) -> bool {
        let mode = self.server.tls.as_ref().and_then(|tls| tls.mode);
        let passes = matches!(mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough));
        match self.protocol {
            Protocol::Https | Protocol::Tls => !passes,
            // Plain by its protocol, and yet with certificates.
            _ => self.server.tls.as_ref().is_some_and(|tls| tls.mode.is_some() && !passes),
        }
    }

    pub(super) fn field(&self, field: &str) -> heddle_resource::ObjectRef {
        self.gateway.object.field(format!("spec.servers[{}]{field}", self.index))
    }

    /// Hosts with the namespace from which routes may come, if one is said.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.server.hosts.iter().map(|host| match host.split_once('/') {
            Some(("*", host)) => (None, host),
            Some((".", host)) => (Some(&*self.gateway.object.meta.namespace), host),
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, host.as_str()),
        })
    }

    /// The names under which a VirtualService answers on this server: each of its hosts that a host of
    /// the server covers, or the server's where that is the narrower one.
    pub(super) fn names(&self, entry: &VirtualServiceEntry) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (namespace, own) in self.hosts() {
            if namespace.is_some_and(|namespace| *entry.object.meta.namespace != *namespace) {
                continue;
            }
            let own = own.to_ascii_lowercase();
            for asked in &entry.hosts {
                if host::covers(&own, asked) {
                    names.insert(asked.to_string());
                } else if host::covers(asked, &own) {
                    names.insert(own.clone());
                }
            }
        }
        names
    }
}

/// The servers that this scope serves, merged over its Gateways, older first.
fn serving<'a>(cx: &Cx<'a>) -> Vec<Serving<'a>> {
    let asked = cx.scope_gateway();
    if asked.is_some_and(|asked| asked.family == Some(GatewayFamily::GatewayApi)) {
        return Vec::new();
    }
    let chosen = cx.gateways().iter().filter(|gateway| match asked {
        Some(asked) => {
            gateway.object.meta.name == asked.name && gateway.object.meta.namespace == asked.namespace
        }
        // Without a selector a Gateway is everybody's.
        None => cx.has_labels(&gateway.spec.selector),
    });
    let mut found = Vec::new();
    for gateway in chosen {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let Some(port) = &server.port else { continue };
            let protocol = Protocol::parse(&port.protocol)
                .unwrap_or_else(|| Protocol::of_port("TCP", None, &port.name, port.number));
            found.push(Serving { gateway, index, server, protocol });
        }
    }
    found
}

/// The ports that are served; the protocol of a port's first server is the port's. Port 0 stands for a Unix socket.
pub(super) fn by_port<'a>(cx: &Cx<'a>) -> BTreeMap<u16, Vec<Serving<'a>>> {
    let mut ports: BTreeMap<u16, Vec<Serving<'a>>> = BTreeMap::new();
    for server in serving(cx) {
        let others = ports.entry(server.port()).or_default();
        let (port, first) = (server.port(), others.first());
        if first.is_some_and(|first| family(first.protocol) != family(server.protocol)) {
            let message = format!("port {port} speaks something else by an older server: left out");
            cx.report(Finding::new(code::COLLISION, server.field(".port"), message));
        } else if first.is_some_and(|first| first.server.bind != server.server.bind) {
            let message = format!("port {port} is bound to another address by an older server: left out");
            cx.report(Finding::new(code::COLLISION, server.field(".bind"), message));
        } else {
            others.push(server);
        }
    }
    ports
}

/// Servers of one family can share a port.
fn family(protocol: Protocol) -> u8 {
    match protocol {
        protocol if protocol.is_http() => 0,
        Protocol::Https | Protocol::Tls => 1,
        _ => 2,
    }
}

pub(super) fn units(cx: &Cx<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    for (port, servers) in by_port(cx) {
        units.push(Unit::GatewayListener(port));
        if servers.iter().any(|server| server.protocol.is_http()) {
            units.push(Unit::Route(RouteName::Gateway(port)));
        }
    }
    units
}

pub(super) fn references(servers: &[Serving<'_>]) -> Vec<Arc<str>> {
    let unique: BTreeSet<String> = servers.iter().map(|server| server.gateway.reference()).collect();
    unique.into_iter().map(Into::into).collect()
}

/// The VirtualServices bound to any of these Gateways, each once, older first.
pub(super) fn bound<'a>(cx: &Cx<'a>, servers: &[Serving<'_>]) -> Vec<&'a Arc<VirtualServiceEntry>> {
    let mut found: Vec<&Arc<VirtualServiceEntry>> = Vec::new();
    for reference in references(servers) {
        for entry in cx.gateway_routes(&reference) {
            let visible = entry.export_to.visible_to(cx.namespace());
            if visible && !found.iter().any(|known| Arc::ptr_eq(known, entry)) {
                found.push(entry);
            }
        }
    }
    found.sort_by(|a, b| {
        let rank = |e: &VirtualServiceEntry| {
            let meta = &e.object.meta;
            (meta.creation_timestamp.clone(), meta.namespace.clone(), meta.name.clone())
        };
        rank(a).cmp(&rank(b))
    });
    found
}

/// `BIND_PORT`.
pub(super) fn listener(cx: &Cx<'_>, port: u16) -> Value {
    let Some(servers) = by_port(cx).remove(&port) else { return Value::none() };
    let Some(first) = servers.first() else { return Value::none() };
    let (bind, address) = match first.server.bind.strip_prefix("unix://") {
        Some(path) => (path.to_owned(), pipe_address(path)),
        None => {
            let bind = first.server.bind.parse().unwrap_or_else(|_| cx.bind());
            (bind.to_string(), socket_address(SocketAddr::new(bind, port)))
        }
    };
    let name = cx.name(format!("{bind}_{port}"));
    let mut resources = Resources::default();
    let mut listener = Listener {
        name: name.clone(),
        address: Some(address),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Default::default()
    };
    if first.protocol.is_http() && !servers.iter().any(Serving::terminates) {
        let manager = hcm::connection_manager(
            cx,
            Side::Gateway,
            &format!("outbound_{bind}_{port}"),
            Routes::Named(cx.name(RouteName::Gateway(port).text())),
        );
        let manager = hcm::speaking(first.protocol, manager);
        listener.filter_chains = vec![hcm::chain("http", None, hcm::http_connection_filter(&manager))];
    } else if first.protocol.is_tls() {
        listener.listener_filters.push(hcm::tls_inspector());
        listener.filter_chains = gateway_tls::chains(cx, &servers, port, &mut resources.units);
    } else {
        listener.filter_chains = raw(cx, &servers, port);
    }
    resources.encoded.push(cx.encode(ResourceType::Listener, &name, &listener));
    resources.into()
}

/// Connections to nowhere: what is denied is not let through in the clear.
pub(super) fn closed(cx: &Cx<'_>) -> FilterChain {
    let filter = tcp::proxy_filter(cx, BLACK_HOLE, vec![(cx.name(BLACK_HOLE), 1)]);
    hcm::chain("denied", Some(FilterChainMatch::default()), filter)
}

/// TCP: the first route that applies.
fn raw(cx: &Cx<'_>, servers: &[Serving<'_>], port: u16) -> Vec<FilterChain> {
    let denied = servers.iter().find(|server| server.terminates());
    if let Some(server) = denied {
        let message =
            "TLS on a port for plain traffic: connections are closed, nothing is served in the clear";
        cx.report(Finding::new(code::DENIED, server.field(".tls"), message));
        return vec![closed(cx)];
    }
    let gateways = references(servers);
    let place = Place { port, gateways: &gateways };
    match tcp_filter(cx, servers, place) {
        Some(filter) => vec![hcm::chain("tcp", None, filter)],
        None => vec![closed(cx)],
    }
}

/// Where the first `tcp` route of these servers that applies leads.
pub(super) fn tcp_filter(cx: &Cx<'_>, servers: &[Serving<'_>], place: Place<'_>) -> Option<Filter> {
    let bound = bound(cx, servers);
    let mut here = bound.iter().filter(|entry| servers.iter().any(|server| !server.names(entry).is_empty()));
    let to = here.find_map(|entry| tcp::rule(cx, entry, place))?;
    Some(tcp::proxy_filter(cx, &format!("outbound_{}", place.port), to))
}

/// `http.PORT`.
pub(super) fn route(cx: &Cx<'_>, port: u16) -> Value {
    let servers = by_port(cx).remove(&port).unwrap_or_default();
    route_of(cx, &servers, &RouteName::Gateway(port), port, |_| true)
}

/// The VirtualServices bound to servers of a port; those of one host are merged, older first, and the most
/// specific host wins among hosts. `owns` says which names are answered here at all.
pub(super) fn route_of(
    cx: &Cx<'_>,
    servers: &[Serving<'_>],
    route: &RouteName,
    port: u16,
    owns: impl Fn(&str) -> bool,
) -> Value {
    let gateways = references(servers);
    let place = Place { port, gateways: &gateways };
    let mut hosts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let mut redirected: BTreeSet<String> = BTreeSet::new();
    for server in servers {
        let redirect = server.server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        for (_, own) in server.hosts().filter(|_| redirect) {
            redirected.insert(own.to_ascii_lowercase());
        }
    }
    for entry in bound(cx, servers) {
        let names: BTreeSet<_> = servers.iter().flat_map(|server| server.names(entry)).collect();
        if names.is_empty() {
            let at = entry.object.field("spec.hosts");
            cx.report(Finding::new(code::DANGLING, at, "no server of its Gateways takes any of its hosts"));
            continue;
        }
        let drafts = route::http_routes(cx, entry, place);
        for name in names.into_iter().filter(|name| owns(name)) {
            hosts.entry(name).or_default().extend(drafts.iter().cloned());
        }
    }
    for name in &redirected {
        hosts.entry(name.clone()).or_default();
    }
    let mut encoded = Vec::new();
    let mut names: Vec<_> = hosts.keys().cloned().collect();
    names.sort_by(|a, b| host::specificity(a, b));
    for name in names {
        let mut drafts: Vec<RouteDraft> = hosts.remove(&name).unwrap_or_default();
        // Of merged rules, one that takes everything must not hide those of a younger one.
        drafts.sort_by_key(|draft| draft.route.r#match.as_ref().is_some_and(route::is_everything));
        let redirect = redirected.iter().any(|pattern| host::covers(pattern, &name));
        if drafts.is_empty() && !redirect {
            continue;
        }
        let head = VirtualHost {
            domains: vec![name.clone()],
            require_tls: if redirect { TlsRequirementType::All } else { TlsRequirementType::None } as i32,
            ..rds::head(format!("{name}:{port}"))
        };
        encoded.push(canonical::virtual_host(&head, &drafts));
    }
    let text = cx.name(route.text());
    if encoded.is_empty() {
        // Nothing is bound: Envoy answers 404.
        let head = VirtualHost { domains: vec!["*".to_owned()], ..rds::head(format!("blackhole:{port}")) };
        encoded.push(canonical::virtual_host(&head, &[]));
    }
    let bytes = rds::assemble(&text, true, encoded);
    cx.encoded(ResourceType::Route, &text, bytes).into()
}
