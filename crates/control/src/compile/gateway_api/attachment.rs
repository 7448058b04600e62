//! Which routes attach to which listeners of a Gateway: the one judgement from which both the compiled
//! routing and every status follow.

use std::sync::Arc;

use super::{
    backend::{self, Surroundings},
    hostname::Hostname,
    listener::{self, Security},
    model::{Gateway, Listener, ParentRef, Route, RouteKind},
};
use crate::status::Condition;

/// A Gateway judged, with the routes that name it as a parent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attachment {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) accepted: Condition,
    /// In the order of `spec.listeners`.
    pub(crate) listeners: Vec<ListenerOutcome>,
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

/// Judges a Gateway of a class of ours and the routes that refer to it.
pub(crate) fn attach(gateway: &Arc<Gateway>, routes: &[Arc<Route>], around: &dyn Surroundings) -> Attachment {
    let mut listeners = listener::judge(gateway, around);
    let mut routes: Vec<_> = routes.to_vec();
    routes.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    let outcomes = routes
        .iter()
        .map(|route| RouteOutcome {
            route: route.clone(),
            parents: attach_route(gateway, &mut listeners, route, around),
        })
        .filter(|outcome| !outcome.parents.is_empty())
        .collect();
    let accepted = listener::gateway_accepted(gateway, &listeners);
    Attachment { gateway: gateway.clone(), accepted, listeners, routes: outcomes }
}

fn attach_route(
    gateway: &Gateway,
    listeners: &mut [ListenerOutcome],
    route: &Arc<Route>,
    around: &dyn Surroundings,
) -> Vec<ParentOutcome> {
    let refers = |parent: &&ParentRef| {
        parent.is_gateway()
            && parent.name == *gateway.key.name
            && parent.namespace(route) == &*gateway.key.namespace
    };
    let parents: Vec<_> = route.parents.iter().filter(refers).collect();
    if parents.is_empty() {
        return Vec::new();
    }
    let resolved = backend::resolved_refs(around, route);
    let outcome = |parent: &ParentRef| ParentOutcome {
        parent: parent.clone(),
        accepted: attach_to(gateway, listeners, route, parent, around),
        resolved: resolved.clone(),
    };
    parents.into_iter().map(outcome).collect()
}

/// Attaches a route by one of its references; gives the condition `Accepted`.
fn attach_to(
    gateway: &Gateway,
    outcomes: &mut [ListenerOutcome],
    route: &Arc<Route>,
    parent: &ParentRef,
    around: &dyn Surroundings,
) -> Condition {
    let refused = |reason: &'static str, message: String| Condition::no("Accepted", reason, message);
    let fault = backend::unacceptable(route);
    let meant: Vec<usize> = indices(gateway, |listener| {
        parent.section.as_ref().is_none_or(|section| *section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    });
    if meant.is_empty() {
        return refused("NoMatchingParent", no_such_listener(gateway, parent));
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
            gateway.key,
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
        let message = format!("no hostname of the route is one of a listener of {}", gateway.key);
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
                gateway.key
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

fn indices(gateway: &Gateway, keep: impl Fn(&Listener) -> bool) -> Vec<usize> {
    gateway.listeners.iter().enumerate().filter(|(_, listener)| keep(listener)).map(|(at, _)| at).collect()
}

fn no_such_listener(gateway: &Gateway, parent: &ParentRef) -> String {
    let mut wanted = String::new();
    if let Some(section) = &parent.section {
        wanted = format!(" named {section}");
    }
    if let Some(port) = parent.port {
        wanted = format!("{wanted} on port {port}");
    }
    let has: Vec<_> = gateway.listeners.iter().map(|l| format!("{}:{}", l.name, l.port)).collect();
    format!("{} has no listener{wanted}; it has {}", gateway.key, has.join(", "))
}

fn allows_namespace(
    gateway: &Gateway,
    listener: &Listener,
    route: &Route,
    around: &dyn Surroundings,
) -> bool {
    use super::model::From;
    match &listener.from {
        From::All => true,
        From::None => false,
        From::Same => route.key.namespace == gateway.key.namespace,
        From::Selector(requirements) => around
            .namespace_labels(&route.key.namespace)
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
