use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster, route, route_action,
    weighted_cluster,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use prost::Message;

use crate::{Encoded, ResourceType};

fn value(depth: u32) -> Value {
    let kind =
        if depth == 0 { Kind::StringValue("leaf".into()) } else { Kind::StructValue(fields(depth - 1)) };
    Value { kind: Some(kind) }
}

fn fields(depth: u32) -> Struct {
    Struct { fields: (0..9).map(|i| (format!("key-{i}"), value(depth))).collect() }
}

fn metadata() -> Option<Metadata> {
    let filter_metadata = ["heddle.dev", "envoy.lb", "istio"].map(|key| (key.to_owned(), fields(1)));
    Some(Metadata { filter_metadata: filter_metadata.into(), ..Default::default() })
}

fn per_filter() -> HashMap<String, Any> {
    let any = |n: u8| Any { type_url: "type.googleapis.com/x".into(), value: vec![n; 3] };
    (0..6).map(|i| (format!("filter-{i}"), any(i))).collect()
}

fn routes() -> RouteConfiguration {
    let weighted = WeightedCluster {
        clusters: vec![weighted_cluster::ClusterWeight {
            name: "b".into(),
            typed_per_filter_config: per_filter(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::WeightedClusters(weighted)),
        ..Default::default()
    };
    let route = Route {
        metadata: metadata(),
        typed_per_filter_config: per_filter(),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    };
    let host = |name: &str| VirtualHost {
        name: name.into(),
        routes: vec![route.clone(), Route { name: "a".into(), ..route.clone() }],
        metadata: metadata(),
        ..Default::default()
    };
    RouteConfiguration { name: "80".into(), virtual_hosts: vec![host("z"), host("a")], ..Default::default() }
}

fn listener() -> Listener {
    let hcm = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(routes())),
        ..Default::default()
    };
    let any = Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager".into(),
        value: hcm.encode_to_vec(),
    };
    let filter = Filter { name: "hcm".into(), config_type: Some(filter::ConfigType::TypedConfig(any)) };
    Listener {
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

#[test]
fn equal_messages_have_equal_versions_whatever_the_order_of_their_maps() {
    let route = Encoded::new(ResourceType::Route, "80", &routes());
    let listen = Encoded::new(ResourceType::Listener, "l", &listener());
    for _ in 0..10 {
        assert_eq!(Encoded::new(ResourceType::Route, "80", &routes()), route);
        assert_eq!(Encoded::new(ResourceType::Listener, "l", &listener()), listen);
        let cluster = || Cluster { metadata: metadata(), ..Default::default() };
        let (a, b) = (cluster(), cluster());
        assert_eq!(
            Encoded::new(ResourceType::Cluster, "c", &a),
            Encoded::new(ResourceType::Cluster, "c", &b)
        );
    }
    assert_eq!(
        RouteConfiguration::decode(route.body.clone()).unwrap(),
        routes(),
        "nothing but order changed"
    );
}

#[test]
fn order_of_repeated_fields_is_kept_and_counts() {
    let mut turned = routes();
    turned.virtual_hosts.reverse();
    let (a, b) = (
        Encoded::new(ResourceType::Route, "80", &routes()),
        Encoded::new(ResourceType::Route, "80", &turned),
    );
    assert_ne!(a.version, b.version);
}

#[test]
fn rubbish_is_left_alone() {
    let mut random = fastrand::Rng::with_seed(7);
    let good = listener().encode_to_vec();
    for _ in 0..2_000 {
        let mut bytes: Vec<u8> = if random.bool() {
            good.clone()
        } else {
            (0..random.usize(0..200)).map(|_| random.u8(..)).collect()
        };
        for _ in 0..random.usize(0..8) {
            let at = random.usize(0..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u8(..);
            }
        }
        let kind = ResourceType::ALL[random.usize(0..ResourceType::COUNT)];
        super::sort_maps(kind, &mut bytes);
    }
}
