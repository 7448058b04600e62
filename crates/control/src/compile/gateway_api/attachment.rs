//! Which routes attach to which listeners of a Gateway: the one judgement from which both the compiled
//! routing and every status follow.

use std::sync::Arc;

use heddle_resource::Key;

use super::{
    around::{Around, Facts},
    backend::{self, Surroundings},
    certificate,
    hostname::Hostname,
    listener::{self, Security},
    listener_set::{self, ListenerSet, SetOutcome},
    model::{From, Gateway, Listener, ParentRef, Route, RouteKind},
};
use crate::{status::Condition, world::ParentId};

/// A Gateway judged, with the routes that name it as a parent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attachment {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) accepted: Condition,
    /// Where the Gateway has a certificate of its own for backends.
    pub(crate) resolved: Option<Condition>,
    /// In the order of the Gateway's listeners.
    pub(crate) listeners: Vec<ListenerOutcome>,
    /// Of every ListenerSet that names the Gateway, in order of precedence.
    pub(crate) sets: Vec<SetOutcome>,
    /// In order of seniority.
    pub(crate) routes: Vec<RouteOutcome>,
}

/// What came of one listener.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ListenerOutcome {
    /// Kinds of route that it supports, of those it allows.
    pub(crate) kinds: Vec<RouteKind>,
    pub(crate) accepted: Condition,
    pub(crate) conflicted: Condition,
    pub(crate) resolved: Condition,
    pub(crate) security: Security,
    /// In order of seniority.
    pub(crate) attached: Vec<Attached>,
}

impl ListenerOutcome {
    /// Whether traffic is taken on it.
    pub(crate) fn serves(&self) -> bool {
        self.accepted.holds()
            && !self.conflicted.holds()
            && !self.kinds.is_empty()
            && self.security != Security::Broken
    }
}

/// A route attached to a listener.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attached {
    pub(crate) route: Arc<Route>,
    /// The names of the route within those of the listener. Never empty.
    pub(crate) hostnames: Vec<Hostname>,
    /// Whether the route is accepted as a whole: one that is not counts as attached and carries nothing.
    pub(crate) acts: bool,
}

/// What came of a route, for each reference to this parent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RouteOutcome {
    pub(crate) route: Arc<Route>,
    pub(crate) parents: Vec<ParentOutcome>,
}

/// What came of one reference to a parent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ParentOutcome {
    pub(crate) parent: ParentRef,
    pub(crate) accepted: Condition,
    pub(crate) resolved: Condition,
}

/// Judges a Gateway of a class of ours with the ListenerSets and the routes that refer to it.
pub(crate) fn judge<F: Facts>(facts: &F, id: &ParentId, gateway: Gateway) -> Attachment {
    let sets = listener_set::naming(facts, id);
    let mut routes = facts.routes_of(id).to_vec();
    for set in &sets {
        routes.extend_from_slice(facts.routes_of(&ParentId::listener_set(&set.key)));
    }
    attach(gateway, &sets, routes, &Around::new(facts))
}

pub(super) fn attach(
    gateway: Gateway,
    sets: &[Arc<ListenerSet>],
    mut routes: Vec<Arc<Route>>,
    around: &dyn Surroundings,
) -> Attachment {
    let gateway = Arc::new(listener_set::merged(gateway, sets, around));
    let mut listeners = listener::judge(&gateway, around);
    let accepted = listener::gateway_accepted(&gateway, &listeners);
    let resolved = certificate::resolved(&gateway.key, gateway.own.as_ref(), around);
    let sets = listener_set::judge(&gateway, &accepted, &listeners, sets, around);
    routes.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    routes.dedup_by(|a, b| a.seniority() == b.seniority());
    let outcomes = routes
        .iter()
        .map(|route| RouteOutcome {
            route: route.clone(),
            parents: attach_route(&gateway, &sets, &mut listeners, route, around),
        })
        .filter(|outcome| !outcome.parents.is_empty())
        .collect();
    Attachment { gateway, accepted, resolved, listeners, sets, routes: outcomes }
}

/// What a route refers to: a Gateway, or a ListenerSet of it.
struct Target<'a> {
    gateway: &'a Gateway,
    set: Option<&'a SetOutcome>,
}

impl<'a> Target<'a> {
    fn key(&self) -> &'a Key {
        self.set.map_or(&self.gateway.key, |outcome| &outcome.set.key)
    }

    fn has(&self, listener: &Listener) -> bool {
        listener.set.as_ref() == self.set.map(|outcome| &outcome.set.key)
    }
}

/// What a route's reference means here, if anything.
fn target<'a>(
    gateway: &'a Gateway,
    sets: &'a [SetOutcome],
    route: &Route,
    parent: &ParentRef,
) -> Option<Target<'a>> {
    let is = |key: &Key| parent.name == *key.name && parent.namespace(route) == &*key.namespace;
    if parent.is_gateway() && is(&gateway.key) {
        return Some(Target { gateway, set: None });
    }
    let set = sets.iter().find(|outcome| parent.is_listener_set() && is(&outcome.set.key))?;
    Some(Target { gateway, set: Some(set) })
}

fn attach_route(
    gateway: &Gateway,
    sets: &[SetOutcome],
    listeners: &mut [ListenerOutcome],
    route: &Arc<Route>,
    around: &dyn Surroundings,
) -> Vec<ParentOutcome> {
    let parents = route.parents.iter();
    let parents: Vec<_> =
        parents.filter_map(|parent| Some((parent, target(gateway, sets, route, parent)?))).collect();
    if parents.is_empty() {
        return Vec::new();
    }
    let resolved = backend::resolved_refs(around, route);
    let outcome = |(parent, target): (&ParentRef, Target<'_>)| ParentOutcome {
        parent: parent.clone(),
        accepted: attach_to(&target, listeners, route, parent, around),
        resolved: resolved.clone(),
    };
    parents.into_iter().map(outcome).collect()
}

/// Attaches a route by one of its references; gives the condition `Accepted`.
fn attach_to(
    target: &Target<'_>,
    outcomes: &mut [ListenerOutcome],
    route: &Arc<Route>,
    parent: &ParentRef,
    around: &dyn Surroundings,
) -> Condition {
    let refused = |reason: &'static str, message: String| Condition::no("Accepted", reason, message);
    let fault = backend::unacceptable(route);
    let gateway = target.gateway;
    if let Some(outcome) = target.set.filter(|outcome| !outcome.joined) {
        let message = format!("{} does not attach to {}; see its conditions", outcome.set.key, gateway.key);
        return refused("NoMatchingParent", message);
    }
    let meant: Vec<usize> = indices(target, |listener| {
        parent.section.as_ref().is_none_or(|section| *section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    });
    if meant.is_empty() {
        return refused("NoMatchingParent", no_such_listener(target, parent));
    }
    let allowing: Vec<_> = meant
        .into_iter()
        .filter(|&at| {
            outcomes[at].kinds.contains(&route.kind)
                && allows_namespace(gateway, &gateway.listeners[at], route, around)
        })
        .collect();
    if allowing.is_empty() {
        let message = format!(
            "no listener of {} allows a {} of namespace {} (spec.listeners[].allowedRoutes)",
            target.key(),
            route.kind.name(),
            route.key.namespace
        );
        return refused("NotAllowedByListeners", message);
    }
    let shared: Vec<_> = allowing
        .into_iter()
        .filter_map(|at| Some((at, shared_hostnames(&gateway.listeners[at], route)?)))
        .collect();
    if shared.is_empty() {
        let message = format!("no hostname of the route is one of a listener of {}", target.key());
        return refused("NoMatchingListenerHostname", message);
    }
    let mut taken_by = None;
    let mut served = false;
    let mut attached = false;
    for (at, hostnames) in shared {
        if let Some(other) = rival(&outcomes[at], route, &hostnames) {
            taken_by = Some(other);
            continue;
        }
        attached = true;
        served |= outcomes[at].serves();
        add(&mut outcomes[at], route, hostnames, fault.is_none());
    }
    match (fault, attached, taken_by) {
        (Some((reason, message)), _, _) => refused(reason, message),
        (None, false, Some(other)) => refused(
            "HostnameConflict",
            format!(
                "{other}, which is older, has the same hostnames on the same listener, and is of another kind"
            ),
        ),
        _ if !served => refused(
            "UnsupportedValue",
            format!(
                "the listeners of {} to which the route attaches are not served; see their conditions",
                target.key()
            ),
        ),
        _ => Condition::yes("Accepted", "Accepted"),
    }
}

/// A route may refer to the same listener twice; it counts once there.
fn add(outcome: &mut ListenerOutcome, route: &Arc<Route>, hostnames: Vec<Hostname>, acts: bool) {
    if !outcome.attached.iter().any(|attached| Arc::ptr_eq(&attached.route, route)) {
        outcome.attached.push(Attached { route: route.clone(), hostnames, acts });
    }
}

fn indices(target: &Target<'_>, keep: impl Fn(&Listener) -> bool) -> Vec<usize> {
    let listeners = target.gateway.listeners.iter().enumerate();
    listeners.filter(|(_, listener)| target.has(listener) && keep(listener)).map(|(at, _)| at).collect()
}

fn no_such_listener(target: &Target<'_>, parent: &ParentRef) -> String {
    let mut wanted = String::new();
    if let Some(section) = &parent.section {
        wanted = format!(" named {section}");
    }
    if let Some(port) = parent.port {
        wanted = format!("{wanted} on port {port}");
    }
    let own = target.gateway.listeners.iter().filter(|listener| target.has(listener));
    let has: Vec<_> = own.map(|l| format!("{}:{}", l.name, l.port)).collect();
    format!("{} has no listener{wanted}; it has {}", target.key(), has.join(", "))
}

fn allows_namespace(
    gateway: &Gateway,
    listener: &Listener,
    route: &Route,
    around: &dyn Surroundings,
) -> bool {
    allows(&listener.from, &listener.owner(gateway).namespace, &route.key.namespace, around)
}

/// Whether objects of a namespace may attach to what is in namespace `own`.
pub(super) fn allows(from: &From, own: &str, namespace: &str, around: &dyn Surroundings) -> bool {
    match from {
        From::All => true,
        From::None => false,
        From::Same => namespace == own,
        From::Selector(requirements) => around
            .namespace_labels(namespace)
            .is_some_and(|labels| requirements.iter().all(|requirement| requirement.holds(&labels))),
    }
}

/// The names that the route serves on the listener; nothing where there are none.
fn shared_hostnames(listener: &Listener, route: &Route) -> Option<Vec<Hostname>> {
    if route.hostnames.is_empty() || route.kind == RouteKind::Tcp {
        return Some(vec![listener.hostname.clone()]);
    }
    let mut shared: Vec<_> = route
        .hostnames
        .iter()
        .filter_map(|hostname| listener.hostname.intersect(hostname))
        .cloned()
        .collect();
    shared.sort();
    shared.dedup();
    (!shared.is_empty()).then_some(shared)
}

/// An older route that serves some of the same names as a route of another kind: one listener has either
/// HTTPRoutes or GRPCRoutes for a name, and the older wins (GRPCRoute's rule in the specification).
fn rival(outcome: &ListenerOutcome, route: &Route, hostnames: &[Hostname]) -> Option<String> {
    outcome
        .attached
        .iter()
        .filter(|other| other.route.kind != route.kind)
        .find(|other| {
            other.hostnames.iter().any(|theirs| hostnames.iter().any(|ours| ours.intersect(theirs).is_some()))
        })
        .map(|other| other.route.key.to_string())
}

#[cfg(test)]
#[path = "attachment_test.rs"]
mod attachment_test;
