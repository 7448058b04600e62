//! Gateway API as units of compilation: what a proxy of a Gateway is sent, and the routes of the mesh.

use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener};
use heddle_xds::{ClientKind, ResourceType};

use super::{
    around::Around,
    attachment::{self, Attachment},
    backend, mesh,
    model::{self, Route, RouteKind},
    secure, table,
};
use crate::{
    compile::{
        build::host_address,
        canonical::{self, RouteDraft},
        cluster::BLACK_HOLE,
        cx::Cx,
        gateway,
        hcm::{self, Routes, Side},
        rds, tcp, unit,
        unit::{Resources, Value},
    },
    scope::GatewayFamily,
    world::{ParentId, Service},
};

/// A piece of a Gateway's configuration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {
    /// The judgement on the Gateway and its routes.
    Attachment(ParentId),
    /// The listener of a port.
    Listener(ParentId, u16),
    /// The route configuration of an HTTP port.
    Route(ParentId, u16),
    /// The route configuration of a listener that ends TLS, by its label.
    ListenerRoute(ParentId, u16, Arc<str>),
}

impl Unit {
    pub(crate) fn resource_type(&self) -> Option<ResourceType> {
        match self {
            Self::Attachment(_) => None,
            Self::Listener(..) => Some(ResourceType::Listener),
            Self::Route(..) | Self::ListenerRoute(..) => Some(ResourceType::Route),
        }
    }
}

/// What a gateway's scope consists of besides what Istio's Gateways give it.
pub(crate) fn plan(cx: &Cx<'_>) -> Vec<unit::Unit> {
    let Some(reference) = cx.scope_gateway() else { return Vec::new() };
    if reference.family == Some(GatewayFamily::Istio) {
        return Vec::new();
    }
    let id = ParentId::gateway(&reference.namespace, &reference.name);
    let Some(attachment) = attached(cx, &id) else { return Vec::new() };
    // A port that an Istio Gateway of the same name serves is that one's.
    let taken = gateway::units(cx);
    let mut units = Vec::new();
    for (port, protocol) in table::ports(&attachment) {
        if taken.contains(&unit::Unit::GatewayListener(port)) {
            continue;
        }
        units.push(unit::Unit::GatewayApi(Unit::Listener(id.clone(), port)));
        if protocol == "HTTP" {
            units.push(unit::Unit::GatewayApi(Unit::Route(id.clone(), port)));
        }
    }
    units.extend(clusters(cx, &attachment));
    units
}

/// The clusters of everything that the Gateway's routes lead to, whether or not its namespace imports it.
fn clusters(cx: &Cx<'_>, attachment: &Attachment) -> Vec<unit::Unit> {
    let around = Around::new(cx);
    let mut units = Vec::new();
    for route in attachment.routes.iter().map(|outcome| &*outcome.route) {
        for backend in destinations(route) {
            let Ok(to) = backend::resolve(&around, route, backend) else { continue };
            let service = cx.services_of(&to.host).first();
            units.extend(service.map(|service| unit::Unit::Clusters(service.id(), to.port)));
        }
    }
    units
}

/// Every backend of a route, mirrors included.
fn destinations(route: &Route) -> impl Iterator<Item = &model::Backend> {
    route.rules.iter().flat_map(|rule| {
        let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
        rule.backends.iter().chain(filters.filter_map(|filter| match filter {
            model::Filter::Mirror { backend, .. } => Some(backend),
            _ => None,
        }))
    })
}

pub(crate) fn compile(cx: &Cx<'_>, unit: &Unit) -> Value {
    match unit {
        Unit::Attachment(id) => {
            judge(cx, id).map_or_else(Value::none, |found| Value::Attachment(Arc::new(found)))
        }
        Unit::Listener(id, port) => listener(cx, id, *port),
        Unit::Route(id, port) => route(cx, id, *port, None),
        Unit::ListenerRoute(id, port, listener) => route(cx, id, *port, Some(listener)),
    }
}

fn attached(cx: &Cx<'_>, id: &ParentId) -> Option<Arc<Attachment>> {
    match cx.unit(&unit::Unit::GatewayApi(Unit::Attachment(id.clone()))) {
        Value::Attachment(attachment) => Some(attachment),
        _ => None,
    }
}

/// The judgement on a Gateway, if there is one of that name and its class is ours.
fn judge(cx: &Cx<'_>, id: &ParentId) -> Option<Attachment> {
    let gateway = super::read::gateway(cx.object(&id.key())?)?;
    if !cx.config().gateway_classes.iter().any(|class| **class == *gateway.class) {
        return None;
    }
    Some(attachment::judge(cx, id, gateway))
}

pub(super) fn route_name(id: &ParentId, port: u16, listener: Option<&str>) -> String {
    match listener {
        None => format!("http.{port}.{}.{}", id.name, id.namespace),
        Some(listener) => format!("https.{port}.{listener}.{}.{}", id.name, id.namespace),
    }
}

fn listener(cx: &Cx<'_>, id: &ParentId, port: u16) -> Value {
    let Some(attachment) = attached(cx, id) else { return Value::none() };
    let bind = cx.bind();
    let name = format!("{bind}_{port}");
    let mut resources = Resources::default();
    let mut message = Listener {
        name: name.clone(),
        address: Some(host_address(&bind.to_string(), port)),
        ..Default::default()
    };
    let speaks = |protocol: &str| table::ports(&attachment).contains(&(port, protocol));
    if speaks("HTTP") {
        let routes = Routes::Named(route_name(id, port, None));
        let manager = hcm::connection_manager(cx, Side::Gateway, &format!("http.{port}"), routes);
        message.filter_chains = vec![hcm::chain("http", None, hcm::http_connection_filter(&manager))];
    } else if speaks("HTTPS") || speaks("TLS") {
        message.listener_filters = vec![hcm::tls_inspector()];
        message.filter_chains = secure::chains(cx, id, &attachment, port, &mut resources.units);
    } else {
        let Some(target) = table::tcp_target(&attachment, port, &Around::new(cx)) else {
            return Value::none();
        };
        message.filter_chains = vec![hcm::chain("tcp", None, tcp_filter(cx, port, target))];
    }
    let of = attachment.gateway.key.clone();
    let of = heddle_resource::ObjectRef { key: of, field: "spec.listeners".into() };
    let bytes = canonical::with_metadata(&message, 6, cx.provenance(&of).as_deref());
    resources.encoded.push(cx.encoded(ResourceType::Listener, &name, bytes));
    resources.into()
}

pub(super) fn tcp_filter(cx: &Cx<'_>, port: u16, target: table::TcpTarget<'_>) -> Filter {
    let prefix = format!("tcp.{port}.{}", target.route.key.name);
    tcp::proxy_filter(cx, &prefix, weighted(cx, target))
}

fn route(cx: &Cx<'_>, id: &ParentId, port: u16, listener: Option<&str>) -> Value {
    let Some(attachment) = attached(cx, id) else { return Value::none() };
    let name = route_name(id, port, listener);
    let drafts = table::virtual_hosts(&attachment, port, listener, &Around::new(cx));
    let hosts = drafts.into_iter().map(|host| {
        let mut head = rds::head(format!("{}:{port}", host.domain));
        head.domains = vec![host.domain.domain().to_owned()];
        canonical::virtual_host(&head, &visible(cx, host.routes))
    });
    let bytes = rds::assemble(&name, true, hosts.collect());
    cx.encoded(ResourceType::Route, &name, bytes).into()
}

/// Provenance is for clients that can read it.
fn visible(cx: &Cx<'_>, mut drafts: Vec<RouteDraft>) -> Vec<RouteDraft> {
    if cx.client() != ClientKind::Heddle {
        drafts.iter_mut().for_each(|draft| draft.provenance = None);
    }
    drafts
}

const HTTP: &[RouteKind] = &[RouteKind::Http, RouteKind::Grpc];
/// Those that are looked for on a port for HTTP.
const OVER_HTTP: &[RouteKind] = &[RouteKind::Http, RouteKind::Grpc, RouteKind::Tls];

/// The routes of a service's port that HTTPRoutes and GRPCRoutes give; nothing where there are none.
pub(crate) fn mesh_routes(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Option<Vec<RouteDraft>> {
    let id = ParentId::service(&service.object)?;
    let routes = mesh::routes_for(cx.routes_of(&id), &id, port, cx.namespace(), HTTP);
    if routes.is_empty() {
        return None;
    }
    Some(visible(cx, mesh::drafts(&routes, port, &Around::of_mesh(cx))))
}

/// Whether HTTPRoutes, GRPCRoutes or TLSRoutes decide for a service's port for HTTP.
pub(crate) fn has_mesh_routes(cx: &Cx<'_>, service: &Service, port: u16) -> bool {
    let id = ParentId::service(&service.object);
    id.is_some_and(|id| !mesh::routes_for(cx.routes_of(&id), &id, port, cx.namespace(), OVER_HTTP).is_empty())
}

/// Where TCP connections to a service's port go by its oldest TCPRoute; nothing where there is none.
pub(crate) fn mesh_destinations(cx: &Cx<'_>, service: &Arc<Service>, port: u16) -> Option<tcp::Weighted> {
    let id = ParentId::service(&service.object)?;
    let routes = mesh::routes_for(cx.routes_of(&id), &id, port, cx.namespace(), &[RouteKind::Tcp]);
    let route = routes.first()?;
    Some(weighted(cx, table::target(route, &Around::of_mesh(cx))))
}

/// The clusters of a target; what leads nowhere is closed.
pub(super) fn weighted(cx: &Cx<'_>, target: table::TcpTarget<'_>) -> tcp::Weighted {
    let closed = || cx.name(BLACK_HOLE);
    let found = target.clusters.into_iter().map(|(name, weight)| (name.unwrap_or_else(closed), weight));
    let found: Vec<_> = found.collect();
    if found.is_empty() { vec![(closed(), 1)] } else { found }
}

#[cfg(test)]
#[path = "units_test.rs"]
mod units_test;
