//! Routes whose parent is a service: they act at the client's side, for calls to that service.
//!
//! A route in the service's own namespace (the producer's) is for every client. One in another namespace
//! (a consumer's) is for clients of that namespace, and takes the place of the producer's there.

use std::sync::Arc;

use super::{
    attachment::ParentOutcome,
    backend::{self, ISTIO_GROUP, ServiceFacts, Surroundings},
    hostname::Hostname,
    model::{ParentRef, Route, RouteKind},
    precedence, rule,
};
use crate::{compile::canonical::RouteDraft, status::Condition, world::ParentId};

/// Whether a route refers to that service, and to that port of it.
fn is_meant(id: &ParentId, parent: &ParentRef, route: &Route, port: u16) -> bool {
    ParentId::of(parent, route).is_some_and(|meant| meant == *id)
        && parent.port.is_none_or(|wanted| wanted == port)
}

pub(crate) fn is_entry(parent: &ParentRef) -> bool {
    parent.group == ISTIO_GROUP && parent.kind == "ServiceEntry"
}

/// Whether a reference is to a service of the mesh.
pub(crate) fn is_mesh(parent: &ParentRef) -> bool {
    parent.is_service() || is_entry(parent)
}

/// The routes that a client in a namespace obeys for a port of a service, in order of seniority.
pub(crate) fn routes_for<'a>(
    routes: &'a [Arc<Route>],
    parent: &ParentId,
    port: u16,
    client: &str,
    kinds: &[RouteKind],
) -> Vec<&'a Arc<Route>> {
    let meant = |route: &&Arc<Route>| {
        kinds.contains(&route.kind)
            && backend::unacceptable(route).is_none()
            && route.parents.iter().any(|reference| is_meant(parent, reference, route, port))
    };
    let of = |namespace: &str| -> Vec<_> {
        let mut found: Vec<_> =
            routes.iter().filter(meant).filter(|route| *route.key.namespace == *namespace).collect();
        found.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        found
    };
    let consumers = if *client == *parent.namespace { Vec::new() } else { of(client) };
    if consumers.is_empty() { of(&parent.namespace) } else { consumers }
}

/// The HTTP routes of such routes, in the order in which they are tried. A request that matches none of
/// them is answered 404.
pub(crate) fn drafts(routes: &[&Arc<Route>], port: u16, around: &dyn Surroundings) -> Vec<RouteDraft> {
    let any = Hostname::default();
    let mut candidates: Vec<_> =
        routes.iter().flat_map(|route| precedence::candidates(route, &any)).collect();
    candidates.sort_by(precedence::compare);
    candidates.iter().flat_map(|candidate| rule::routes(around, candidate, port)).collect()
}

/// What comes of a route's references to services, given what each leads to.
pub(crate) fn judge(
    route: &Route,
    around: &dyn Surroundings,
    find: impl Fn(&ParentRef) -> Option<Arc<ServiceFacts>>,
) -> Vec<ParentOutcome> {
    let references: Vec<_> = route.parents.iter().filter(|parent| is_mesh(parent)).collect();
    if references.is_empty() {
        return Vec::new();
    }
    let resolved = backend::resolved_refs(around, route);
    let outcome = |parent: &ParentRef| ParentOutcome {
        parent: parent.clone(),
        accepted: accepted(route, parent, find(parent)),
        resolved: resolved.clone(),
    };
    references.into_iter().map(outcome).collect()
}

fn accepted(route: &Route, parent: &ParentRef, service: Option<Arc<ServiceFacts>>) -> Condition {
    let refused = |reason: &'static str, message: String| Condition::no("Accepted", reason, message);
    if let Some((reason, message)) = backend::unacceptable(route) {
        return refused(reason, message);
    }
    let name = format!("{} {}/{}", parent.kind, parent.namespace(route), parent.name);
    let Some(service) = service else {
        return refused("NoMatchingParent", format!("{name} does not exist"));
    };
    match parent.port {
        Some(port) if !service.ports.iter().any(|(number, _)| *number == port) => {
            refused("NoMatchingParent", format!("{name} has no port {port}"))
        }
        _ => Condition::yes("Accepted", "Accepted"),
    }
}
