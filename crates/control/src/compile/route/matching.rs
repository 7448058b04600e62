//! Request matches.

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use heddle_resource::istio::{HeaderMatch, HttpMatchRequest, StringMatch};

use super::Place;
use crate::compile::{
    build::{boolean, regex, string},
    cx::Cx,
};

/// Every request.
pub(crate) fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// Whether a match takes every request.
pub(crate) fn is_everything(matched: &RouteMatch) -> bool {
    let path = match &matched.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == "*" || regex.regex == ".*",
        _ => false,
    };
    path && matched.headers.is_empty() && matched.query_parameters.is_empty()
}

/// Whether a match can hold for this scope at this place: the parts that no request decides.
pub(super) fn applies(cx: &Cx<'_>, matched: &HttpMatchRequest, place: Place<'_>) -> bool {
    if matched.port.is_some_and(|port| port != place.port) {
        return false;
    }
    source_applies(cx, &matched.gateways, &matched.source_namespace, &matched.source_labels, place)
}

/// The same for the parts that matches of HTTP, TCP and TLS share.
pub(crate) fn source_applies(
    cx: &Cx<'_>,
    gateways: &[String],
    source_namespace: &str,
    source_labels: &std::collections::BTreeMap<String, String>,
    place: Place<'_>,
) -> bool {
    let here = |gateway: &String| {
        place
            .gateways
            .iter()
            .any(|own| **own == **gateway || own.rsplit_once('/').is_some_and(|(_, name)| name == gateway))
    };
    if !gateways.is_empty() && !gateways.iter().any(here) {
        return false;
    }
    let mesh = place.gateways.iter().any(|gateway| &**gateway == "mesh");
    if !mesh {
        // Where traffic enters, there is no source workload; Istio leaves such matches out there.
        return source_namespace.is_empty() && (source_labels.is_empty() || cx.has_labels(source_labels));
    }
    if !source_namespace.is_empty() && **cx.namespace() != *source_namespace {
        return false;
    }
    cx.has_labels(source_labels)
}

/// A match as Envoy's.
///
/// # Errors
/// What in it cannot be matched.
pub(super) fn translate(matched: &HttpMatchRequest) -> Result<RouteMatch, String> {
    let mut found = everything();
    if let Some(uri) = &matched.uri {
        found.path_specifier = Some(match uri {
            StringMatch::Exact(path) => PathSpecifier::Path(path.clone()),
            StringMatch::Prefix(path) => PathSpecifier::Prefix(path.clone()),
            StringMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
        });
    }
    if matched.ignore_uri_case {
        found.case_sensitive = boolean(false);
        if let Some(PathSpecifier::SafeRegex(pattern)) = &mut found.path_specifier {
            // Case sensitivity does not concern regexes in Envoy.
            if !pattern.regex.starts_with("(?i)") {
                pattern.regex.insert_str(0, "(?i)");
            }
            found.case_sensitive = None;
        }
    }
    for (name, value) in &matched.headers {
        check_name(name)?;
        found.headers.push(header(name, value.value(), false));
    }
    for (name, value) in &matched.without_headers {
        check_name(name)?;
        found.headers.push(header(name, value.value(), true));
    }
    let pseudo =
        [(":method", &matched.method), (":authority", &matched.authority), (":scheme", &matched.scheme)];
    for (name, value) in pseudo {
        if let Some(value) = value {
            found.headers.push(header(name, Some(value.clone()), false));
        }
    }
    for (name, value) in &matched.query_params {
        found.query_parameters.push(query(name, value));
    }
    Ok(found)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with("@request.auth.") {
        return Err(format!("header match {name} reads a token, which is not built yet: nothing matches it"));
    }
    Ok(())
}

fn header(name: &str, value: Option<StringMatch>, invert: bool) -> HeaderMatcher {
    let specifier = match value {
        Some(value) => HeaderMatchSpecifier::StringMatch(string_matcher(value)),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

pub(super) fn string_matcher(value: StringMatch) -> StringMatcher {
    match value {
        StringMatch::Exact(text) => string(MatchPattern::Exact(text)),
        // Envoy refuses an empty prefix, which everything has.
        StringMatch::Prefix(text) if text.is_empty() => string(MatchPattern::SafeRegex(regex(".*"))),
        StringMatch::Prefix(text) => string(MatchPattern::Prefix(text)),
        StringMatch::Regex(pattern) => string(MatchPattern::SafeRegex(regex(&pattern))),
    }
}

fn query(name: &str, value: &HeaderMatch) -> QueryParameterMatcher {
    let specifier = match value.value() {
        Some(value) => QueryParameterMatchSpecifier::StringMatch(string_matcher(value)),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}
