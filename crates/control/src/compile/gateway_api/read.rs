//! From the resources as written to the form in which they are judged.

use heddle_resource::{Object, Spec, gateway as api};

use super::{
    hostname::Hostname,
    model::{
        Backend, Cors, Filter, GROUP, Grant, HeaderEdit, Match, ParentRef, Path, PathEdit, Redirect,
        Reference, Retry, Route, RouteKind, Rule, Share, Text,
    },
};

mod listeners;

pub(crate) use listeners::{gateway, listener_set, own, parent_of};

fn text(text: Option<&String>, default: &str) -> String {
    text.map_or(default, String::as_str).to_owned()
}

/// A route of any kind; nothing for other objects.
pub(crate) fn route(object: &Object) -> Option<Route> {
    let namespace = &*object.meta.namespace;
    let (kind, hostnames, parents, rules) = match &object.spec {
        Spec::HttpRoute(route) => {
            let rules = route.spec.rules.iter().map(|rule| http_rule(rule, namespace)).collect();
            (RouteKind::Http, &*route.spec.hostnames, &route.spec.parent_refs, rules)
        }
        Spec::GrpcRoute(route) => {
            let rules = route.spec.rules.iter().map(|rule| grpc_rule(rule, namespace)).collect();
            (RouteKind::Grpc, &*route.spec.hostnames, &route.spec.parent_refs, rules)
        }
        Spec::TcpRoute(route) => {
            let rules = route.spec.rules.iter().map(|rule| l4_rule(rule, namespace)).collect();
            (RouteKind::Tcp, &[][..], &route.spec.parent_refs, rules)
        }
        Spec::TlsRoute(route) => {
            let rules = route.spec.rules.iter().map(|rule| l4_rule(rule, namespace)).collect();
            (RouteKind::Tls, &*route.spec.hostnames, &route.spec.parent_refs, rules)
        }
        _ => return None,
    };
    Some(Route {
        kind,
        key: object.key(),
        generation: object.meta.generation,
        created: object.meta.creation_timestamp.clone(),
        hostnames: hostnames.iter().map(|hostname| Hostname::new(hostname)).collect(),
        parents: parents.iter().map(parent).collect(),
        rules,
    })
}

fn parent(parent: &api::ParentReference) -> ParentRef {
    ParentRef {
        group: text(parent.group.as_ref(), GROUP),
        kind: text(parent.kind.as_ref(), "Gateway"),
        namespace: parent.namespace.clone(),
        name: parent.name.clone(),
        section: parent.section_name.clone(),
        port: parent.port,
    }
}

fn http_rule(rule: &api::HttpRouteRule, namespace: &str) -> Rule {
    let mut matches: Vec<_> = rule.matches.iter().map(http_match).collect();
    if matches.is_empty() {
        matches.push(Match::default());
    }
    let timeouts = rule.timeouts.as_ref();
    Rule {
        name: rule.name.clone(),
        matches,
        denied: denied(&rule.filters, &rule.backend_refs),
        filters: filters(&rule.filters, namespace),
        backends: rule.backend_refs.iter().map(|backend| http_backend(backend, namespace)).collect(),
        timeout: timeouts.and_then(|timeouts| timeouts.request).map(|timeout| timeout.0),
        attempt_timeout: timeouts.and_then(|timeouts| timeouts.backend_request).map(|timeout| timeout.0),
        retry: rule.retry.as_ref().map(|retry| Retry {
            codes: retry.codes.clone(),
            attempts: retry.attempts.and_then(|attempts| u32::try_from(attempts).ok()),
            backoff: retry.backoff.map(|backoff| backoff.0),
        }),
    }
}

/// A filter that restricts access and is not built.
fn denied(filters: &[api::HttpRouteFilter], backends: &[api::HttpBackendRef]) -> Option<String> {
    let all = filters.iter().chain(backends.iter().flat_map(|backend| &backend.filters));
    all.into_iter()
        .any(|filter| filter.type_ == "ExternalAuth" || filter.external_auth.is_some())
        .then(|| "spec.rules[].filters[].externalAuth".to_owned())
}

fn http_match(matched: &api::HttpRouteMatch) -> Match {
    let path = matched.path.as_ref().map_or_else(Path::default, |path| {
        let value = path.value.clone().unwrap_or_else(|| "/".to_owned());
        match path.type_.as_deref() {
            Some("Exact") => Path::Exact(value),
            Some("RegularExpression") => Path::Regex(value),
            _ => Path::Prefix(value.trim_end_matches('/').to_owned()),
        }
    });
    Match {
        path,
        rpc: None,
        method: matched.method.clone(),
        headers: texts(&matched.headers),
        query: texts(&matched.query_params),
    }
}

/// Of several matches of one name only the first counts.
fn texts(matches: &[api::HttpHeaderMatch]) -> Vec<(String, Text)> {
    let mut texts: Vec<(String, Text)> = Vec::new();
    for one in matches {
        if texts.iter().any(|(name, _)| name.eq_ignore_ascii_case(&one.name)) {
            continue;
        }
        let text = match one.type_.as_deref() {
            Some("RegularExpression") => Text::Regex(one.value.clone()),
            _ => Text::Exact(one.value.clone()),
        };
        texts.push((one.name.clone(), text));
    }
    texts
}

fn http_backend(backend: &api::HttpBackendRef, namespace: &str) -> Backend {
    Backend {
        to: Reference {
            group: text(backend.group.as_ref(), ""),
            kind: text(backend.kind.as_ref(), "Service"),
            namespace: text(backend.namespace.as_ref(), namespace),
            name: backend.name.clone(),
        },
        port: backend.port,
        weight: weight(backend.weight),
        filters: filters(&backend.filters, namespace),
    }
}

fn weight(weight: Option<i32>) -> u32 {
    weight.map_or(1, |weight| u32::try_from(weight).unwrap_or(0))
}

fn grpc_rule(rule: &api::GrpcRouteRule, namespace: &str) -> Rule {
    let mut matches: Vec<_> = rule.matches.iter().map(grpc_match).collect();
    if matches.is_empty() {
        matches.push(Match { rpc: Some((0, 0)), ..Match::default() });
    }
    Rule {
        name: rule.name.clone(),
        matches,
        denied: denied(&rule.filters, &rule.backend_refs),
        filters: filters(&rule.filters, namespace),
        backends: rule.backend_refs.iter().map(|backend| http_backend(backend, namespace)).collect(),
        ..Rule::default()
    }
}

/// A gRPC method is the path `/SERVICE/METHOD`.
fn grpc_match(matched: &api::GrpcRouteMatch) -> Match {
    let method = matched.method.as_ref();
    let service = method.and_then(|method| method.service.as_deref()).filter(|name| !name.is_empty());
    let name = method.and_then(|method| method.method.as_deref()).filter(|name| !name.is_empty());
    let regex = method.and_then(|method| method.type_.as_deref()) == Some("RegularExpression");
    const ANY: &str = "[^/]+";
    let path = match (service, name) {
        (None, None) => Path::default(),
        (service, name) if regex => {
            Path::Regex(format!("/(?:{})/(?:{})", service.unwrap_or(ANY), name.unwrap_or(ANY)))
        }
        (Some(service), Some(name)) => Path::Exact(format!("/{service}/{name}")),
        (Some(service), None) => Path::Prefix(format!("/{service}")),
        // A method's name has only letters, digits and underscores: nothing to quote.
        (None, Some(name)) => Path::Regex(format!("/{ANY}/{name}")),
    };
    let length = |name: Option<&str>| name.map_or(0, str::len);
    Match {
        path,
        rpc: Some((length(service), length(name))),
        headers: texts(&matched.headers),
        ..Match::default()
    }
}

fn l4_rule(rule: &api::L4RouteRule, namespace: &str) -> Rule {
    let backend = |backend: &api::BackendRef| Backend {
        to: Reference {
            group: text(backend.group.as_ref(), ""),
            kind: text(backend.kind.as_ref(), "Service"),
            namespace: text(backend.namespace.as_ref(), namespace),
            name: backend.name.clone(),
        },
        port: backend.port,
        weight: weight(backend.weight),
        filters: Vec::new(),
    };
    Rule {
        name: rule.name.clone(),
        backends: rule.backend_refs.iter().map(backend).collect(),
        ..Rule::default()
    }
}

fn filters(filters: &[api::HttpRouteFilter], namespace: &str) -> Vec<Filter> {
    filters.iter().map(|one| filter(one, namespace)).collect()
}

fn filter(filter: &api::HttpRouteFilter, namespace: &str) -> Filter {
    let read = || {
        Some(match &*filter.type_ {
            "RequestHeaderModifier" => {
                Filter::RequestHeaders(headers(filter.request_header_modifier.as_ref()?))
            }
            "ResponseHeaderModifier" => {
                Filter::ResponseHeaders(headers(filter.response_header_modifier.as_ref()?))
            }
            "RequestRedirect" => Filter::Redirect(redirect(filter.request_redirect.as_ref()?)),
            "URLRewrite" => {
                let rewrite = filter.url_rewrite.as_ref()?;
                let path = rewrite.path.as_ref().and_then(path_edit);
                Filter::Rewrite { host: rewrite.hostname.clone(), path }
            }
            "RequestMirror" => mirror(filter.request_mirror.as_ref()?, namespace),
            "CORS" => Filter::Cors(cors(filter.cors.as_ref()?)),
            _ => return None,
        })
    };
    read().unwrap_or_else(|| Filter::Unknown {
        kind: filter.type_.clone(),
        reference: filter.extension_ref.as_ref().map(|to| Reference {
            group: text(to.group.as_ref(), ""),
            kind: text(to.kind.as_ref(), ""),
            namespace: namespace.to_owned(),
            name: to.name.clone(),
        }),
    })
}

fn headers(edit: &api::HeaderFilter) -> HeaderEdit {
    let pairs =
        |headers: &[api::HttpHeader]| headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
    HeaderEdit { set: pairs(&edit.set), add: pairs(&edit.add), remove: edit.remove.clone() }
}

fn redirect(redirect: &api::RedirectFilter) -> Redirect {
    Redirect {
        scheme: redirect.scheme.clone(),
        host: redirect.hostname.clone(),
        path: redirect.path.as_ref().and_then(path_edit),
        port: redirect.port,
        status: redirect.status_code,
    }
}

fn path_edit(edit: &api::PathModifier) -> Option<PathEdit> {
    match &*edit.type_ {
        "ReplaceFullPath" => edit.replace_full_path.clone().map(PathEdit::Full),
        _ => edit.replace_prefix_match.clone().map(PathEdit::Prefix),
    }
}

fn mirror(mirror: &api::MirrorFilter, namespace: &str) -> Filter {
    let share = |numerator: i32, denominator: i32| Share {
        numerator: u32::try_from(numerator).unwrap_or(0),
        denominator: u32::try_from(denominator).unwrap_or(100),
    };
    let fraction = mirror.fraction.as_ref().map(|f| share(f.numerator, f.denominator.unwrap_or(100)));
    let to = &mirror.backend_ref;
    let backend = Backend {
        to: Reference {
            group: text(to.group.as_ref(), ""),
            kind: text(to.kind.as_ref(), "Service"),
            namespace: text(to.namespace.as_ref(), namespace),
            name: to.name.clone(),
        },
        port: to.port,
        weight: 1,
        filters: Vec::new(),
    };
    let share = fraction.or_else(|| mirror.percent.map(|percent| share(percent, 100))).unwrap_or_default();
    Filter::Mirror { backend, share }
}

fn cors(cors: &api::CorsFilter) -> Cors {
    Cors {
        origins: cors.allow_origins.clone(),
        credentials: cors.allow_credentials.unwrap_or(false),
        methods: cors.allow_methods.clone(),
        headers: cors.allow_headers.clone(),
        expose: cors.expose_headers.clone(),
        max_age: cors.max_age.map(i64::from),
    }
}

/// A ReferenceGrant.
pub(crate) fn grant(object: &Object) -> Option<Grant> {
    let Spec::ReferenceGrant(grant) = &object.spec else { return None };
    let from =
        grant.spec.from.iter().map(|from| (from.group.clone(), from.kind.clone(), from.namespace.clone()));
    let to = grant.spec.to.iter().map(|to| (to.group.clone(), to.kind.clone(), to.name.clone()));
    Some(Grant { namespace: object.meta.namespace.to_string(), from: from.collect(), to: to.collect() })
}
