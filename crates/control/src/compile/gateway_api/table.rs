//! What a port of a Gateway serves: virtual hosts for HTTP, a target for TCP.

use std::collections::BTreeSet;

use super::{
    attachment::{Attachment, ListenerOutcome},
    backend::{self, Surroundings},
    hostname::Hostname,
    model::{Listener, Route, RouteKind},
    precedence::{self, Candidate},
    rule,
};
use crate::compile::canonical::RouteDraft;

/// A virtual host: one domain and its routes in the order in which they are tried.
pub(crate) struct HostDraft {
    pub(crate) domain: Hostname,
    pub(crate) routes: Vec<RouteDraft>,
}

/// The ports on which the Gateway serves, with the protocol of each.
pub(crate) fn ports(attachment: &Attachment) -> Vec<(u16, &str)> {
    let serving = serving(attachment).map(|(listener, _)| (listener.port, listener.protocol.as_str()));
    let ports: BTreeSet<_> = serving.collect();
    ports.into_iter().collect()
}

pub(crate) fn serving(attachment: &Attachment) -> impl Iterator<Item = (&Listener, &ListenerOutcome)> {
    let accepted = attachment.accepted.holds();
    let listeners = attachment.gateway.listeners.iter().zip(&attachment.listeners);
    listeners.filter(move |(_, outcome)| accepted && outcome.serves())
}

/// The virtual hosts of an HTTP port.
///
/// A name belongs to the most specific listener that has it, and to no other (listener isolation);
/// within a listener, rules of a route with the more specific name come first.
/// `only` gives those of one listener, by its label.
pub(crate) fn virtual_hosts(
    attachment: &Attachment,
    port: u16,
    only: Option<&str>,
    around: &dyn Surroundings,
) -> Vec<HostDraft> {
    let http = |listener: &Listener| matches!(&*listener.protocol, "HTTP" | "HTTPS");
    let here = |listener: &Listener| listener.port == port && http(listener);
    let listeners: Vec<_> = serving(attachment).filter(|(listener, _)| here(listener)).collect();
    let mut domains: BTreeSet<&Hostname> = listeners.iter().map(|(listener, _)| &listener.hostname).collect();
    domains.extend(listeners.iter().flat_map(|(_, outcome)| &outcome.attached).flat_map(|a| &a.hostnames));
    domains
        .into_iter()
        .filter_map(|domain| {
            let owner = listeners
                .iter()
                .filter(|(listener, _)| listener.hostname.covers(domain))
                .max_by_key(|(listener, _)| listener.hostname.specificity());
            if only.is_some_and(|only| owner.is_none_or(|(listener, _)| listener.label() != only)) {
                return None;
            }
            let mut candidates: Vec<_> =
                owner.into_iter().flat_map(|(_, outcome)| within(outcome, domain)).collect();
            candidates.sort_by(precedence::compare);
            let routes =
                candidates.iter().flat_map(|candidate| rule::routes(around, candidate, port)).collect();
            Some(HostDraft { domain: domain.clone(), routes })
        })
        .collect()
}

/// The matches of a listener's routes that a name reaches, each by its most specific hostname.
fn within<'a>(outcome: &'a ListenerOutcome, domain: &'a Hostname) -> impl Iterator<Item = Candidate<'a>> {
    outcome
        .attached
        .iter()
        .filter(|attached| attached.acts)
        .filter_map(|attached| {
            let covering = attached.hostnames.iter().filter(|hostname| hostname.covers(domain));
            Some((&*attached.route, covering.max_by_key(|hostname| hostname.specificity())?))
        })
        .flat_map(|(route, hostname)| precedence::candidates(route, hostname))
}

/// Where connections lead: clusters and weights; no cluster for a backend that is invalid.
pub(crate) struct TcpTarget<'a> {
    pub(crate) route: &'a Route,
    pub(crate) clusters: Vec<(Option<String>, u32)>,
}

/// The target of a TCP port: that of the oldest route. Others are attached and carry nothing.
pub(crate) fn tcp_target<'a>(
    attachment: &'a Attachment,
    port: u16,
    around: &dyn Surroundings,
) -> Option<TcpTarget<'a>> {
    let (_, outcome) = serving(attachment).find(|(listener, _)| listener.port == port)?;
    let attached =
        outcome.attached.iter().find(|attached| attached.acts && attached.route.kind == RouteKind::Tcp)?;
    Some(target(&attached.route, around))
}

/// Where the connections of a TCPRoute or TLSRoute go: by its first rule.
pub(crate) fn target<'a>(route: &'a Route, around: &dyn Surroundings) -> TcpTarget<'a> {
    let backends = route.rules.first().map(|rule| &*rule.backends).unwrap_or_default();
    let clusters = backends
        .iter()
        .filter(|backend| backend.weight > 0)
        .map(|backend| {
            let destination = backend::resolve(around, route, backend).ok();
            (destination.and_then(|to| around.cluster(&to).ok()), backend.weight)
        })
        .collect();
    TcpTarget { route, clusters }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod table_test;
