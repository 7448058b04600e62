//! In which order the matches of several routes are tried: the precedence rules of HTTPRoute and
//! GRPCRoute, across routes.

use std::cmp::{Ordering, Reverse};

use super::{
    hostname::Hostname,
    model::{Match, Path, Route},
};

/// One match of one rule of one route, for one of the route's names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) hostname: &'a Hostname,
    pub(crate) route: &'a Route,
    pub(crate) rule: usize,
    /// Index in the rule's matches.
    pub(crate) index: usize,
    pub(crate) matched: &'a Match,
}

/// The matches of a route for one of its names, in the order of the document.
pub(crate) fn candidates<'a>(
    route: &'a Route,
    hostname: &'a Hostname,
) -> impl Iterator<Item = Candidate<'a>> {
    route.rules.iter().enumerate().flat_map(move |(rule, content)| {
        let matches = content.matches.iter().enumerate();
        matches.map(move |(index, matched)| Candidate { hostname, route, rule, index, matched })
    })
}

/// Less is tried first: the more specific name; then exact path, regular expression (the specification
/// leaves its place open), longest prefix; then a method, most headers, most query parameters; then the
/// older route, by namespace and name; then the order in the route.
pub(crate) fn compare(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    Reverse(a.hostname.specificity())
        .cmp(&Reverse(b.hostname.specificity()))
        .then_with(|| Reverse(specificity(a.matched)).cmp(&Reverse(specificity(b.matched))))
        .then_with(|| a.route.seniority().cmp(&b.route.seniority()))
        .then_with(|| (a.rule, a.index).cmp(&(b.rule, b.index)))
}

type Specificity = ((u8, usize, usize), bool, usize, usize);

fn specificity(matched: &Match) -> Specificity {
    let path = match (&matched.rpc, &matched.path) {
        (Some((service, method)), _) => (0, *service, *method),
        (None, Path::Exact(path)) => (2, path.len(), 0),
        (None, Path::Regex(path)) => (1, path.len(), 0),
        (None, Path::Prefix(path)) => (0, path.len(), 0),
    };
    (path, matched.method.is_some(), matched.headers.len(), matched.query.len())
}
