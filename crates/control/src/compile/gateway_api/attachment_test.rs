use super::super::{fixture::Fixture, hostname::Hostname, model::RouteKind};

const SERVICES: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps, labels: {team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: red}}
";

fn gateway(listeners: &str) -> String {
    format!(
        "{SERVICES}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: apps}}
spec:
  gatewayClassName: heddle
  listeners: {listeners}
"
    )
}

fn route(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"
    )
}

const HTTP: &str = "[{name: http, port: 80, protocol: HTTP}]";
const TO_WEB: &str = "rules: [{backendRefs: [{name: web, port: 80}]}]";

/// The verdict on one route.
fn judge(listeners: &str, kind: &str, namespace: &str, spec: &str) -> (String, String) {
    let fixture = Fixture::of(&(gateway(listeners) + &route(kind, namespace, "r", spec)));
    Fixture::verdict(&fixture.attach("edge"), "r")
}

fn accepted(listeners: &str, kind: &str, namespace: &str, parent: &str, rest: &str) -> String {
    judge(listeners, kind, namespace, &format!("{{parentRefs: [{parent}], {rest}{TO_WEB}}}")).0
}

#[test]
fn a_route_attaches_by_name_section_and_port() {
    let two = "[{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}]";
    assert_eq!(accepted(two, "HTTPRoute", "apps", "{name: edge}", ""), "Accepted");
    assert_eq!(accepted(two, "HTTPRoute", "apps", "{name: edge, sectionName: b}", ""), "Accepted");
    assert_eq!(
        accepted(two, "HTTPRoute", "apps", "{name: edge, sectionName: b, port: 80}", ""),
        "NoMatchingParent"
    );
    assert_eq!(accepted(two, "HTTPRoute", "apps", "{name: edge, port: 82}", ""), "NoMatchingParent");
    assert_eq!(accepted(two, "HTTPRoute", "apps", "{name: edge, sectionName: c}", ""), "NoMatchingParent");
}

#[test]
fn listeners_choose_namespaces() {
    let from = |text: &str| {
        let listeners =
            format!("[{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {text}}}}}]");
        accepted(&listeners, "HTTPRoute", "other", "{name: edge, namespace: apps}", "")
    };
    assert_eq!(from("{from: Same}"), "NotAllowedByListeners");
    assert_eq!(from("{from: All}"), "Accepted");
    assert_eq!(from("{from: Selector, selector: {matchLabels: {team: red}}}"), "Accepted");
    assert_eq!(from("{from: Selector, selector: {matchLabels: {team: blue}}}"), "NotAllowedByListeners");
    let not_in =
        "{from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [blue]}]}}";
    assert_eq!(from(not_in), "Accepted");
    assert_eq!(
        accepted(HTTP, "HTTPRoute", "other", "{name: edge, namespace: apps}", ""),
        "NotAllowedByListeners"
    );
}

#[test]
fn listeners_choose_kinds() {
    let grpc_only = "[{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}]";
    assert_eq!(accepted(grpc_only, "HTTPRoute", "apps", "{name: edge}", ""), "NotAllowedByListeners");
    assert_eq!(accepted(grpc_only, "GRPCRoute", "apps", "{name: edge}", ""), "Accepted");
    assert_eq!(accepted(HTTP, "TCPRoute", "apps", "{name: edge}", ""), "NotAllowedByListeners");
    let tcp = "[{name: a, port: 9000, protocol: TCP}]";
    assert_eq!(accepted(tcp, "TCPRoute", "apps", "{name: edge}", ""), "Accepted");
}

#[test]
fn hostnames_intersect() {
    let named = "[{name: a, port: 80, protocol: HTTP, hostname: '*.example.org'}]";
    let with = |hostnames: &str| {
        accepted(named, "HTTPRoute", "apps", "{name: edge}", &format!("hostnames: {hostnames}, "))
    };
    assert_eq!(with("[a.example.org]"), "Accepted");
    assert_eq!(with("[example.org]"), "NoMatchingListenerHostname");
    assert_eq!(with("[a.example.com, '*.b.example.org']"), "Accepted");
    let spec = format!(
        "{{parentRefs: [{{name: edge}}], hostnames: [a.example.com, '*.b.example.org', '*.org'], {TO_WEB}}}"
    );
    let fixture = Fixture::of(&(gateway(named) + &route("HTTPRoute", "apps", "r", &spec)));
    let attachment = fixture.attach("edge");
    let names: Vec<_> = attachment.listeners[0].attached[0].hostnames.iter().map(Hostname::domain).collect();
    assert_eq!(names, ["*.b.example.org", "*.example.org"]);
}

#[test]
fn tls_is_not_served_in_the_clear() {
    let mixed = "[{name: http, port: 80, protocol: HTTP}, {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}]";
    let fixture = Fixture::of(&gateway(mixed));
    let attachment = fixture.attach("edge");
    assert!(attachment.accepted.holds());
    assert_eq!(attachment.accepted.reason, "ListenersNotValid");
    assert!(attachment.listeners[1].accepted.holds() && !attachment.listeners[1].serves());
    assert_eq!(attachment.listeners[1].resolved.reason, "InvalidCertificateRef");
    assert_eq!(super::super::table::ports(&attachment), [(80, "HTTP")]);
    assert_eq!(
        accepted(mixed, "HTTPRoute", "apps", "{name: edge, sectionName: https}", ""),
        "UnsupportedValue"
    );
    let only = Fixture::of(&gateway("[{name: https, port: 443, protocol: HTTPS}]"));
    assert!(!only.attach("edge").accepted.holds());
}

#[test]
fn listeners_conflict_by_protocol_and_by_hostname() {
    let reasons = |listeners: &str| -> Vec<String> {
        let attachment = Fixture::of(&gateway(listeners)).attach("edge");
        attachment.listeners.iter().map(|listener| listener.conflicted.reason.to_string()).collect()
    };
    let tcp_and_http = "[{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: TCP}]";
    assert_eq!(reasons(tcp_and_http), ["ProtocolConflict", "ProtocolConflict"]);
    let apart = "[{name: a, port: 80, protocol: HTTP, hostname: a.io}, {name: b, port: 80, protocol: HTTP}]";
    assert_eq!(reasons(apart), ["NoConflicts", "NoConflicts"]);
}

#[test]
fn kinds_that_a_listener_does_not_know() {
    let listeners = "[
        {name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: Nothing}]}},
        {name: b, port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: Nothing}]}}]";
    let attachment = Fixture::of(&gateway(listeners)).attach("edge");
    assert_eq!(attachment.listeners[0].kinds, [RouteKind::Http]);
    assert_eq!(attachment.listeners[1].kinds, []);
    for listener in &attachment.listeners {
        assert_eq!(listener.resolved.reason, "InvalidRouteKinds");
    }
}

#[test]
fn backends_resolve_or_say_why_not() {
    let resolved = |backend: &str| {
        judge(
            HTTP,
            "HTTPRoute",
            "apps",
            &format!("{{parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{backend}]}}]}}"),
        )
        .1
    };
    assert_eq!(resolved("{name: web, port: 80}"), "ResolvedRefs");
    assert_eq!(resolved("{name: web, port: 81}"), "BackendNotFound");
    assert_eq!(resolved("{name: none, port: 80}"), "BackendNotFound");
    assert_eq!(resolved("{name: web, namespace: other, port: 80}"), "RefNotPermitted");
    assert_eq!(resolved("{group: example.org, kind: Thing, name: web, port: 80}"), "InvalidKind");
}

#[test]
fn a_grant_permits() {
    let spec =
        "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, namespace: other, port: 80}]}]}";
    let verdict = |grant: &str| {
        let grant = format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: other}}
spec: {grant}
"
        );
        let fixture = Fixture::of(&(gateway(HTTP) + &route("HTTPRoute", "apps", "r", spec) + &grant));
        Fixture::verdict(&fixture.attach("edge"), "r").1
    };
    let from = "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: apps}]";
    assert_eq!(verdict(&format!("{{{from}, to: [{{group: '', kind: Service}}]}}")), "ResolvedRefs");
    assert_eq!(
        verdict(&format!("{{{from}, to: [{{group: '', kind: Service, name: web}}]}}")),
        "ResolvedRefs"
    );
    assert_eq!(
        verdict(&format!("{{{from}, to: [{{group: '', kind: Service, name: else}}]}}")),
        "RefNotPermitted"
    );
    let wrong = "from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: apps}]";
    assert_eq!(verdict(&format!("{{{wrong}, to: [{{group: '', kind: Service}}]}}")), "RefNotPermitted");
}

#[test]
fn one_name_has_either_http_or_grpc_routes() {
    let spec =
        |hostnames: &str| format!("{{parentRefs: [{{name: edge}}], hostnames: {hostnames}, {TO_WEB}}}");
    let yaml = gateway(HTTP)
        + &route("HTTPRoute", "apps", "a", &spec("[a.io]"))
        + &route("GRPCRoute", "apps", "b", &spec("['*.io']"))
        + &route("GRPCRoute", "apps", "c", &spec("[c.org]"));
    let attachment = Fixture::of(&yaml).attach("edge");
    assert_eq!(Fixture::verdict(&attachment, "a").0, "Accepted");
    assert_eq!(Fixture::verdict(&attachment, "b").0, "HostnameConflict");
    assert_eq!(Fixture::verdict(&attachment, "c").0, "Accepted");
}

#[test]
fn a_route_that_cannot_act_counts_and_carries_nothing() {
    let spec = "{parentRefs: [{name: edge}], rules: [{
        matches: [{path: {type: Exact, value: /a}}],
        filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}],
        backendRefs: [{name: web, port: 80}]}]}";
    let mut fixture = Fixture::of(
        &(gateway(HTTP)
            + &route("HTTPRoute", "apps", "ok", &format!("{{parentRefs: [{{name: edge}}], {TO_WEB}}}"))),
    );
    // Admission refuses what this route does; a store may hold one from before.
    let mut bad = (*fixture.routes[0]).clone();
    bad.key.name = "bad".into();
    bad.rules[0].matches[0].path = super::super::model::Path::Exact("/a".into());
    bad.rules[0].filters = vec![super::super::model::Filter::Rewrite {
        host: None,
        path: Some(super::super::model::PathEdit::Prefix("/b".into())),
    }];
    fixture.routes.push(std::sync::Arc::new(bad));
    let attachment = fixture.attach("edge");
    assert_eq!(Fixture::verdict(&attachment, "bad").0, "UnsupportedValue", "{spec}");
    assert_eq!(attachment.listeners[0].attached.len(), 2);
    let hosts = super::super::table::virtual_hosts(&attachment, 80, None, &fixture);
    assert_eq!(hosts.iter().map(|host| host.routes.len()).sum::<usize>(), 1);
}
