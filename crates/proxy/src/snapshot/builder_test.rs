use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use proptest::prelude::{ProptestConfig, Strategy, any as arbitrary, prop_assert_eq, proptest};
use prost::Message as _;

use super::super::disk;
use super::*;
use crate::decide::kit::*;

fn eds_cluster(name: &str) -> Vec<u8> {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::Eds as i32);
    cds::Cluster { name: name.into(), cluster_discovery_type: Some(kind), ..Default::default() }
        .encode_to_vec()
}

fn endpoints(name: &str, addresses: &[&str]) -> Vec<u8> {
    let one = |text: &&str| eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address: Some(address(text)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let group =
        eds::LocalityLbEndpoints { lb_endpoints: addresses.iter().map(one).collect(), ..Default::default() };
    eds::ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![group], ..Default::default() }
        .encode_to_vec()
}

fn routes_to(clusters: &[&str]) -> Vec<u8> {
    let hosts =
        clusters.iter().map(|name| host(name, &[name], vec![route(path("prefix:/"), to(name))])).collect();
    config(hosts).encode_to_vec()
}

use ResourceType as T;

#[test]
fn a_resource_waits_for_what_it_refers_to_and_holds_up_nobody() {
    let mut builder = SnapshotBuilder::new();
    let now = Instant::now();
    builder.apply(T::Listener, "listener", &listener(&manager()).encode_to_vec()).unwrap();
    builder.apply(T::Route, "routes", &routes_to(&["x"])).unwrap();
    builder.apply(T::Cluster, "x", &eds_cluster("x")).unwrap();
    assert_eq!(builder.wanted(T::Route), [Name::new("routes")]);
    assert_eq!(builder.wanted(T::Endpoint), [Name::new("x")]);
    assert_eq!(builder.take_want_changes().len(), 2);
    assert!(builder.publish(now).is_none());
    assert_eq!(builder.waiting().count(), 3);
    builder.apply(T::Cluster, "other", &cluster("other").encode_to_vec()).unwrap();
    let first = builder.publish(now).unwrap();
    assert_eq!((first.generation, first.clusters.len(), first.listeners.len()), (1, 1, 0));
    builder.apply(T::Endpoint, "x", &endpoints("x", &["10.0.0.1:80"])).unwrap();
    let second = builder.publish(now).unwrap();
    assert_eq!((second.generation, second.clusters.len(), second.listeners.len()), (2, 2, 1));
    assert_eq!(builder.waiting().count(), 0);
    assert!(builder.publish(now).is_none());
}

#[test]
fn after_five_seconds_it_goes_on_alone() {
    let mut builder = SnapshotBuilder::new();
    let now = Instant::now();
    builder.apply(T::Route, "routes", &routes_to(&["nowhere"])).unwrap();
    assert!(builder.publish(now).is_none());
    assert_eq!(builder.deadline(), Some(now + WARMING));
    assert!(builder.publish(now + WARMING / 2).is_none());
    assert_eq!(builder.publish(now + WARMING).unwrap().routes.len(), 1);
    assert_eq!(builder.deadline(), None);
}

#[test]
fn a_refused_resource_keeps_its_previous_version_and_says_why() {
    let mut builder = SnapshotBuilder::new();
    let now = Instant::now();
    builder.apply(T::Cluster, "x", &cluster("x").encode_to_vec()).unwrap();
    builder.apply(T::Route, "routes", &routes_to(&["x"])).unwrap();
    builder.publish(now).unwrap();
    let mut bad = config(vec![host("vh", &["*"], vec![route(path("regex:("), to("x"))])]);
    let refused = |builder: &mut SnapshotBuilder, kind, name: &str, body: &[u8]| {
        builder.apply(kind, name, body).unwrap_err().to_string()
    };
    let reason = refused(&mut builder, T::Route, "routes", &bad.encode_to_vec());
    assert!(
        reason.starts_with(
            "RouteConfiguration routes: virtual_hosts[0] \"vh\".routes[0].match.safe_regex.regex: "
        ),
        "{reason}"
    );
    bad.virtual_hosts = vec![host("a", &["*"], vec![]), host("b", &["*"], vec![])];
    assert!(refused(&mut builder, T::Route, "routes", &bad.encode_to_vec()).contains("stands twice"));
    assert!(refused(&mut builder, T::Route, "routes", b"\xff\xff").contains("does not decode"));
    assert!(
        refused(&mut builder, T::Cluster, "y", &cluster("x").encode_to_vec())
            .contains("not the resource's name")
    );
    assert!(builder.publish(now).is_none());
    assert_eq!(builder.current().routes.len(), 1);
}

#[test]
fn what_cannot_be_enforced_is_refused_by_field() {
    use envoy_types::pb::envoy::config::route::v3 as rds;
    let refused = |edit: &dyn Fn(&mut rds::RouteConfiguration)| {
        let mut given = config(vec![host("vh", &["*"], vec![route(path("prefix:/"), to("a"))])]);
        edit(&mut given);
        World::with(given, &manager()).err().unwrap_or_default()
    };
    let reason = refused(&|c| c.virtual_hosts[0].rate_limits.push(rds::RateLimit::default()));
    assert!(reason.contains("rate_limits"), "{reason}");
    let reason = refused(&|c| c.request_headers_to_add.push(add("x", "%UNKNOWN%", 0)));
    assert!(reason.contains("%UNKNOWN%"), "{reason}");
    let reason = refused(&|c| c.request_headers_to_remove.push("host".into()));
    assert!(reason.contains("host"), "{reason}");
    let reason = refused(&|c| c.response_headers_to_add.push(add("a b", "1", 0)));
    assert!(reason.contains("no header name"), "{reason}");
    let unknown = |c: &mut rds::RouteConfiguration| {
        let any = envoy_types::pb::google::protobuf::Any { type_url: "t/some.Filter".into(), value: vec![] };
        c.virtual_hosts[0].typed_per_filter_config.insert("some".into(), any);
    };
    assert!(refused(&unknown).contains("some.Filter is not built and not marked optional"));
    assert_eq!(refused(&|_| {}), "");
}

#[test]
fn unchanged_virtual_hosts_are_shared() {
    let mut builder = SnapshotBuilder::new();
    for name in ["a", "b", "c"] {
        builder.apply(T::Cluster, name, &cluster(name).encode_to_vec()).unwrap();
    }
    builder.apply(T::Route, "routes", &routes_to(&["a", "b"])).unwrap();
    let before = builder.publish(Instant::now()).unwrap();
    builder.apply(T::Route, "routes", &routes_to(&["c", "b"])).unwrap();
    let after = builder.publish(Instant::now()).unwrap();
    let at = |snapshot: &Snapshot, index: usize| {
        snapshot.routes.values().next().unwrap().virtual_hosts[index].clone()
    };
    assert!(Arc::ptr_eq(&at(&before, 1), &at(&after, 1)));
    assert!(!Arc::ptr_eq(&at(&before, 0), &at(&after, 0)));
    assert!(Arc::ptr_eq(
        before.clusters.get(&Name::new("a")).unwrap(),
        after.clusters.get(&Name::new("a")).unwrap()
    ));
}

#[test]
fn the_routes_in_force_stay_while_a_listener_waits_for_others() {
    let mut builder = SnapshotBuilder::new();
    builder.apply(T::Cluster, "a", &cluster("a").encode_to_vec()).unwrap();
    builder.apply(T::Route, "routes", &routes_to(&["a"])).unwrap();
    builder.apply(T::Listener, "listener", &listener(&manager()).encode_to_vec()).unwrap();
    builder.publish(Instant::now()).unwrap();
    let mut other = manager();
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    let rds = hcm::Rds { route_config_name: "others".into(), config_source: None };
    other.route_specifier = Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds));
    builder.apply(T::Listener, "listener", &listener(&other).encode_to_vec()).unwrap();
    assert_eq!(builder.wanted(T::Route), [Name::new("others"), Name::new("routes")]);
    assert!(builder.publish(Instant::now()).is_none());
    let mut body = config(vec![]);
    body.name = "others".into();
    builder.apply(T::Route, "others", &body.encode_to_vec()).unwrap();
    assert_eq!(builder.wanted(T::Route), [Name::new("others")]);
    let after = builder.publish(Instant::now()).unwrap();
    assert!(
        !after.routes.contains_key(&Name::new("routes")) && after.routes.contains_key(&Name::new("others"))
    );
}

#[test]
fn dns_clusters_wait_for_an_answer() {
    let kind = ClusterDiscoveryType::Type(DiscoveryType::StrictDns as i32);
    let group = eds::LocalityLbEndpoints {
        lb_endpoints: vec![eds::LbEndpoint {
            host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
                address: Some({
                    let mut named = address("0.0.0.0:80");
                    if let Some(envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress(
                        socket,
                    )) = &mut named.address
                    {
                        socket.address = "example.org".into();
                    }
                    named
                }),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    let given = cds::Cluster {
        name: "x".into(),
        cluster_discovery_type: Some(kind),
        load_assignment: Some(eds::ClusterLoadAssignment {
            cluster_name: "x".into(),
            endpoints: vec![group],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut builder = SnapshotBuilder::new();
    builder.apply(T::Cluster, "x", &given.encode_to_vec()).unwrap();
    assert!(builder.publish(Instant::now()).is_none());
    let (name, dns) = builder.dns_clusters().map(|(n, d)| (n.clone(), d.clone())).next().unwrap();
    let set = dns.endpoints(|host| {
        assert_eq!(host, "example.org");
        vec!["1.2.3.4".parse().unwrap(), "5.6.7.8".parse().unwrap()]
    });
    builder.set_resolved(&name, set);
    let snapshot = builder.publish(Instant::now()).unwrap();
    let found = snapshot.endpoints(snapshot.cluster(&name).unwrap()).unwrap();
    assert_eq!(found.endpoints.len(), 2);
    assert_eq!(found.endpoints[0].hostname.as_deref(), Some("example.org"));
    builder.remove(T::Cluster, "x");
    assert_eq!(builder.publish(Instant::now()).unwrap().resolved.len(), 0);
}

/// A change: which resource, and its version (`None` removes it).
fn change() -> impl Strategy<Value = (u8, u8, Option<u8>)> {
    (0u8..3, 0u8..4, proptest::option::weighted(0.8, 0u8..3))
}

fn body(kind: u8, name: &str, version: u8) -> Vec<u8> {
    match kind {
        0 => eds_cluster(name),
        1 => endpoints(name, &[format!("10.0.0.{version}:80").as_str()]),
        _ => {
            let mut given =
                config(vec![host("vh", &["*"], vec![route(path("prefix:/"), to(&format!("n{version}")))])]);
            given.name = name.into();
            given.encode_to_vec()
        }
    }
}

/// What a snapshot says, without identities of builds.
fn said(snapshot: &Snapshot) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    out.extend(snapshot.clusters.keys().map(|name| format!("cluster {name}")));
    out.extend(snapshot.endpoints.iter().map(|(name, set)| format!("endpoints {name} {:?}", set.endpoints)));
    out.extend(
        snapshot
            .routes
            .iter()
            .map(|(name, config)| format!("routes {name} {:?}", config.virtual_hosts[0].routes)),
    );
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changes_one_by_one_come_to_the_same_as_the_last_of_each(changes in proptest::collection::vec(change(), 0..40)) {
        let kinds = [T::Cluster, T::Endpoint, T::Route];
        let mut one_by_one = SnapshotBuilder::new();
        let mut last = BTreeMap::new();
        let now = Instant::now();
        for (kind, name, version) in &changes {
            let text = format!("n{name}");
            match version {
                Some(version) => {
                    one_by_one.apply(kinds[usize::from(*kind)], &text, &body(*kind, &text, *version)).unwrap();
                }
                None => one_by_one.remove(kinds[usize::from(*kind)], &text),
            }
            // A set that no cluster asks for any more is dropped with its cluster.
            if *kind == 0 && version.is_none() && matches!(last.get(&(0, *name)), Some(Some(_))) {
                last.insert((1, *name), None);
            }
            last.insert((*kind, *name), *version);
            one_by_one.publish(now);
        }
        let mut at_once = SnapshotBuilder::new();
        for ((kind, name), version) in &last {
            if let Some(version) = version {
                let text = format!("n{name}");
                at_once.apply(kinds[usize::from(*kind)], &text, &body(*kind, &text, *version)).unwrap();
            }
        }
        for builder in [&mut one_by_one, &mut at_once] {
            builder.publish(now);
            builder.publish(now + WARMING);
        }
        prop_assert_eq!(said(one_by_one.current()), said(at_once.current()));
        // And the file of one says the same.
        let mut restored = SnapshotBuilder::new();
        for resource in disk::decode(&disk::encode(&one_by_one)).unwrap() {
            restored.apply(resource.kind, &resource.name, &resource.body).unwrap();
        }
        restored.publish(now);
        restored.publish(now + WARMING);
        prop_assert_eq!(said(one_by_one.current()), said(restored.current()));
    }

    #[test]
    fn rubbish_is_refused_without_a_panic(bytes in proptest::collection::vec(arbitrary::<u8>(), 0..200)) {
        let mut builder = SnapshotBuilder::new();
        for kind in T::ALL {
            let _ = builder.apply(kind, "x", &bytes);
        }
        builder.publish(Instant::now());
        let _ = disk::decode(&bytes);
    }
}

#[test]
fn a_damaged_file_is_no_configuration() {
    let mut builder = SnapshotBuilder::new();
    builder.apply(T::Cluster, "a", &cluster("a").encode_to_vec()).unwrap();
    let file = disk::encode(&builder);
    assert_eq!(disk::decode(&file).unwrap().len(), 1);
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(disk::decode(&damaged).is_err(), "byte {at}");
        assert!(disk::decode(&file[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn every_field_is_judged_once() {
    let mut seen = std::collections::BTreeSet::new();
    for rule in crate::snapshot::rules() {
        assert!(seen.insert(rule.field), "{} stands twice", rule.field);
    }
    assert!(seen.len() > 250, "{}", seen.len());
}
