use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};

use super::super::fixture::Fixture;

const BASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: apps}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: apps}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: apps}
spec:
  gatewayClassName: heddle
  listeners: LISTENERS
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: first, namespace: apps}
spec:
  parentRefs: [{name: edge}]
  FIRST
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: second, namespace: apps}
spec:
  parentRefs: [{name: edge}]
  SECOND
";

const HTTP: &str = "[{name: http, port: 80, protocol: HTTP}]";
const TO_A: &str = "backendRefs: [{name: a, port: 80}]";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

/// The virtual hosts: domain and routes.
fn table(listeners: &str, first: &str, second: &str) -> Vec<(String, Vec<Route>)> {
    table_of(BASE, listeners, first, second)
}

fn table_of(base: &str, listeners: &str, first: &str, second: &str) -> Vec<(String, Vec<Route>)> {
    let yaml = base.replace("LISTENERS", listeners).replace("FIRST", first).replace("SECOND", second);
    let fixture = Fixture::of(&yaml);
    let attachment = fixture.attach("edge");
    super::virtual_hosts(&attachment, 80, None, &fixture)
        .into_iter()
        .map(|host| (host.domain.to_string(), host.routes.into_iter().map(|draft| draft.route).collect()))
        .collect()
}

/// The only virtual host's routes.
fn routes(first: &str, second: &str) -> Vec<Route> {
    let mut table = table(HTTP, first, second);
    assert_eq!(table.len(), 1);
    table.remove(0).1
}

fn path(route: &Route) -> String {
    match route.r#match.as_ref().unwrap().path_specifier.as_ref().unwrap() {
        PathSpecifier::Prefix(path) => format!("prefix {path}"),
        PathSpecifier::Path(path) => format!("exact {path}"),
        PathSpecifier::PathSeparatedPrefix(path) => format!("segments {path}"),
        PathSpecifier::SafeRegex(regex) => format!("regex {}", regex.regex),
        other => panic!("{other:?}"),
    }
}

/// Where a route leads, in a few words.
fn target(route: &Route) -> String {
    match route.action.as_ref().unwrap() {
        Action::DirectResponse(response) => response.status.to_string(),
        Action::Redirect(_) => "redirect".to_owned(),
        Action::Route(action) => match action.cluster_specifier.as_ref().unwrap() {
            ClusterSpecifier::Cluster(cluster) => short(cluster),
            ClusterSpecifier::WeightedClusters(weighted) => {
                let clusters = weighted.clusters.iter();
                clusters.map(|c| format!("{}:{} ", short(&c.name), c.weight.unwrap().value)).collect()
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn short(cluster: &str) -> String {
    cluster.rsplit('|').next().unwrap().split('.').next().unwrap().to_owned()
}

fn action(route: &Route) -> &RouteAction {
    match route.action.as_ref().unwrap() {
        Action::Route(action) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn precedence_across_routes() {
    let first = format!(
        "rules: [{{matches: [{{}}, {{path: {{value: /api}}}}], {TO_A}}},
                 {{matches: [{{path: {{value: /api}}, headers: [{{name: x, value: y}}]}}], {TO_A}}}]"
    );
    let second = format!(
        "rules: [{{matches: [{{path: {{type: Exact, value: /api}}}}, {{path: {{value: /api/v2}}}},
                             {{path: {{value: /api}}, method: GET}},
                             {{path: {{type: RegularExpression, value: '/a.*'}}}}], {TO_B}}}]"
    );
    let routes = routes(&first, &second);
    let order: Vec<_> = routes
        .iter()
        .map(|route| {
            let headers = &route.r#match.as_ref().unwrap().headers;
            format!(
                "{} {}{}",
                path(route),
                target(route),
                headers.iter().map(|h| format!(" {}", h.name)).collect::<String>()
            )
        })
        .collect();
    assert_eq!(
        order,
        [
            "exact /api b",
            "regex /a.* b",
            "segments /api/v2 b",
            "segments /api b :method",
            "segments /api a x",
            "segments /api a",
            "prefix / a",
        ]
    );
}

#[test]
fn equal_matches_go_to_the_older_route_then_by_name() {
    let routes = routes(&format!("rules: [{{{TO_A}}}]"), &format!("rules: [{{{TO_B}}}]"));
    assert_eq!(routes.iter().map(target).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_name_belongs_to_the_most_specific_listener_alone() {
    let listeners =
        "[{name: any, port: 80, protocol: HTTP}, {name: one, port: 80, protocol: HTTP, hostname: a.io}]";
    let of = |section: &str| {
        let first = format!("hostnames: ['*.io', b.io]\n  rules: [{{{TO_A}}}]");
        let second = format!("rules: [{{matches: [{{path: {{value: /b}}}}], {TO_B}}}]");
        let yaml = BASE.replacen("[{name: edge}]", &format!("[{{name: edge{section}}}]"), 1);
        let table = table_of(&yaml, listeners, &first, &second);
        table
            .into_iter()
            .map(|(name, routes)| (name, routes.iter().map(target).collect()))
            .collect::<Vec<_>>()
    };
    let host = |name: &str, targets: &[&str]| {
        (name.to_owned(), targets.iter().map(|&t| t.to_owned()).collect::<Vec<_>>())
    };
    // Where both refer to both listeners, both have a.io there, and the longer path comes first.
    assert_eq!(
        of(""),
        [host("*", &["b"]), host("*.io", &["a", "b"]), host("a.io", &["b", "a"]), host("b.io", &["a", "b"])]
    );
    // Where the first refers to the other listener only, its wildcard does not reach a.io.
    assert_eq!(
        of(", sectionName: any"),
        [host("*", &["b"]), host("*.io", &["a", "b"]), host("a.io", &["b"]), host("b.io", &["a", "b"])]
    );
}

#[test]
fn weights_and_shares() {
    let of = |backends: &str| -> Vec<(Option<u32>, String)> {
        routes(
            &format!("rules: [{{backendRefs: {backends}}}]"),
            "rules: [{matches: [{path: {type: Exact, value: /never}}], backendRefs: [{name: b, port: 80}]}]",
        )
        .iter()
        .filter(|route| path(route) == "prefix /")
        .map(|route| {
            let fraction = route.r#match.as_ref().unwrap().runtime_fraction.clone();
            (fraction.map(|f| f.default_value.unwrap().numerator), target(route))
        })
        .collect()
    };
    assert_eq!(of("[{name: a, port: 80, weight: 9}, {name: b, port: 80}]"), [(None, "a:9 b:1 ".to_owned())]);
    assert_eq!(of("[{name: a, port: 80, weight: 0}, {name: b, port: 80}]"), [(None, "b".to_owned())]);
    assert_eq!(of("[{name: a, port: 80, weight: 0}]"), [(None, "500".to_owned())]);
    assert_eq!(of("[]"), [(None, "500".to_owned())]);
    assert_eq!(
        of(
            "[{name: a, port: 80, weight: 1}, {name: none, port: 80, weight: 2}, {name: b, port: 80, weight: 1}]"
        ),
        [(Some(250_000), "a".to_owned()), (Some(750_000), "500".to_owned()), (None, "b".to_owned())]
    );
}

#[test]
fn rewrites() {
    let rewritten = |matched: &str, to: &str| {
        let route = &routes(
            &format!(
                "rules: [{{matches: [{{path: {{value: {matched}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {to}}}}}], {TO_A}}}]"
            ),
            "rules: [{matches: [{path: {type: RegularExpression, value: '/never'}}], backendRefs: [{name: b, port: 80}]}]",
        )[1];
        let action = action(route);
        match &action.regex_rewrite {
            Some(regex) => format!("{} -> {}", regex.pattern.as_ref().unwrap().regex, regex.substitution),
            None => action.prefix_rewrite.clone(),
        }
    };
    assert_eq!(rewritten("/a", "{type: ReplacePrefixMatch, replacePrefixMatch: /b}"), "/b");
    assert_eq!(rewritten("/a/", "{type: ReplacePrefixMatch, replacePrefixMatch: /b/}"), "/b");
    assert_eq!(
        rewritten("/a.b", "{type: ReplacePrefixMatch, replacePrefixMatch: /}"),
        "^/a\\.b/?(.*) -> /\\1"
    );
    assert_eq!(rewritten("/", "{type: ReplacePrefixMatch, replacePrefixMatch: /b}"), "/b/");
    assert_eq!(rewritten("/a", "{type: ReplaceFullPath, replaceFullPath: /b}"), "^/.* -> /b");
}

#[test]
fn redirects_name_a_port_only_where_the_scheme_does_not() {
    let port = |redirect: &str| {
        let routes = routes(
            &format!("rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}]"),
            "rules: [{matches: [{path: {type: Exact, value: /never}}], backendRefs: [{name: b, port: 80}]}]",
        );
        let Action::Redirect(redirect) = routes[1].action.clone().unwrap() else { panic!() };
        redirect.port_redirect
    };
    assert_eq!(port("{hostname: example.org}"), 0);
    assert_eq!(port("{port: 8080}"), 8080);
    assert_eq!(port("{scheme: https}"), 0);
    assert_eq!(port("{scheme: https, port: 80}"), 80);
    assert_eq!(port("{scheme: http, port: 80}"), 0);
}

#[test]
fn a_filter_that_is_unknown_fails_its_requests() {
    let routes = routes(
        &format!(
            "rules: [{{filters: [{{type: ExtensionRef, extensionRef: {{group: example.org, kind: Thing, name: t}}}}], {TO_A}}}]"
        ),
        "rules: [{matches: [{path: {type: Exact, value: /never}}], backendRefs: [{name: b, port: 80}]}]",
    );
    assert_eq!(target(&routes[1]), "500");
}
