//! What captured connections find.

use envoy_types::pb::{
    envoy::{
        config::route::v3::FilterConfig,
        extensions::filters::network::http_connection_manager::v3::HttpConnectionManager,
    },
    google::protobuf::Any,
};
use heddle_xds::{ClientKind, ResourceType};
use prost::Message as _;
use serde_json::json;

use crate::kit::{Seen, node, scope, sidecar_with, world};

/// Two HTTP services on a port, one whose protocol nobody says, and a route of the Gateway API for the first.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: one, namespace: default}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: default}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}, {name: http-more, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: any, namespace: default}
spec: {clusterIP: 10.0.0.3, ports: [{name: detect, port: 82}]}
";

const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: one}]
  rules: [{backendRefs: [{name: one, port: 80}]}]
";

fn captured(yaml: &str, outbound: serde_json::Value) -> Seen {
    let metadata = json!({"INTERCEPTION_MODE": "REDIRECT", "OUTBOUND": outbound});
    sidecar_with(&world(yaml), "default", metadata)
}

fn has(seen: &Seen, listener: &str) -> bool {
    seen.names(ResourceType::Listener).iter().any(|name| name == listener)
}

#[test]
fn each_address_that_takes_connections_is_an_address_of_the_listener() {
    let seen = captured(SHOP, json!(["169.254.101.1:15001", "[fd00::1]:15001"]));
    let listener = seen.listener("virtualOutbound");
    assert_eq!(listener.additional_addresses.len(), 1);
    let text = format!("{:?}", listener.additional_addresses[0].address);
    assert!(text.contains("fd00::1") && text.contains("15001"), "{text}");
}

#[test]
fn routes_of_the_gateway_api_are_for_what_comes_to_an_address() {
    let outbound = json!("127.0.0.1:15001");
    let by_host = captured(SHOP, outbound.clone());
    assert!(has(&by_host, "0.0.0.0_80") && !has(&by_host, "10.0.0.1_80") && !has(&by_host, "10.0.0.2_80"));
    let by_address = captured(&format!("{SHOP}{ROUTE}"), outbound);
    // Also for a service without routes: whoever names another host there means this service all the same.
    for (listener, route) in [
        ("10.0.0.1_80", "one.default.svc.cluster.local:80"),
        ("10.0.0.2_80", "two.default.svc.cluster.local:80"),
    ] {
        assert!(has(&by_address, listener), "{listener}");
        assert_eq!(by_address.host(route, "*").domains, ["*"], "{route}");
    }
    assert!(has(&by_address, "0.0.0.0_80"), "what goes elsewhere is still known by its host");
    assert!(!has(&by_address, "10.0.0.2_81"), "a port without such routes");
}

#[test]
fn what_comes_to_the_address_of_a_service_that_may_speak_anything_is_its_own() {
    let seen = captured(SHOP, json!("127.0.0.1:15001"));
    assert!(has(&seen, "10.0.0.3_82"));
    let routes = seen.routes("any.default.svc.cluster.local:82");
    let domains: Vec<_> = routes.virtual_hosts.iter().flat_map(|host| host.domains.clone()).collect();
    assert_eq!(domains, ["*"]);
}

#[test]
fn an_address_that_others_reach_is_an_http_proxy_for_this_machine_alone() {
    use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
    let from = |outbound: &str| {
        let listener = captured(SHOP, json!(outbound)).listener("virtualOutbound");
        listener.filter_chains[0].filter_chain_match.as_ref().unwrap().source_type()
    };
    assert_eq!(from("127.0.0.1:15001"), ConnectionSourceType::Any);
    assert_eq!(from("0.0.0.0:15001"), ConnectionSourceType::SameIpOrLoopback);
}

/// The HTTP filters of each chain of a listener that has any.
fn filters(seen: &Seen, listener: &str) -> Vec<Vec<String>> {
    let filters =
        |manager: HttpConnectionManager| manager.http_filters.into_iter().map(|filter| filter.name).collect();
    managers(seen, listener).into_iter().map(filters).collect()
}

fn managers(seen: &Seen, listener: &str) -> Vec<HttpConnectionManager> {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    let listener = seen.listener(listener);
    let chains = listener.filter_chains.iter().flat_map(|chain| &chain.filters);
    let managers = chains.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with("HttpConnectionManager") => {
            Some(HttpConnectionManager::decode(&*any.value).expect("decodes"))
        }
        _ => None,
    });
    managers.collect()
}

#[test]
fn envoy_offers_extended_connect_to_proxies_alone() {
    let world = world(SHOP);
    for (client, outbound) in [(ClientKind::Heddle, true), (ClientKind::Envoy, false)] {
        let metadata = json!({"OUTBOUND": "127.0.0.1:15001", "INBOUND": ["8080=127.0.0.1:4000"], "LABELS": {"app": "one"}});
        let node = node("sidecar", "default", client, metadata);
        let seen = Seen::of(crate::compile(&world, &scope(&world, &node)));
        let offers = |listener: &str| {
            let offer = |manager: &HttpConnectionManager| {
                manager.http2_protocol_options.as_ref().is_some_and(|options| options.allow_connect)
            };
            let found = managers(&seen, listener);
            assert!(!found.is_empty(), "{listener}");
            found.iter().all(offer)
        };
        assert_eq!(offers("virtualOutbound"), outbound, "{client:?}: programs, which name no key");
        assert!(offers("inbound_8080"), "{client:?}: other proxies");
    }
}

#[test]
fn a_port_of_grpc_web_is_translated() {
    let service = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.0.0.4, ports: [{name: grpc-web, port: 83}, {name: grpc-more, port: 84}, {name: grpc-web2, port: 85}]}
";
    let route = ROUTE.replace("name: one", "name: web").replace("port: 80", "port: 83");
    let seen = captured(&format!("{service}{route}"), json!("127.0.0.1:15001"));
    let web = filters(&seen, "10.0.0.4_83");
    assert_eq!(web[0][0], "envoy.filters.http.grpc_web", "{web:?}");
    assert!(filters(&seen, "0.0.0.0_85")[0].contains(&web[0][0]), "a name that begins so");
    let others = filters(&seen, "0.0.0.0_84");
    assert!(others.iter().flatten().all(|name| name != "envoy.filters.http.grpc_web"), "{others:?}");
    let own = seen.host("web.default.svc.cluster.local:83", "*");
    assert!(own.typed_per_filter_config.is_empty(), "it is on already");
    let cluster = seen.cluster("outbound|83||web.default.svc.cluster.local");
    assert!(!cluster.typed_extension_protocol_options.is_empty(), "the endpoint speaks HTTP/2");
}

#[test]
fn services_of_grpc_web_switch_its_filter_on_where_they_share_a_listener() {
    let web = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.0.0.4, ports: [{name: grpc-web, port: 80}]}
";
    let seen = captured(&format!("{SHOP}{web}"), json!("127.0.0.1:15001"));
    let shared = |listener: &str| {
        let found = managers(&seen, listener).into_iter().flat_map(|manager| manager.http_filters);
        let found = found.filter(|filter| filter.name == "envoy.filters.http.grpc_web");
        found.map(|filter| filter.disabled).collect::<Vec<_>>()
    };
    assert_eq!(shared("0.0.0.0_80"), [true], "off but for who says otherwise");
    assert!(shared("0.0.0.0_81").is_empty(), "nobody there speaks it");
    let told = |host: &str| {
        let host = seen.host("80", &format!("{host}.default.svc.cluster.local"));
        let config = host.typed_per_filter_config.get("envoy.filters.http.grpc_web")?;
        Some(FilterConfig::decode(&*config.value).expect("decodes"))
    };
    let on = FilterConfig { config: Some(Any::default()), ..Default::default() };
    assert_eq!(told("web"), Some(on), "Envoy takes a configuration that is empty and there as on");
    assert_eq!(told("one"), None);
}
