//! What a large configuration holds, and what it takes while it is loaded and changed: bytes of heap, counted.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use heddle_proxy::snapshot::{SnapshotBuilder, WARMING};
use heddle_xds::ResourceType;
use matcher::string_matcher::MatchPattern;
use prost::Message as _;
use route::header_matcher::HeaderMatchSpecifier;
use route::route_match::PathSpecifier;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as this call.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as this call.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HOSTS: usize = 10;
const ROUTES: usize = 300;
const ENDPOINTS: usize = 2000;

/// What a control plane says of a resource to a proxy of ours.
fn ours(fields: &[(&str, String)]) -> Option<core::Metadata> {
    let value = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let filter_metadata = HashMap::from([("heddle.dev".to_owned(), Struct { fields })]);
    Some(core::Metadata { filter_metadata, ..Default::default() })
}

fn header(name: &str, value: String) -> route::HeaderMatcher {
    let text =
        matcher::StringMatcher { match_pattern: Some(MatchPattern::Exact(value)), ..Default::default() };
    let specifier = HeaderMatchSpecifier::StringMatch(text);
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// 40 % exact paths, 30 % prefixes, 10 % expressions, 20 % headers, over 50 clusters, retried as meshes do.
fn one_route(host: usize, number: usize) -> route::Route {
    let path = match number % 10 {
        0..4 => PathSpecifier::Path(format!("/api/v1/{number}-things-{host}/items")),
        4..7 => PathSpecifier::Prefix(format!("/things-{host}-{number}/")),
        7 => PathSpecifier::SafeRegex(matcher::RegexMatcher {
            regex: format!("/orders-{host}-{number}/[0-9]+/(lines|notes)"),
            ..Default::default()
        }),
        _ => PathSpecifier::Prefix("/tenant/".to_owned()),
    };
    let headers =
        if number % 10 > 7 { vec![header("x-tenant", format!("tenant{number}"))] } else { Vec::new() };
    let cluster = format!("outbound|80||c{}.shop.svc.cluster.local", (host * 7 + number * 3) % 50);
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster)),
        retry_policy: Some(route::RetryPolicy {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
                .to_owned(),
            retriable_status_codes: vec![503],
            ..Default::default()
        }),
        ..Default::default()
    };
    route::Route {
        r#match: Some(route::RouteMatch { path_specifier: Some(path), headers, ..Default::default() }),
        action: Some(route::route::Action::Route(action)),
        metadata: ours(&[
            ("object", format!("VirtualService default/shop-{host}")),
            ("field", format!("spec.http[{number}]")),
        ]),
        ..Default::default()
    }
}

fn routes() -> route::RouteConfiguration {
    let virtual_host = |host: usize| route::VirtualHost {
        name: format!("shop-{host}"),
        domains: vec![format!("shop-{host}.example")],
        routes: (0..ROUTES).map(|number| one_route(host, number)).collect(),
        ..Default::default()
    };
    let virtual_hosts = (0..HOSTS).map(virtual_host).collect();
    route::RouteConfiguration { name: "routes".to_owned(), virtual_hosts, ..Default::default() }
}

fn one_endpoint(number: usize) -> endpoint::LbEndpoint {
    let ip = format!("10.1.{}.{}", number / 250, number % 250 + 1);
    let socket = core::SocketAddress {
        address: ip.clone(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(8080)),
        ..Default::default()
    };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    let endpoint = endpoint::Endpoint { address: Some(address), ..Default::default() };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        metadata: ours(&[("workload", ip), ("namespace", "default".to_owned())]),
        ..Default::default()
    }
}

fn endpoints() -> Vec<u8> {
    let lb_endpoints = (0..ENDPOINTS).map(one_endpoint).collect();
    let group = endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    let set = endpoint::ClusterLoadAssignment {
        cluster_name: "endpoints".to_owned(),
        endpoints: vec![group],
        ..Default::default()
    };
    set.encode_to_vec()
}

/// Bytes that a resource holds besides its own message, and the most that it took on the way, of both together.
fn applied(builder: &mut SnapshotBuilder, kind: ResourceType, name: &str, body: &[u8]) -> (usize, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    builder.apply(kind, name, body).unwrap();
    let now = Instant::now();
    assert!(builder.publish(now).is_some() || builder.publish(now + WARMING).is_some());
    let held = LIVE.load(Relaxed).saturating_sub(before);
    (held.saturating_sub(body.len()), PEAK.load(Relaxed) - before)
}

#[test]
fn a_large_configuration_holds_little() {
    let mut builder = SnapshotBuilder::new();
    let mut routes = routes();
    let first = routes.encode_to_vec();
    routes.virtual_hosts[0].include_request_attempt_count = true;
    let (second, set) = (routes.encode_to_vec(), endpoints());
    let (held, peak) = applied(&mut builder, ResourceType::Route, "routes", &first);
    let (route, whole) = (held / (HOSTS * ROUTES), held + first.len());
    let (endpoints, _) = applied(&mut builder, ResourceType::Endpoint, "endpoints", &set);
    let endpoint = endpoints / ENDPOINTS;
    // Workers run the generation before this until they have taken up the next.
    let _running = builder.current().clone();
    let (_, change) = applied(&mut builder, ResourceType::Route, "routes", &second);
    println!(
        "{route} bytes a route, {endpoint} an endpoint; of {whole} bytes loading took {peak}, a change {change}"
    );
    assert!(route <= 480, "{route} bytes for a route");
    assert!(endpoint <= 280, "{endpoint} bytes for an endpoint");
    assert!(peak <= whole * 5 / 4, "{peak} bytes while {whole} were loaded");
    assert!(change <= whole * 3 / 5, "{change} bytes while a tenth of {whole} changed");
}
