//! What `analyze` finds between objects that are each valid.

use heddle_resource::{Admission, AdmitOptions, Object, admit, analyze, parse_documents};

fn objects(text: &str) -> Vec<Object> {
    let admitted = parse_documents(text, "x.yaml").into_iter().map(|document| {
        match admit(&document.unwrap_or_else(|e| panic!("{e}")), &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => object,
            other => panic!("{:?}", other.diagnostics()),
        }
    });
    admitted.collect()
}

/// The findings as `CODE FIELD`.
fn findings(text: &str) -> Vec<String> {
    analyze(&objects(text)).iter().map(|f| format!("{} {}", f.code, f.field)).collect()
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 9080}]}
---
";

fn route(destination: &str) -> String {
    format!(
        "{SERVICE}apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: x}}
spec: {{hosts: [reviews], http: [{{route: [{{destination: {destination}}}]}}]}}
"
    )
}

#[test]
fn destinations() {
    for host in ["reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"] {
        assert!(findings(&route(&format!("{{host: {host}, port: {{number: 9080}}}}"))).is_empty(), "{host}");
    }
    let dangling = findings(&route("{host: ratings}"));
    assert_eq!(dangling, ["HDL0301 spec.http[0].route[0].destination.host"]);
    let subset = findings(&route("{host: reviews, subset: v1}"));
    assert_eq!(subset, ["HDL0302 spec.http[0].route[0].destination.subset"]);
    let port = findings(&route("{host: reviews, port: {number: 80}}"));
    assert_eq!(port, ["HDL0310 spec.http[0].route[0].destination.port"]);
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: reviews, subsets: [{name: v1}]}\n";
    assert!(findings(&format!("{}{rule}", route("{host: reviews, subset: v1}"))).is_empty());
}

#[test]
fn without_services_nothing_is_looked_up() {
    let text = route("{host: ratings}").replace(SERVICE, "");
    assert_eq!(findings(&text), ["HDL0300 "]);
}

#[test]
fn owners_and_gateways() {
    let twice = format!(
        "{}---\n{}",
        route("{host: reviews}"),
        route("{host: reviews}").replace(SERVICE, "").replace("name: x", "name: y")
    );
    assert_eq!(findings(&twice), ["HDL0304 spec.hosts[0]", "HDL0304 spec.hosts[0]"]);
    let gateway =
        route("{host: reviews}").replace("hosts: [reviews]", "hosts: [a.example], gateways: [none]");
    assert_eq!(findings(&gateway), ["HDL0303 spec.gateways[0]"]);
    let again = format!("{}---\n{}", route("{host: reviews}"), route("{host: reviews}").replace(SERVICE, ""));
    assert_eq!(findings(&again), ["HDL0312 "]);
}

#[test]
fn gateway_api_references() {
    let route = |backend: &str| {
        format!(
            "{SERVICE}apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: x, namespace: other}}
spec: {{parentRefs: [{{name: none}}], rules: [{{backendRefs: [{backend}]}}]}}
"
        )
    };
    let crossing = findings(&route("{name: reviews, namespace: default, port: 9080}"));
    assert_eq!(crossing, ["HDL0309 spec.parentRefs[0]", "HDL0314 spec.rules[0].backendRefs[0]"]);
    let dangling = findings(&route("{name: reviews, port: 9080}"));
    assert_eq!(dangling, ["HDL0309 spec.parentRefs[0]", "HDL0301 spec.rules[0].backendRefs[0]"]);
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], to: [{group: '', kind: Service}]}\n";
    let granted = findings(&format!("{}{grant}", route("{name: reviews, namespace: default, port: 9080}")));
    assert_eq!(granted, ["HDL0309 spec.parentRefs[0]"]);
}

#[test]
fn a_listener_set_is_let_in_by_its_gateway() {
    let set = |namespace: &str, allowed: &str| {
        findings(&format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: heddle, allowedListeners: {allowed}, listeners: [{{name: a, port: 80, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: more, namespace: {namespace}}}
spec:
  parentRef: {{name: edge, namespace: default}}
  listeners: [{{name: b, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: r, namespace: {namespace}}}
spec: {{parentRefs: [{{kind: ListenerSet, name: more, sectionName: none}}, {{kind: ListenerSet, name: less}}], rules: [{{backendRefs: [{{name: x, port: 1}}]}}]}}
"
        ))
    };
    let rest = [
        "HDL0307 spec.listeners[0].tls.certificateRefs[0]",
        "HDL0309 spec.parentRefs[0].sectionName",
        "HDL0309 spec.parentRefs[1]",
    ];
    let told = |namespace: &str, allowed: &str| {
        let mut found = set(namespace, allowed);
        found.retain(|one| !rest.contains(&one.as_str()) && !one.starts_with("HDL0300"));
        found
    };
    for one in rest {
        assert!(set("default", "{namespaces: {from: Same}}").iter().any(|found| found == one), "{one}");
    }
    assert!(told("default", "{namespaces: {from: Same}}").is_empty());
    assert!(told("other", "{namespaces: {from: All}}").is_empty());
    assert_eq!(told("other", "{namespaces: {from: Same}}"), ["HDL0309 spec.parentRef"]);
    assert_eq!(told("default", "{}"), ["HDL0309 spec.parentRef"]);
}
