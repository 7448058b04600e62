//! What a route does with a request.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::route::v3::{
        DirectResponseAction, RedirectAction, Route, RouteAction, RouteMatch, WeightedCluster,
        redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
        route::Action,
        route_action::{ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy},
        weighted_cluster::{ClusterWeight, cluster_weight},
    },
    r#type::matcher::v3::RegexMatchAndSubstitute,
};
use heddle_resource::{
    ObjectRef,
    istio::{Destination, HttpMatchRequest, HttpRedirect, HttpRoute, HttpRouteDestination, RedirectPort},
};
use heddle_xds::ClientKind;

use super::{
    Place, Resolved, dangling, deny, destination,
    extras::{self, Target},
    no_timeout,
};
use crate::{
    compile::{
        build::{any, boolean, duration, inline_string, regex, runtime_fraction, uint},
        canonical::RouteDraft,
        cx::Cx,
    },
    finding::{Finding, code},
};

/// One route of a VirtualService and where it is wanted.
#[derive(Clone, Copy)]
pub(super) struct Context<'a, 'c> {
    pub(super) cx: &'a Cx<'c>,
    pub(super) route: &'a HttpRoute,
    /// The VirtualService's.
    pub(super) namespace: &'a Arc<str>,
    pub(super) place: Place<'a>,
    pub(super) of: &'a ObjectRef,
}

impl Context<'_, '_> {
    pub(super) fn draft(&self, matched: RouteMatch, request: Option<&HttpMatchRequest>) -> RouteDraft {
        let mut draft = RouteDraft {
            route: Route { name: self.name(request), r#match: Some(matched), ..Default::default() },
            ..Default::default()
        };
        if self.cx.client() == ClientKind::Heddle {
            draft.provenance = Some(self.of.clone());
        }
        if let Some(headers) = &self.route.headers {
            extras::set_headers(headers, &mut draft.route);
        }
        draft.route.action = Some(self.action(&mut draft.route));
        if let Some(fault) = &self.route.fault {
            draft.filters.insert(extras::FAULT, any(&extras::fault(fault)));
        }
        if let Some(cors) = &self.route.cors_policy {
            draft.filters.insert(extras::CORS, any(&extras::cors(cors)));
        }
        draft
    }

    fn name(&self, request: Option<&HttpMatchRequest>) -> String {
        match request.map(|request| request.name.as_str()).filter(|name| !name.is_empty()) {
            Some(name) if self.route.name.is_empty() => name.to_owned(),
            Some(name) => format!("{}.{name}", self.route.name),
            None => self.route.name.clone(),
        }
    }

    fn action(&self, route: &mut Route) -> Action {
        if let Some(redirect) = &self.route.redirect {
            return Action::Redirect(self.redirect(redirect));
        }
        if let Some(response) = &self.route.direct_response {
            let body = response.body.as_ref();
            let text = body.and_then(|body| body.string.clone());
            return Action::DirectResponse(DirectResponseAction {
                status: response.status,
                body: match (text, body.and_then(|body| body.bytes.as_deref())) {
                    (Some(text), _) => Some(inline_string(text)),
                    (None, Some(encoded)) => Some(extras::inline_bytes(encoded)),
                    (None, None) => None,
                },
                ..Default::default()
            });
        }
        self.forward(route)
    }

    fn redirect(&self, redirect: &HttpRedirect) -> RedirectAction {
        let port = match (redirect.port, redirect.derive_port) {
            (Some(port), _) => port,
            // The routes are made for one port.
            (None, Some(RedirectPort::FromRequestPort)) => u32::from(self.place.port),
            (None, _) => 0,
        };
        let code = match redirect.redirect_code {
            Some(302) => RedirectResponseCode::Found,
            Some(303) => RedirectResponseCode::SeeOther,
            Some(307) => RedirectResponseCode::TemporaryRedirect,
            Some(308) => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::MovedPermanently,
        };
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RedirectAction {
            host_redirect: redirect.authority.clone(),
            port_redirect: port,
            response_code: code as i32,
            scheme_rewrite_specifier: given(&redirect.scheme).map(SchemeRewriteSpecifier::SchemeRedirect),
            path_rewrite_specifier: given(&redirect.uri).map(PathRewriteSpecifier::PathRedirect),
            ..Default::default()
        }
    }

    fn forward(&self, route: &mut Route) -> Action {
        let rule = self.route;
        let destinations = self.destinations();
        if let Some(denied) = destinations.iter().find_map(|(_, to)| to.denied.as_ref())
            && destinations.iter().all(|(_, to)| to.denied.is_some())
        {
            return deny(denied);
        }
        let mut action = RouteAction {
            cluster_specifier: Some(self.clusters(&destinations, route)),
            request_mirror_policies: self.mirrors(),
            retry_policy: extras::retry_policy(rule.retries.as_ref()),
            ..no_timeout()
        };
        if let Some(timeout) = rule.timeout {
            let timeout = Some(duration(timeout.0));
            #[expect(deprecated, reason = "as in no_timeout")]
            {
                action.max_grpc_timeout = timeout;
            }
            action.timeout = timeout;
        }
        // `host` among the headers to set means the authority.
        action.host_rewrite_specifier =
            extras::host_of(rule.headers.as_ref()).map(HostRewriteSpecifier::HostRewriteLiteral);
        if let Some(rewrite) = &rule.rewrite {
            if !rewrite.authority.is_empty() {
                action.host_rewrite_specifier =
                    Some(HostRewriteSpecifier::HostRewriteLiteral(rewrite.authority.clone()));
            }
            if let Some(by_regex) = &rewrite.uri_regex_rewrite {
                action.regex_rewrite = Some(RegexMatchAndSubstitute {
                    pattern: Some(regex(&by_regex.matches)),
                    substitution: by_regex.rewrite.clone(),
                });
            } else if !rewrite.uri.is_empty() {
                action.prefix_rewrite.clone_from(&rewrite.uri);
            }
        }
        if let [(to, _)] = destinations.as_slice()
            && let Some(host) = extras::host_of(to.headers.as_ref())
        {
            action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host));
        }
        Action::Route(action)
    }

    /// The destinations that take part: those of weight 0 only where they are alone.
    fn destinations(&self) -> Vec<(&HttpRouteDestination, Resolved<'_>)> {
        let route = &self.route.route;
        let alone = route.len() == 1;
        let taking_part = route.iter().enumerate().filter(|(_, to)| alone || to.weight > 0);
        taking_part
            .map(|(n, to)| {
                let resolved = self.resolve(&to.destination, &format!("route[{n}].destination"));
                (to, resolved)
            })
            .collect()
    }

    fn resolve(&self, to: &Destination, field: &str) -> Resolved<'_> {
        let resolved = destination(self.cx, to, self.namespace, self.place.port);
        let at = || {
            let path = format!("{}.{field}", self.of.field);
            ObjectRef { key: self.of.key.clone(), field: path.into() }
        };
        if let Some(denied) = &resolved.denied {
            let message = format!("{denied}; it protects this traffic: requests get 503");
            self.cx.report(Finding::new(code::DENIED, at(), message));
        } else if let Some(fault) = dangling(self.cx, to, &resolved) {
            self.cx.report(Finding::new(code::DANGLING, at(), format!("{fault}: requests get 503")));
        }
        resolved
    }

    fn clusters(
        &self,
        destinations: &[(&HttpRouteDestination, Resolved<'_>)],
        route: &mut Route,
    ) -> ClusterSpecifier {
        if let [(to, resolved)] = destinations {
            if let Some(headers) = &to.headers {
                extras::set_headers(headers, route);
            }
            return ClusterSpecifier::Cluster(resolved.cluster.clone());
        }
        let clusters = destinations.iter().map(|(to, resolved)| {
            let mut weight = ClusterWeight {
                name: resolved.cluster.clone(),
                weight: uint(u32::try_from(to.weight).unwrap_or_default()),
                host_rewrite_specifier: extras::host_of(to.headers.as_ref())
                    .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            };
            if let Some(headers) = &to.headers {
                extras::set_headers(headers, &mut weight);
            }
            if let Some(denied) = &resolved.denied {
                // One entry, so that the map has but one order.
                let refusal = any(&extras::refusal(denied));
                weight.typed_per_filter_config.insert(extras::FAULT.to_owned(), refusal);
            }
            weight
        });
        ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: clusters.collect(),
            ..Default::default()
        })
    }

    fn mirrors(&self) -> Vec<RequestMirrorPolicy> {
        let rule = self.route;
        let mut found = Vec::new();
        if let Some(mirror) = &rule.mirror {
            let percent = rule.mirror_percentage.as_ref().map(|percent| percent.value);
            let whole = rule.mirror_percent.or(rule.mirror_percent_snake).map(f64::from);
            found.push((mirror, percent.or(whole).unwrap_or(100.0), "mirror".to_owned()));
        }
        for (n, mirror) in rule.mirrors.iter().enumerate() {
            let percent = mirror.percentage.as_ref().map_or(100.0, |percent| percent.value);
            found.push((&mirror.destination, percent, format!("mirrors[{n}].destination")));
        }
        let found = found.into_iter().filter(|(_, percent, _)| *percent > 0.0);
        let policies = found.filter_map(|(to, percent, field)| {
            let resolved = self.resolve(to, &field);
            resolved.denied.is_none().then(|| RequestMirrorPolicy {
                cluster: resolved.cluster,
                runtime_fraction: Some(runtime_fraction(percent)),
                trace_sampled: boolean(false),
                ..Default::default()
            })
        });
        policies.collect()
    }
}

impl Target for Route {
    fn parts(&mut self) -> extras::Parts<'_> {
        extras::Parts {
            request_add: &mut self.request_headers_to_add,
            request_remove: &mut self.request_headers_to_remove,
            response_add: &mut self.response_headers_to_add,
            response_remove: &mut self.response_headers_to_remove,
        }
    }
}

impl Target for ClusterWeight {
    fn parts(&mut self) -> extras::Parts<'_> {
        extras::Parts {
            request_add: &mut self.request_headers_to_add,
            request_remove: &mut self.request_headers_to_remove,
            response_add: &mut self.response_headers_to_add,
            response_remove: &mut self.response_headers_to_remove,
        }
    }
}
