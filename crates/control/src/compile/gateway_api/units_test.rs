use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::{listener::v3::Listener, route::v3::RouteConfiguration};
use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};
use heddle_xds::{NodeInfo, ResourceType, View};
use prost::Message;
use serde_json::json;
use std::sync::Arc;

use crate::{
    scope::Scope,
    world::{Change, MeshConfig, World},
};

const YAML: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 9000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: CLASS
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: https, port: 443, protocol: HTTPS, allowedRoutes: {namespaces: {from: All}}}
  - {name: tcp, port: 9000, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: apps}
spec:
  parentRefs: [{name: edge, namespace: infra}]
  hostnames: [web.example.org]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: raw, namespace: apps}
spec:
  parentRefs: [{name: edge, namespace: infra}]
  rules: [{backendRefs: [{name: web, port: 9000, weight: 3}, {name: none, port: 1}]}]
";

fn world(yaml: &str) -> World {
    let changes: Vec<_> = parse_documents(yaml, "test.yaml")
        .into_iter()
        .map(|document| match admit(&document.expect("YAML"), &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => Change::Put { source: 0, object: Arc::new(object) },
            other => panic!("{other:?}"),
        })
        .collect();
    World::new(MeshConfig::default()).apply(&changes).0
}

fn view(world: &World, id: &str, metadata: serde_json::Value) -> Arc<View> {
    let metadata: BTreeMap<_, _> = serde_json::from_value(metadata).expect("an object");
    let node = NodeInfo { id: id.to_owned(), metadata, ..NodeInfo::default() };
    crate::compile(world, &Scope::of(&node, |_| false).expect("a scope")).view
}

fn names(view: &View, kind: ResourceType) -> Vec<String> {
    view.iter(kind).map(|resource| resource.name.to_string()).collect()
}

fn gateway(yaml: &str) -> Arc<View> {
    let metadata = json!({"GATEWAY": "k8s:infra/edge", "BIND": "127.0.0.9"});
    view(&world(yaml), "router~127.0.0.9~edge.infra~infra.svc.cluster.local", metadata)
}

#[test]
fn a_gateway_gets_its_listeners_and_routes() {
    let view = gateway(&YAML.replace("CLASS", "heddle"));
    assert_eq!(names(&view, ResourceType::Listener), ["127.0.0.9_80", "127.0.0.9_9000"]);
    assert_eq!(names(&view, ResourceType::Route), ["http.80.edge.infra"]);
    assert!(
        names(&view, ResourceType::Cluster).contains(&"outbound|80||web.apps.svc.cluster.local".to_owned())
    );
    let listener = view.get(ResourceType::Listener, "127.0.0.9_80").expect("the listener");
    let listener = Listener::decode(listener.body.clone()).expect("a listener");
    assert_eq!(listener.filter_chains.len(), 1);
    let routes = view.get(ResourceType::Route, "http.80.edge.infra").expect("the routes");
    let routes = RouteConfiguration::decode(routes.body.clone()).expect("a route configuration");
    let domains: Vec<_> =
        routes.virtual_hosts.iter().map(|host| (host.domains.clone(), host.routes.len())).collect();
    assert_eq!(domains, [(vec!["*".to_owned()], 0), (vec!["web.example.org".to_owned()], 1)]);
}

#[test]
fn a_class_that_is_not_ours_gets_nothing() {
    let view = gateway(&YAML.replace("CLASS", "other"));
    assert!(names(&view, ResourceType::Listener).is_empty());
}

#[test]
fn a_route_of_a_service_acts_at_its_clients() {
    let yaml = YAML.replace("CLASS", "heddle")
        + "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mesh, namespace: NAMESPACE}
spec:
  parentRefs: [{group: '', kind: Service, name: web, namespace: apps, port: 80}]
  rules:
  - matches: [{path: {value: /only}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere.example.org}}]
";
    let routes = |owner: &str, client: &str| {
        let id = format!("sidecar~10.1.1.1~a.{client}~{client}.svc.cluster.local");
        let view = view(&world(&yaml.replace("NAMESPACE", owner)), &id, json!({}));
        let routes = view.get(ResourceType::Route, "80").expect("routes of port 80");
        let routes = RouteConfiguration::decode(routes.body.clone()).expect("a route configuration");
        let host = routes
            .virtual_hosts
            .into_iter()
            .find(|host| host.domains.iter().any(|d| d.starts_with("web.apps")));
        host.expect("the service's virtual host")
            .routes
            .iter()
            .filter(|route| {
                matches!(
                    route.action,
                    Some(envoy_types::pb::envoy::config::route::v3::route::Action::Redirect(_))
                )
            })
            .count()
    };
    assert_eq!(routes("apps", "apps"), 1);
    assert_eq!(routes("apps", "other"), 1, "the producer's route is for every client");
    assert_eq!(routes("other", "other"), 1, "the consumer's route is for its own namespace");
    assert_eq!(routes("other", "third"), 0);
}
