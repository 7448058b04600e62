//! Expectations on what scopes get: this request goes to that cluster.

use envoy_types::pb::envoy::{
    config::route::v3::{Route, route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier},
    extensions::filters::http::fault::v3::{HttpFault, fault_abort::ErrorType},
};
use heddle_xds::ResourceType;
use prost::Message;
use serde_json::json;

use crate::kit::{gateway, sidecar, sidecar_with, world};

/// Bookinfo's shape: a service with three versions, and one beside it.
const SHOP: &str = r"
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec:
  clusterIP: 10.0.0.7
  selector: {app: ratings}
  ports: [{name: http, port: 9080}, {name: tcp-admin, port: 9090}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1}
spec: {address: 10.1.0.1, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v2}
spec: {address: 10.1.0.2, labels: {app: reviews, version: v2}, ports: {http: 19080}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

fn with(more: &str) -> String {
    format!("{SHOP}\n---\n{more}")
}

fn cluster_of(route: &Route) -> String {
    match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name.clone(),
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                let each = all.clusters.iter();
                each.map(|c| format!("{}={}", c.name, c.weight.map_or(0, |w| w.value)))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn a_service_without_rules_goes_to_its_endpoints() {
    let seen = sidecar(&world(SHOP), "default");
    let name = "outbound|9080||reviews.default.svc.cluster.local";
    assert_eq!(seen.addresses(name), ["10.1.0.1:9080", "10.1.0.2:19080"]);
    assert_eq!(seen.addresses("outbound|9080|v2|reviews.default.svc.cluster.local"), ["10.1.0.2:19080"]);
    let host = seen.host("http_proxy", "reviews:9080");
    for domain in ["reviews", "reviews.default", "reviews.default.svc.cluster.local:9080"] {
        assert!(host.domains.iter().any(|own| own == domain), "{domain} in {:?}", host.domains);
    }
    assert_eq!(cluster_of(&seen.host_routes("http_proxy", "reviews")[0]), name);
    assert_eq!(cluster_of(&seen.host_routes("9080", "reviews")[0]), name);
    let outbound = seen.listener("virtualOutbound");
    assert_eq!(outbound.filter_chains.len(), 1);
    assert!(outbound.default_filter_chain.is_some());
    assert!(seen.names(ResourceType::Listener).contains(&"10.0.0.7_9090".to_owned()));
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
}

#[test]
fn short_names_depend_on_the_client_namespace() {
    let seen = sidecar(&world(SHOP), "elsewhere");
    let host = seen.host("http_proxy", "reviews.default:9080");
    assert!(!host.domains.iter().any(|own| own == "reviews" || own == "reviews:9080"), "{:?}", host.domains);
}

#[test]
fn weights_matches_and_subsets_follow_the_virtual_service() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
    - uri: {prefix: /v2}
      ignoreUriCase: true
    route: [{destination: {host: reviews, subset: v2}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
    - {destination: {host: ratings, port: {number: 9080}}, weight: 0}
",
    );
    let seen = sidecar(&world(&text), "default");
    let routes = seen.host_routes("http_proxy", "reviews");
    let host = "reviews.default.svc.cluster.local";
    assert_eq!(routes.len(), 3);
    assert_eq!(routes[0].r#match.as_ref().expect("a match").headers[0].name, "end-user");
    let second = routes[1].r#match.as_ref().expect("a match");
    assert_eq!(second.path_specifier, Some(PathSpecifier::Prefix("/v2".into())));
    assert_eq!(second.case_sensitive.map(|flag| flag.value), Some(false));
    assert_eq!(cluster_of(&routes[0]), format!("outbound|9080|v2|{host}"));
    assert_eq!(cluster_of(&routes[2]), format!("outbound|9080|v1|{host}=90 outbound|9080|v2|{host}=10"));
    let ours = &routes[0].metadata.as_ref().expect("provenance").filter_metadata["heddle.dev"];
    assert!(format!("{ours:?}").contains("VirtualService default/reviews"), "{ours:?}");
}

#[test]
fn a_rule_for_all_hosts_without_gateways_is_for_the_mesh() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec:
  hosts: ['*']
  http: [{route: [{destination: {host: reviews, subset: v1}}]}]
",
    );
    let seen = sidecar(&world(&text), "default");
    assert_eq!(
        cluster_of(&seen.host_routes("http_proxy", "ratings:9080")[0]),
        "outbound|9080|v1|reviews.default.svc.cluster.local"
    );
}

#[test]
fn encryption_that_is_not_built_denies_and_names_its_field() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
",
    );
    let seen = sidecar(&world(&text), "default");
    let route = &seen.host_routes("http_proxy", "ratings:9080")[0];
    let Some(Action::DirectResponse(answer)) = &route.action else { panic!("{route:?}") };
    assert_eq!(answer.status, 503);
    let body = format!("{:?}", answer.body);
    assert!(body.contains("DestinationRule default/ratings spec.trafficPolicy.tls"), "{body}");
    let cluster = seen.cluster("outbound|9080||ratings.default.svc.cluster.local");
    assert!(cluster.load_assignment.expect("static").endpoints.is_empty());
    let listener = format!("{:?}", seen.listener("10.0.0.7_9090").default_filter_chain);
    let bytes = "BlackHoleCluster".bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
    assert!(listener.contains(&bytes), "{listener}");
}

#[test]
fn delegates_are_confined_by_their_root() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /shop}}]
    delegate: {name: inner, namespace: team}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inner, namespace: team}
spec:
  http:
  - match: [{uri: {exact: /shop/a}}]
    route: [{destination: {host: reviews.default.svc.cluster.local, subset: v1}}]
  - match: [{uri: {prefix: /other}}]
    route: [{destination: {host: reviews.default.svc.cluster.local, subset: v2}}]
  - route: [{destination: {host: ratings.default.svc.cluster.local, port: {number: 9080}}}]
",
    );
    let seen = sidecar(&world(&text), "default");
    let routes = seen.host_routes("http_proxy", "reviews");
    let paths: Vec<_> =
        routes.iter().map(|route| route.r#match.as_ref().and_then(|m| m.path_specifier.clone())).collect();
    let expected = [PathSpecifier::Path("/shop/a".into()), PathSpecifier::Prefix("/shop".into())];
    assert_eq!(paths, expected.map(Some));
    assert!(seen.findings[0].contains("VirtualService team/inner spec.http[1]"), "{:?}", seen.findings);
}

#[test]
fn export_and_sidecar_confine_what_is_seen() {
    let text = with(
        r"
apiVersion: v1
kind: Service
metadata: {name: secret, namespace: default, annotations: {networking.istio.io/exportTo: .}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: narrow}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: [default/ratings.default.svc.cluster.local]}]
",
    );
    let world = world(&text);
    let own = sidecar(&world, "default").names(ResourceType::Cluster);
    assert!(own.contains(&"outbound|80||secret.default.svc.cluster.local".to_owned()));
    let other = sidecar(&world, "other").names(ResourceType::Cluster);
    assert!(!other.contains(&"outbound|80||secret.default.svc.cluster.local".to_owned()));
    let narrow = sidecar(&world, "narrow");
    let outbound: Vec<_> =
        narrow.names(ResourceType::Cluster).into_iter().filter(|name| name.starts_with("outbound")).collect();
    assert_eq!(
        outbound,
        [
            "outbound|9080||ratings.default.svc.cluster.local",
            "outbound|9090||ratings.default.svc.cluster.local"
        ]
    );
    assert!(narrow.routes("9080").virtual_hosts.iter().any(|host| host.name == "block_all"));
}

#[test]
fn one_node_carries_namespaces_that_see_different_things() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: a}
spec: {egress: [{hosts: ['default/ratings.default.svc.cluster.local']}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: b}
spec: {egress: [{hosts: ['default/reviews.default.svc.cluster.local']}]}
",
    );
    let world = world(&text);
    let metadata = json!({"OUTBOUND": ["a=127.0.0.1:1", "b/app=x=127.0.0.1:2"]});
    let node = crate::kit::node("node", "infra", heddle_xds::ClientKind::Heddle, metadata);
    let seen = crate::kit::Seen::of(crate::compile(&world, &crate::kit::scope(&world, &node)));
    let clusters = seen.names(ResourceType::Cluster);
    assert!(
        clusters.contains(&"outbound|9080||ratings.default.svc.cluster.local~a".to_owned()),
        "{clusters:?}"
    );
    assert!(clusters.contains(&"outbound|9080||reviews.default.svc.cluster.local~b/app=x".to_owned()));
    assert!(!clusters.contains(&"outbound|9080||reviews.default.svc.cluster.local~a".to_owned()));
    assert_eq!(
        seen.listener("virtualOutbound~a").address,
        Some(crate::compile::build::host_address("127.0.0.1", 1))
    );
    let own = cluster_of(&seen.host_routes("http_proxy~b/app=x", "reviews.default:9080")[0]);
    assert_eq!(own, "outbound|9080||reviews.default.svc.cluster.local~b/app=x");
    assert_eq!(seen.addresses("outbound|9080||reviews.default.svc.cluster.local~b/app=x").len(), 2);
}

#[test]
fn inbound_addresses_lead_to_the_workload() {
    let metadata =
        json!({"INBOUND": ["9080=10.9.9.9:4000", "7000=10.9.9.9:4001"], "LABELS": {"app": "reviews"}});
    let seen = sidecar_with(&world(SHOP), "default", metadata);
    let http = seen.listener("inbound_9080");
    assert_eq!(http.address, Some(crate::compile::build::host_address("10.9.9.9", 4000)));
    assert!(http.listener_filters.is_empty() && http.filter_chains.len() == 1, "HTTP by its service");
    let unknown = seen.listener("inbound_7000");
    assert!(unknown.default_filter_chain.is_some() && unknown.filter_chains.len() == 1, "found out");
    assert_eq!(seen.cluster("inbound|9080||").name, "inbound|9080||");
}

#[test]
fn gateways_serve_the_routes_bound_to_them() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: default}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*.example.com', 'other/own.test']}
  - {port: {number: 8443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com, own.test]
  gateways: [shop]
  http:
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, derivePort: FROM_REQUEST_PORT}
  - route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}}]
",
    );
    let world = world(&text);
    for metadata in [
        json!({"LABELS": {"istio": "ingress"}}),
        json!({"GATEWAY": "istio:default/shop", "BIND": "127.0.0.9"}),
    ] {
        let seen = gateway(&world, metadata.clone());
        let bind = if metadata.get("BIND").is_some() { "127.0.0.9" } else { "0.0.0.0" };
        assert_eq!(
            seen.names(ResourceType::Listener),
            [format!("{bind}_8080"), format!("{bind}_8443")],
            "{metadata}"
        );
        let routes = seen.host_routes("http.8080", "shop.example.com");
        let Some(Action::Redirect(redirect)) = &routes[0].action else { panic!("{routes:?}") };
        assert_eq!(redirect.port_redirect, 8080);
        assert_eq!(cluster_of(&routes[1]), "outbound|9080|v1|reviews.default.svc.cluster.local");
        assert!(!seen.routes("http.8080").virtual_hosts.iter().any(|h| h.domains[0] == "own.test"));
        assert!(
            seen.findings.iter().any(|f| f.contains("Gateway default/shop spec.servers[1].tls")),
            "{:?}",
            seen.findings
        );
        let denied = seen.listener(&format!("{bind}_8443"));
        assert_eq!(denied.filter_chains[0].name, "denied");
    }
    assert!(gateway(&world, json!({"LABELS": {"istio": "other"}})).names(ResourceType::Listener).is_empty());
}

#[test]
fn external_services_resolve_as_they_say() {
    let text = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext}
spec:
  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ['*.wild.example']
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: NONE
";
    let seen = sidecar(&world(text), "default");
    let dns = seen.cluster("outbound|80||api.example.com");
    assert_eq!(dns.load_assignment.expect("names").endpoints[0].lb_endpoints.len(), 1);
    assert_eq!(seen.cluster("outbound|443||*.wild.example").lb_policy, 6);
    assert_eq!(
        cluster_of(&seen.host_routes("http_proxy", "api.example.com")[0]),
        "outbound|80||api.example.com"
    );
}

#[test]
fn the_denied_share_of_a_weighted_route_says_why() {
    let text = with(
        r"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec: {host: ratings, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews}, weight: 60}
    - {destination: {host: ratings, port: {number: 9080}}, weight: 40}
",
    );
    let seen = sidecar(&world(&text), "default");
    let routes = seen.host_routes("http_proxy", "reviews");
    let Some(Action::Route(action)) = &routes[0].action else { panic!("{routes:?}") };
    let Some(ClusterSpecifier::WeightedClusters(all)) = &action.cluster_specifier else {
        panic!("{action:?}")
    };
    assert!(all.clusters[0].typed_per_filter_config.is_empty());
    let fault = &all.clusters[1].typed_per_filter_config["envoy.filters.http.fault"];
    let abort = HttpFault::decode(&*fault.value).expect("decodes").abort.expect("an abort");
    assert_eq!(abort.error_type, Some(ErrorType::HttpStatus(503)));
    assert!(
        abort.response_body.contains("DestinationRule default/ratings spec.trafficPolicy.tls"),
        "{abort:?}"
    );
}

#[test]
fn a_server_name_may_stand_in_rules_for_several_ports() {
    let text = with(
        r"
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: default}
spec: {clusterIP: 10.0.0.9, ports: [{name: tls-a, port: 443}, {name: tls-b, port: 8443}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vault}
spec:
  hosts: [vault]
  tls:
  - match: [{port: 443, sniHosts: [vault]}]
    route: [{destination: {host: vault, port: {number: 443}}}]
  - match: [{port: 8443, sniHosts: [vault]}]
    route: [{destination: {host: vault, port: {number: 8443}}}]
",
    );
    let seen = sidecar(&world(&text), "default");
    for port in [443, 8443] {
        let listener = seen.listener(&format!("10.0.0.9_{port}"));
        let names: Vec<_> = listener
            .filter_chains
            .iter()
            .filter_map(|chain| chain.filter_chain_match.as_ref())
            .flat_map(|matched| &matched.server_names)
            .collect();
        assert_eq!(names, ["vault"], "{port}");
    }
}

#[test]
fn a_server_is_not_exposed_at_the_address_of_another() {
    let text = r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: default}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 8080, name: all, protocol: HTTP}, hosts: [a.example]}
  - {port: {number: 8080, name: own, protocol: HTTP}, bind: 127.0.0.1, hosts: [b.example]}
  - {port: {number: 0, name: socket, protocol: HTTP}, bind: 'unix:///run/gateway.sock', hosts: [c.example]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [a.example, b.example, c.example]
  gateways: [shop]
  http: [{directResponse: {status: 204}}]
";
    let seen = gateway(&world(text), json!({"LABELS": {"istio": "ingress"}}));
    assert_eq!(seen.names(ResourceType::Listener), ["/run/gateway.sock_0", "0.0.0.0_8080"]);
    let listener = seen.listener("/run/gateway.sock_0");
    assert_eq!(listener.address, Some(crate::compile::build::pipe_address("/run/gateway.sock")));
    let hosts = seen.routes("http.0").virtual_hosts;
    assert_eq!(hosts.iter().flat_map(|host| &host.domains).collect::<Vec<_>>(), ["c.example"]);
    let hosts = seen.routes("http.8080").virtual_hosts;
    let domains: Vec<_> = hosts.iter().flat_map(|host| &host.domains).collect();
    assert!(domains.iter().all(|domain| !domain.starts_with('b') && !domain.starts_with('c')), "{domains:?}");
    assert!(seen.findings.iter().any(|found| found.contains("spec.servers[1].bind")), "{:?}", seen.findings);
}

#[test]
fn an_external_name_is_an_alias() {
    let text = r"
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {type: ExternalName, externalName: db.example.net}
";
    let names = crate::public_names(&world(text));
    let entry = names.entries.iter().find(|entry| entry.service == "db").expect("the service");
    assert_eq!(entry.alias, "db.example.net");
    assert!(entry.ips.is_empty(), "{entry:?}");
}

#[test]
fn what_a_delegate_sends_to_is_seen_through_a_sidecar() {
    let text = r"
apiVersion: v1
kind: Service
metadata: {name: front, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: back, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: default}
spec: {hosts: [front], http: [{delegate: {name: part, namespace: other}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: part, namespace: other}
spec: {http: [{route: [{destination: {host: back}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own, namespace: default}
spec: {egress: [{hosts: ['./*']}]}
";
    let seen = sidecar(&world(text), "default");
    let cluster = cluster_of(&seen.host_routes("http_proxy", "front")[0]);
    assert_eq!(cluster, "outbound|80||back.other.svc.cluster.local");
    assert!(seen.names(ResourceType::Cluster).contains(&cluster), "the route has its cluster");
}
