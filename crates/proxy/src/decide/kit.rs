//! Configuration by a few words, for tests of deciding.

use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::http as filters;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf;
use heddle_xds::ResourceType;
use prost::Message;

use super::{Decision, Downstream, Forward, Respond, decide};
use crate::http::head::{RequestHead, Scheme};
use crate::snapshot::{Snapshot, SnapshotBuilder};

pub(crate) fn any<T: Message + prost::Name>(message: &T) -> protobuf::Any {
    protobuf::Any { type_url: T::type_url(), value: message.encode_to_vec() }
}

pub(crate) fn string(pattern: matcher::string_matcher::MatchPattern) -> matcher::StringMatcher {
    matcher::StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

pub(crate) fn exact(text: &str) -> matcher::StringMatcher {
    string(matcher::string_matcher::MatchPattern::Exact(text.into()))
}

pub(crate) fn regex(text: &str) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: text.into(), engine_type: None }
}

pub(crate) fn duration(seconds: f64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds: seconds as i64, nanos: (seconds.fract() * 1e9).round() as i32 })
}

pub(crate) fn percent(numerator: u32) -> core::RuntimeFractionalPercent {
    let value = envoy_types::pb::envoy::r#type::v3::FractionalPercent { numerator, denominator: 0 };
    core::RuntimeFractionalPercent { default_value: Some(value), runtime_key: String::new() }
}

/// `prefix:/a`, `path:/a`, `under:/a`, `regex:/a.*`, `connect:`; a leading `i` ignores case.
pub(crate) fn path(text: &str) -> rds::RouteMatch {
    let (kind, value) = text.split_once(':').unwrap();
    let value = value.to_string();
    let (kind, ignore) = kind.strip_prefix("i-").map_or((kind, false), |kind| (kind, true));
    let specifier = match kind {
        "prefix" => PathSpecifier::Prefix(value),
        "path" => PathSpecifier::Path(value),
        "under" => PathSpecifier::PathSeparatedPrefix(value),
        "regex" => PathSpecifier::SafeRegex(regex(&value)),
        "connect" => PathSpecifier::ConnectMatcher(rds::route_match::ConnectMatcher {}),
        other => panic!("{other}"),
    };
    let case_sensitive = ignore.then_some(protobuf::BoolValue { value: false });
    rds::RouteMatch { path_specifier: Some(specifier), case_sensitive, ..Default::default() }
}

pub(crate) fn header(name: &str, kind: HeaderMatchSpecifier) -> rds::HeaderMatcher {
    rds::HeaderMatcher { name: name.into(), header_match_specifier: Some(kind), ..Default::default() }
}

pub(crate) fn to(cluster: &str) -> rds::RouteAction {
    let specifier = rds::route_action::ClusterSpecifier::Cluster(cluster.into());
    rds::RouteAction { cluster_specifier: Some(specifier), ..Default::default() }
}

/// A route to a cluster of its own name.
pub(crate) fn route(matched: rds::RouteMatch, action: rds::RouteAction) -> rds::Route {
    rds::Route {
        r#match: Some(matched),
        action: Some(rds::route::Action::Route(action)),
        ..Default::default()
    }
}

pub(crate) fn host(name: &str, domains: &[&str], routes: Vec<rds::Route>) -> rds::VirtualHost {
    let domains = domains.iter().map(|domain| domain.to_string()).collect();
    rds::VirtualHost { name: name.into(), domains, routes, ..Default::default() }
}

pub(crate) fn config(virtual_hosts: Vec<rds::VirtualHost>) -> rds::RouteConfiguration {
    rds::RouteConfiguration { name: "routes".into(), virtual_hosts, ..Default::default() }
}

pub(crate) fn add(name: &str, value: &str, action: i32) -> core::HeaderValueOption {
    let header = core::HeaderValue { key: name.into(), value: value.into(), ..Default::default() };
    core::HeaderValueOption { header: Some(header), append_action: action, ..Default::default() }
}

pub(crate) fn cluster(name: &str) -> cds::Cluster {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::Static as i32);
    cds::Cluster { name: name.into(), cluster_discovery_type: Some(kind), ..Default::default() }
}

fn filter<T: Message + prost::Name>(name: &str, config: &T) -> hcm::HttpFilter {
    let config = hcm::http_filter::ConfigType::TypedConfig(any(config));
    hcm::HttpFilter { name: name.into(), config_type: Some(config), ..Default::default() }
}

/// A manager that reads route configuration `routes`.
pub(crate) fn manager() -> hcm::HttpConnectionManager {
    let rds = hcm::Rds { route_config_name: "routes".into(), config_source: None };
    hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        http_filters: vec![
            filter("envoy.filters.http.cors", &filters::cors::v3::Cors {}),
            filter("envoy.filters.http.fault", &filters::fault::v3::HttpFault::default()),
            filter("envoy.filters.http.router", &filters::router::v3::Router::default()),
        ],
        ..Default::default()
    }
}

pub(crate) fn address(text: &str) -> core::Address {
    let at: std::net::SocketAddr = text.parse().unwrap();
    let port = core::socket_address::PortSpecifier::PortValue(at.port().into());
    let socket = core::SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(port),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

pub(crate) fn listener(manager: &hcm::HttpConnectionManager) -> lds::Listener {
    let filter = lds::Filter {
        name: "http".into(),
        config_type: Some(lds::filter::ConfigType::TypedConfig(any(manager))),
    };
    let chain = lds::FilterChain { filters: vec![filter], ..Default::default() };
    lds::Listener {
        name: "listener".into(),
        address: Some(address("127.0.0.1:80")),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

/// A snapshot and a connection to decide with.
pub(crate) struct World {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) downstream: Downstream,
}

impl World {
    /// Clusters `a` to `e` exist.
    pub(crate) fn new(config: rds::RouteConfiguration) -> World {
        World::with(config, &manager()).unwrap()
    }

    pub(crate) fn of_routes(routes: Vec<rds::Route>) -> World {
        World::new(config(vec![host("vh", &["*"], routes)]))
    }

    pub(crate) fn with(
        config: rds::RouteConfiguration,
        manager: &hcm::HttpConnectionManager,
    ) -> Result<World, String> {
        let mut builder = SnapshotBuilder::new();
        let mut put =
            |kind, name: &str, body: Vec<u8>| builder.apply(kind, name, &body).map_err(|e| e.to_string());
        for name in ["a", "b", "c", "d", "e"] {
            put(ResourceType::Cluster, name, cluster(name).encode_to_vec())?;
        }
        put(ResourceType::Listener, "listener", listener(manager).encode_to_vec())?;
        put(ResourceType::Route, "routes", config.encode_to_vec())?;
        let start = Instant::now();
        builder.publish(start);
        builder.publish(start + crate::snapshot::WARMING);
        let snapshot = builder.current().clone();
        let listener = snapshot.listeners.values().next().unwrap().clone();
        let downstream = Downstream {
            chain: listener.chains[0].clone(),
            listener,
            peer: "10.1.2.3:4567".parse().unwrap(),
            local: "127.0.0.1:80".parse().unwrap(),
            original_dst: None,
            passed_on_by: None,
            machine: None,
            scheme: Scheme::Http,
            server_name: None,
            client_cert: None,
            connection_id: 7,
        };
        Ok(World { snapshot, downstream })
    }

    pub(crate) fn decide(&self, head: &RequestHead) -> Decision<'_> {
        decide(&self.snapshot, &self.downstream, head, 42)
    }

    pub(crate) fn forward(&self, head: &RequestHead) -> Forward<'_> {
        match self.decide(head) {
            Decision::Forward(forward) => forward,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn respond(&self, head: &RequestHead) -> Respond<'_> {
        match self.decide(head) {
            Decision::Respond(respond) => respond,
            other => panic!("{other:?}"),
        }
    }

    /// The cluster's name, or the status.
    pub(crate) fn outcome(&self, head: &RequestHead) -> String {
        match self.decide(head) {
            Decision::Forward(forward) => forward.cluster.name.to_string(),
            Decision::Respond(respond) => respond.status.to_string(),
            Decision::Need(names) => format!("{names:?}"),
        }
    }

    /// The request as it goes upstream.
    pub(crate) fn sent(&self, mut head: RequestHead) -> RequestHead {
        super::prepare(&self.downstream, &mut head, 1).unwrap();
        let forward = self.forward(&head);
        forward.edit_request(&self.downstream, &mut head);
        head
    }
}

/// `GET host/path x-a=1 x-b=2`: a request in a line; spaces in values are written `_`.
pub(crate) fn request(line: &str) -> RequestHead {
    let mut words = line.split(' ');
    let method = words.next().unwrap();
    let target = words.next().unwrap();
    let (host, path) = target.split_once('/').map_or((target, String::new()), |(h, p)| (h, format!("/{p}")));
    let mut head = RequestHead::new(method, host, &path);
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        head.headers.append(name, value.replace('_', " ").as_bytes());
    }
    head
}

/// `name=value` of every header, sorted.
pub(crate) fn shown(headers: &crate::http::head::Headers) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all: Vec<String> =
        headers.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    all.sort();
    all
}
