//! Delegation: a root route and a delegate's route become one.

use std::collections::BTreeMap;

use heddle_resource::istio::{HeaderMatch, HttpMatchRequest, HttpRoute, StringMatch};

/// The delegate's route as the root confines it; `None` when no request can match both.
pub(super) fn delegate(root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = leaf.clone();
    merged.matches = matches(root, leaf)?;
    if merged.name.is_empty() {
        merged.name.clone_from(&root.name);
    } else if !root.name.is_empty() {
        merged.name = format!("{}-{}", root.name, leaf.name);
    }
    macro_rules! inherit {
        ($($field:ident),*) => { $(if merged.$field.is_none() { merged.$field.clone_from(&root.$field); })* };
    }
    inherit!(
        rewrite,
        timeout,
        retries,
        fault,
        mirror,
        mirror_percentage,
        mirror_percent,
        cors_policy,
        headers
    );
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    Some(merged)
}

fn matches(root: &HttpRoute, leaf: &HttpRoute) -> Option<Vec<HttpMatchRequest>> {
    if root.matches.is_empty() {
        return Some(leaf.matches.clone());
    }
    if leaf.matches.is_empty() {
        return Some(root.matches.clone());
    }
    let mut merged = Vec::new();
    for root in &root.matches {
        merged.extend(leaf.matches.iter().filter_map(|leaf| one(root, leaf)));
    }
    (!merged.is_empty()).then_some(merged)
}

fn one(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let parts = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let headers = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let conflict = parts.into_iter().any(|(root, leaf)| contradicts(root.as_ref(), leaf.as_ref()))
        || headers.into_iter().any(|(root, leaf)| headers_contradict(root, leaf))
        || root.ignore_uri_case != leaf.ignore_uri_case
        || matches!((root.port, leaf.port), (Some(root), Some(leaf)) if root != leaf)
        || differ(&root.source_namespace, &leaf.source_namespace)
        || root.source_labels.iter().any(|(k, v)| leaf.source_labels.get(k).is_some_and(|own| own != v));
    if conflict {
        return None;
    }
    let mut merged = root.clone();
    macro_rules! prefer {
        ($($field:ident),*) => { $(if leaf.$field.is_some() { merged.$field.clone_from(&leaf.$field); })* };
    }
    prefer!(uri, scheme, method, authority, port);
    macro_rules! extend {
        ($($field:ident),*) => { $(merged.$field.extend(leaf.$field.clone());)* };
    }
    extend!(headers, without_headers, query_params, source_labels);
    if !leaf.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&leaf.source_namespace);
    }
    if !leaf.gateways.is_empty() {
        merged.gateways.clone_from(&leaf.gateways);
    }
    if !leaf.name.is_empty() {
        merged.name.clone_from(&leaf.name);
    }
    Some(merged)
}

fn differ(root: &str, leaf: &str) -> bool {
    !root.is_empty() && !leaf.is_empty() && root != leaf
}

fn headers_contradict(root: &BTreeMap<String, HeaderMatch>, leaf: &BTreeMap<String, HeaderMatch>) -> bool {
    leaf.iter().any(|(name, leaf)| {
        root.get(name).is_some_and(|root| contradicts(root.value().as_ref(), leaf.value().as_ref()))
    })
}

/// Istio's `stringMatchConflict`: the leaf has to lie within the root; regexes are not compared.
fn contradicts(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    match (root, leaf) {
        (StringMatch::Regex(_), _) | (_, StringMatch::Regex(_)) => true,
        (StringMatch::Exact(root), StringMatch::Exact(leaf)) => root != leaf,
        (StringMatch::Exact(_), StringMatch::Prefix(_)) => true,
        (StringMatch::Prefix(root), StringMatch::Prefix(leaf) | StringMatch::Exact(leaf)) => {
            !leaf.starts_with(root.as_str())
        }
    }
}
