//! `VirtualService` HTTP routes as Envoy routes, translated as Istio's pilot translates them.

mod action;
mod extras;
mod matching;
mod merge;

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    core::v3::header_value_option::HeaderAppendAction,
    route::v3::{
        DirectResponseAction, Route, RouteAction, RouteMatch,
        route::Action,
        route_action::ClusterSpecifier,
        route_match::{ConnectMatcher, PathSpecifier},
    },
};
use heddle_resource::{
    Key, ObjectRef,
    istio::{Destination, HttpRoute, VirtualService},
    kind,
};
use heddle_xds::ClientKind;

pub(crate) use extras::default_retry_policy;
pub(crate) use matching::{everything, is_everything, source_applies};

use super::{
    build::{any, duration, header, inline_string},
    canonical::RouteDraft,
    cluster::outbound_name,
    cx::Cx,
    origination::{self, Denial, Origination},
    policy,
};
use crate::{
    finding::{Finding, code},
    world::{Service, VirtualServiceEntry, host},
};

/// Where routes are wanted for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The port on which the request is made: the service's, or the gateway's.
    pub(crate) port: u16,
    /// `mesh`, or the Gateways (`NAMESPACE/NAME`) that share the listener.
    pub(crate) gateways: &'a [Arc<str>],
}

/// The hosts to which a VirtualService sends, as written.
pub(crate) fn destination_hosts(spec: &VirtualService) -> impl Iterator<Item = &str> {
    let http = spec.http.iter().flat_map(|route| {
        let mirrors = route.mirror.iter().chain(route.mirrors.iter().map(|mirror| &mirror.destination));
        route.route.iter().map(|to| &to.destination).chain(mirrors)
    });
    let tcp = spec.tcp.iter().flat_map(|route| &route.route).map(|to| &to.destination);
    let tls = spec.tls.iter().flat_map(|route| &route.route).map(|to| &to.destination);
    http.chain(tcp).chain(tls).map(|destination| destination.host.as_str())
}

/// The VirtualServices in which a VirtualService's routes continue.
pub(crate) fn delegates(entry: &VirtualServiceEntry) -> impl Iterator<Item = Key> {
    let own = &*entry.object.meta.namespace;
    let delegates = entry.spec.http.iter().filter_map(|route| route.delegate.as_ref());
    delegates.map(move |delegate| {
        let of = if delegate.namespace.is_empty() { own } else { &delegate.namespace };
        Key::new(&kind::VIRTUAL_SERVICE, of, delegate.name.as_str())
    })
}

/// The HTTP routes of a VirtualService at a place.
pub(crate) fn http_routes(cx: &Cx<'_>, entry: &VirtualServiceEntry, place: Place<'_>) -> Vec<RouteDraft> {
    let mut drafts = Vec::new();
    for (n, route) in entry.spec.http.iter().enumerate() {
        let path = format!("spec.http[{n}]");
        let Some(delegate) = &route.delegate else {
            let of = entry.object.field(path);
            if one_route(cx, route, &entry.object.meta.namespace, place, &of, &mut drafts) {
                return drafts;
            }
            continue;
        };
        let of =
            if delegate.namespace.is_empty() { &*entry.object.meta.namespace } else { &delegate.namespace };
        let key = Key::new(&kind::VIRTUAL_SERVICE, of, delegate.name.as_str());
        let found = cx.object(&key).filter(|object| object.meta.deletion_timestamp.is_none());
        let Some(object) = found else {
            let at = entry.object.field(format!("{path}.delegate"));
            cx.report(Finding::new(code::DANGLING, at, format!("there is no {key}: its requests get 404")));
            continue;
        };
        let heddle_resource::Spec::VirtualService(spec) = &object.spec else { continue };
        if !spec.hosts.is_empty() {
            let at = entry.object.field(format!("{path}.delegate"));
            cx.report(Finding::new(
                code::LEFT_OUT,
                at,
                format!("{key} has hosts, so it cannot be a delegate"),
            ));
            continue;
        }
        for (m, inner) in spec.http.iter().enumerate() {
            let at = object.field(format!("spec.http[{m}]"));
            if inner.delegate.is_some() {
                cx.report(Finding::new(code::LEFT_OUT, at, "a delegate cannot delegate further"));
                continue;
            }
            let Some(merged) = merge::delegate(route, inner) else {
                cx.report(Finding::new(
                    code::LEFT_OUT,
                    at,
                    format!("its matches contradict those of {}", entry.object.key()),
                ));
                continue;
            };
            if one_route(cx, &merged, &object.meta.namespace, place, &at, &mut drafts) {
                return drafts;
            }
        }
    }
    drafts
}

/// Adds the drafts of one route: one for each of its matches. Returns whether it takes every request, so
/// that nothing after it is reached.
fn one_route(
    cx: &Cx<'_>,
    route: &HttpRoute,
    namespace: &Arc<str>,
    place: Place<'_>,
    of: &ObjectRef,
    drafts: &mut Vec<RouteDraft>,
) -> bool {
    let context = action::Context { cx, route, namespace, place, of };
    if route.matches.is_empty() {
        drafts.push(context.draft(everything(), None));
        return true;
    }
    for matched in &route.matches {
        if !matching::applies(cx, matched, place) {
            continue;
        }
        match matching::translate(matched) {
            Ok(translated) => {
                let everything = is_everything(&translated);
                drafts.push(context.draft(translated, Some(matched)));
                if everything {
                    return true;
                }
            }
            Err(fault) => {
                // A request that this route may concern must not fall to one after it unprotected; nothing
                // matches what cannot be matched.
                cx.report(Finding::new(code::LEFT_OUT, of.clone(), fault));
            }
        }
    }
    false
}

/// A route to a destination, without any VirtualService.
pub(crate) fn default_route(cx: &Cx<'_>, service: &Service, port: u16) -> RouteDraft {
    let of = ObjectRef { key: service.object.clone(), field: "".into() };
    let provenance = (cx.client() == ClientKind::Heddle).then_some(of);
    let action = match denied_at(cx, service, port, "") {
        Some(denial) => deny(&denial),
        None => Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cx.name(outbound_name(
                port,
                "",
                &service.host,
            )))),
            retry_policy: Some(default_retry_policy()),
            ..no_timeout()
        }),
    };
    RouteDraft {
        route: Route {
            name: "default".to_owned(),
            r#match: Some(everything()),
            action: Some(action),
            ..Default::default()
        },
        provenance,
        ..Default::default()
    }
}

/// CONNECT HOST:PORT: a tunnel to the service.
pub(crate) fn connect_route(cx: &Cx<'_>, cluster: ClusterSpecifier, of: ObjectRef) -> RouteDraft {
    use envoy_types::pb::envoy::config::route::v3::route_action::{
        UpgradeConfig, upgrade_config::ConnectConfig,
    };
    RouteDraft {
        route: Route {
            name: "connect".to_owned(),
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher {})),
                ..Default::default()
            }),
            action: Some(Action::Route(RouteAction {
                cluster_specifier: Some(cluster),
                upgrade_configs: vec![UpgradeConfig {
                    upgrade_type: "CONNECT".to_owned(),
                    connect_config: Some(ConnectConfig::default()),
                    ..Default::default()
                }],
                ..no_timeout()
            })),
            ..Default::default()
        },
        provenance: (cx.client() == ClientKind::Heddle).then_some(of),
        ..Default::default()
    }
}

/// No request timeout; a gRPC deadline is honoured as the client gave it.
#[expect(deprecated, reason = "Istio sets it, and its successor changes what a timeout answers")]
pub(crate) fn no_timeout() -> RouteAction {
    let zero = Some(duration(std::time::Duration::ZERO));
    RouteAction { timeout: zero, max_grpc_timeout: zero, ..Default::default() }
}

/// Why a destination must not be sent to: what protects it cannot be had.
pub(crate) fn denied_at(cx: &Cx<'_>, service: &Service, port: u16, subset: &str) -> Option<Denial> {
    let subset = Some(subset).filter(|name| !name.is_empty());
    let rule = policy::rule(cx, service);
    let effective = rule.map(|rule| rule.effective(port, subset)).unwrap_or_default();
    match origination::of(cx, service, port, &effective) {
        Origination::Denied(denial) => Some(denial),
        _ => None,
    }
}

/// What a request is told that is denied because of a field.
fn denial(of: &Denial) -> String {
    format!("denied: {of}; it protects this traffic\n")
}

/// 503 with a body that names the object and field.
pub(crate) fn deny(of: &Denial) -> Action {
    Action::DirectResponse(DirectResponseAction {
        status: 503,
        body: Some(inline_string(denial(of))),
        ..Default::default()
    })
}

/// A destination resolved.
pub(crate) struct Resolved<'a> {
    pub(crate) cluster: String,
    pub(crate) service: Option<&'a Arc<Service>>,
    pub(crate) port: u16,
    pub(crate) denied: Option<Denial>,
}

/// The cluster of a destination, as Istio's `GetDestinationCluster`: the named port, else the service's
/// only one, else the port on which the request came.
pub(crate) fn destination<'a>(
    cx: &Cx<'a>,
    to: &Destination,
    namespace: &str,
    listener_port: u16,
) -> Resolved<'a> {
    let host = host::resolve(&to.host, namespace, &cx.config().cluster_domain);
    let service = cx.seen(&host);
    let port = match (&to.port, service) {
        (Some(port), _) if port.number != 0 => port.number,
        (_, Some(service)) if service.ports.len() == 1 => service.ports[0].number,
        _ => listener_port,
    };
    let denied = service.and_then(|service| denied_at(cx, service, port, &to.subset));
    Resolved { cluster: cx.name(outbound_name(port, &to.subset, &host)), service, port, denied }
}

/// Whether a destination leads somewhere; otherwise why not.
pub(crate) fn dangling(cx: &Cx<'_>, to: &Destination, resolved: &Resolved<'_>) -> Option<String> {
    let Some(service) = resolved.service else { return Some(format!("there is no service {}", to.host)) };
    if service.port(resolved.port).is_none() {
        return Some(format!("{} has no port {}", service.host, resolved.port));
    }
    if to.subset.is_empty() {
        return None;
    }
    let known = policy::rule(cx, service).is_some_and(|rule| rule.has_subset(&to.subset));
    (!known).then(|| format!("no DestinationRule declares subset {} of {}", to.subset, service.host))
}

/// Escapes what Envoy would take for a format operator in a header value, and leaves known ones alone.
fn header_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        escaped.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let operator = after.split_once('%').map(|(operator, _)| operator);
        match operator {
            Some("") => {
                escaped.push_str("%%");
                rest = &after[1..];
            }
            Some(operator) if is_operator(operator) => {
                escaped.push('%');
                escaped.push_str(operator);
                escaped.push('%');
                rest = &after[operator.len() + 1..];
            }
            _ => {
                escaped.push_str("%%");
                rest = after;
            }
        }
    }
    escaped.push_str(rest);
    escaped
}

/// Format operators without arguments, and those whose arguments are header names.
fn is_operator(text: &str) -> bool {
    const PLAIN: &[&str] = &[
        "DOWNSTREAM_REMOTE_ADDRESS",
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_REMOTE_PORT",
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_LOCAL_ADDRESS",
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_LOCAL_PORT",
        "UPSTREAM_REMOTE_ADDRESS",
        "UPSTREAM_CLUSTER",
        "PROTOCOL",
        "REQUESTED_SERVER_NAME",
        "RESPONSE_FLAGS",
        "RESPONSE_CODE_DETAILS",
        "START_TIME",
        "HOSTNAME",
        "VIRTUAL_CLUSTER_NAME",
        "ROUTE_NAME",
        "CONNECTION_ID",
    ];
    let with_header = ["REQ(", "RESP("].iter().any(|start| {
        let name = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(')'));
        name.is_some_and(|name| !name.is_empty() && !name.contains(['(', ')', '\n', '\r']))
    });
    PLAIN.contains(&text) || with_header
}

/// Sets, in place of what is there.
const SET: HeaderAppendAction = HeaderAppendAction::OverwriteIfExistsOrAdd;
/// Adds, beside what is there.
const ADD: HeaderAppendAction = HeaderAppendAction::AppendIfExistsOrAdd;
