//! One match of a rule, as routes of Envoy.
//!
//! Most matches are one route. Where the backends of a rule differ in what a weighted cluster cannot say
//! (one is invalid and answers 500 for its share; one rewrites the path, mirrors or redirects), there is
//! one route per backend, each limited to its share: the shares are cumulative, since Envoy tests them
//! all with the same random value.

use std::time::Duration;

use envoy_types::pb::envoy::config::{
    core::v3::RoutingPriority,
    route::v3::{
        DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RetryPolicy, RouteAction, RouteMatch,
        WeightedCluster, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, retry_policy::RetryBackOff, route::Action,
        route_action::ClusterSpecifier, route_match::PathSpecifier, weighted_cluster::ClusterWeight,
    },
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::{
    backend::{self, Destination, Fault, Surroundings},
    filter::{self, Edits},
    model::{self, Backend, Filter, Match, Path, RouteKind, Rule, Share, Text},
    precedence::Candidate,
};
use crate::compile::{build, canonical::RouteDraft, route};

/// The routes of one match, in order. `port` is the listener's, for redirects.
pub(crate) fn routes(around: &dyn Surroundings, candidate: &Candidate<'_>, port: u16) -> Vec<RouteDraft> {
    let rule = &candidate.route.rules[candidate.rule];
    let name = rule.name.clone().unwrap_or_else(|| candidate.rule.to_string());
    let key = &candidate.route.key;
    let branches = Branches { around, route: candidate.route, rule, matched: candidate.matched, port };
    branches
        .all()
        .into_iter()
        .map(|branch| {
            let mut draft = branch.draft;
            let mut matched = route_match(candidate.matched);
            if let Some(share) = branch.up_to {
                matched.runtime_fraction = Some(filter::fraction(share));
            }
            draft.route.r#match = Some(matched);
            draft.route.name = format!("{}/{}.{name}", key.namespace, key.name);
            draft.provenance = Some(heddle_resource::ObjectRef {
                key: key.clone(),
                field: format!("spec.rules[{}]", candidate.rule).into(),
            });
            draft
        })
        .collect()
}

/// A route, and up to which share of the random value it takes requests; nothing: all that are left.
struct Branch {
    up_to: Option<Share>,
    draft: RouteDraft,
}

struct Branches<'a> {
    around: &'a dyn Surroundings,
    route: &'a model::Route,
    rule: &'a Rule,
    matched: &'a Match,
    port: u16,
}

type Resolved<'a> = (&'a Backend, Result<Destination, Fault>);

impl<'a> Branches<'a> {
    fn all(&self) -> Vec<Branch> {
        let field = |field: &str| format!("{} {field}", self.route.key);
        if let Some(denied) = &self.rule.denied {
            return vec![whole(respond(503, format!("{}: not built yet, so nothing passes", field(denied))))];
        }
        let redirects = self.rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
        let backends: Vec<Resolved<'_>> = self
            .rule
            .backends
            .iter()
            .filter(|backend| backend.weight > 0)
            .map(|backend| (backend, backend::resolve(self.around, self.route, backend)))
            .collect();
        if redirects {
            return vec![whole(self.act(None, RouteAction::default()))];
        }
        if backends.is_empty() {
            return vec![whole(self.fail(&format!("{}: no backend to send to", self.route.key)))];
        }
        let whole_way = |found: &Result<Destination, Fault>| {
            found.as_ref().is_ok_and(|destination| self.around.cluster(destination).is_ok())
        };
        let apart = backends.len() > 1
            && backends.iter().any(|(backend, found)| {
                !whole_way(found) || backend.filters.iter().any(|f| self.of_one_route(f))
            });
        if apart { self.shares(&backends) } else { vec![whole(self.together(&backends))] }
    }

    /// Whether a filter of a backend needs a route of its own. Header edits do not, unless the rule has
    /// some too: those of a backend come after the rule's, which a weighted cluster has the other way.
    fn of_one_route(&self, filter: &Filter) -> bool {
        let edits =
            |filter: &Filter| matches!(filter, Filter::RequestHeaders(_) | Filter::ResponseHeaders(_));
        !edits(filter) || self.rule.filters.iter().any(edits)
    }

    /// One route per backend.
    fn shares(&self, backends: &[Resolved<'a>]) -> Vec<Branch> {
        let total: u32 = backends.iter().map(|(backend, _)| backend.weight).fold(0, u32::saturating_add);
        let mut sum = 0_u32;
        let last = backends.len() - 1;
        backends
            .iter()
            .enumerate()
            .map(|(at, resolved)| {
                sum = sum.saturating_add(resolved.0.weight);
                let share = Share { numerator: sum, denominator: total };
                Branch {
                    up_to: (at != last).then_some(share),
                    draft: self.together(std::slice::from_ref(resolved)),
                }
            })
            .collect()
    }

    /// One route to all of these backends, of which none is invalid unless it is alone.
    fn together(&self, backends: &[Resolved<'a>]) -> RouteDraft {
        let mut clusters = Vec::new();
        for (backend, found) in backends {
            match found.as_ref().map(|destination| self.around.cluster(destination)) {
                Ok(Ok(cluster)) => clusters.push((*backend, cluster)),
                Ok(Err(denied)) => {
                    return respond(503, format!("{denied}; it protects this traffic"));
                }
                Err(fault) => return self.fail(&format!("{}: {}", self.route.key, fault.message)),
            }
        }
        let own = match backends {
            [(backend, _)] => Some(*backend),
            _ => None,
        };
        let target = match (&*clusters, own) {
            ([(_, cluster)], Some(_)) => ClusterSpecifier::Cluster(cluster.clone()),
            _ => ClusterSpecifier::WeightedClusters(weighted(&clusters)),
        };
        let timeout = Some(build::duration(self.rule.timeout.unwrap_or(Duration::ZERO)));
        #[expect(deprecated, reason = "what replaces it cannot shrink the deadline of `grpc-timeout`")]
        let action = RouteAction {
            max_grpc_timeout: timeout,
            timeout,
            retry_policy: Some(self.retry_policy()),
            priority: RoutingPriority::Default as i32,
            cluster_specifier: Some(target),
            ..Default::default()
        };
        self.act(own, action)
    }

    /// Applies the filters of the rule, and of the backend that has the route for itself.
    fn act(&self, own: Option<&Backend>, mut action: RouteAction) -> RouteDraft {
        let mut draft = RouteDraft::default();
        let (mut request, mut response) = (Edits::default(), Edits::default());
        let mut redirect = None;
        for filter in self.rule.filters.iter().chain(own.into_iter().flat_map(|backend| &backend.filters)) {
            match filter {
                Filter::RequestHeaders(edit) => request.push(edit),
                Filter::ResponseHeaders(edit) => response.push(edit),
                Filter::Redirect(to) => redirect = Some(filter::redirect(to, &self.matched.path, self.port)),
                Filter::Rewrite { host, path } => {
                    filter::rewrite(&mut action, host.as_deref(), path.as_ref(), &self.matched.path);
                }
                Filter::Mirror { backend, share } => {
                    // One that leads nowhere is reported in the status; the request itself is whole.
                    let destination = backend::resolve(self.around, self.route, backend).ok();
                    if let Some(cluster) = destination.and_then(|to| self.around.cluster(&to).ok()) {
                        action.request_mirror_policies.push(filter::mirror(cluster, *share));
                    }
                }
                Filter::Cors(cors) => {
                    draft.filters.insert(filter::CORS, filter::cors(cors));
                }
                Filter::Unknown { kind, .. } => {
                    return self.fail(&format!("{}: filter {kind} is not known here", self.route.key));
                }
            }
        }
        filter::set_headers(&mut draft.route, request, response);
        draft.route.action = Some(redirect.map_or(Action::Route(action), Action::Redirect));
        draft
    }

    /// The answer where a rule leads nowhere: 500, and for gRPC what its clients read as UNAVAILABLE.
    fn fail(&self, why: &str) -> RouteDraft {
        respond(if self.route.kind == RouteKind::Grpc { 503 } else { 500 }, why.to_owned())
    }

    fn retry_policy(&self) -> RetryPolicy {
        let mut policy = route::default_retry_policy();
        if let Some(retry) = &self.rule.retry {
            if let Some(attempts) = retry.attempts {
                policy.num_retries = build::uint(attempts);
            }
            policy.retriable_status_codes.clone_from(&retry.codes);
            if let Some(backoff) = retry.backoff.filter(|backoff| !backoff.is_zero()) {
                policy.retry_back_off =
                    Some(RetryBackOff { base_interval: Some(build::duration(backoff)), max_interval: None });
            }
        }
        policy.per_try_timeout =
            self.rule.attempt_timeout.filter(|timeout| !timeout.is_zero()).map(build::duration);
        policy
    }
}

fn whole(draft: RouteDraft) -> Branch {
    Branch { up_to: None, draft }
}

fn respond(status: u32, why: String) -> RouteDraft {
    let mut draft = RouteDraft::default();
    draft.route.action = Some(Action::DirectResponse(DirectResponseAction {
        status,
        body: Some(build::inline_string(why)),
        ..Default::default()
    }));
    draft
}

fn weighted(clusters: &[(&Backend, String)]) -> WeightedCluster {
    let weight = |(backend, name): &(&Backend, String)| {
        let (mut request, mut response) = (Edits::default(), Edits::default());
        for filter in &backend.filters {
            match filter {
                Filter::RequestHeaders(edit) => request.push(edit),
                Filter::ResponseHeaders(edit) => response.push(edit),
                _ => {}
            }
        }
        ClusterWeight {
            name: name.clone(),
            weight: build::uint(backend.weight),
            request_headers_to_add: request.write,
            request_headers_to_remove: request.remove,
            response_headers_to_add: response.write,
            response_headers_to_remove: response.remove,
            ..Default::default()
        }
    };
    WeightedCluster { clusters: clusters.iter().map(weight).collect(), ..Default::default() }
}

fn route_match(matched: &Match) -> RouteMatch {
    let path = match &matched.path {
        Path::Exact(path) => PathSpecifier::Path(path.clone()),
        Path::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
        Path::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
        Path::Regex(pattern) => PathSpecifier::SafeRegex(build::regex(pattern)),
    };
    let method = matched.method.iter().map(|method| (":method".to_owned(), Text::Exact(method.clone())));
    RouteMatch {
        path_specifier: Some(path),
        headers: method
            .chain(matched.headers.iter().cloned())
            .map(|(name, text)| HeaderMatcher {
                name,
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(build::string(pattern(
                    &text,
                )))),
                ..Default::default()
            })
            .collect(),
        query_parameters: matched
            .query
            .iter()
            .map(|(name, text)| QueryParameterMatcher {
                name: name.clone(),
                query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(
                    build::string(pattern(text)),
                )),
            })
            .collect(),
        ..Default::default()
    }
}

fn pattern(text: &Text) -> MatchPattern {
    match text {
        Text::Exact(text) => MatchPattern::Exact(text.clone()),
        Text::Regex(pattern) => MatchPattern::SafeRegex(build::regex(pattern)),
    }
}
