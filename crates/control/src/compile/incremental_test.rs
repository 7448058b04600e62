//! The law of the compiler: what it keeps up to date is what compiling from scratch gives.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use heddle_resource::{AdmitOptions, Object, admit_json, kind};
use heddle_xds::{Change as Difference, ClientKind, ResourceType, View};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Change, Compiler, MeshConfig, Scope, World, compile, kit};

fn object(value: Value) -> Arc<Object> {
    let admitted = admit_json(value.clone(), &AdmitOptions::default());
    let faults = format!("{:?}", admitted.diagnostics());
    Arc::new(admitted.object().unwrap_or_else(|| panic!("{value}: {faults}")))
}

fn document(kind: &str, namespace: &str, name: &str, spec: &Value, age: u8) -> Value {
    let version = if matches!(kind, "Service" | "Secret") { "v1" } else { "networking.istio.io/v1" };
    if kind == "Secret" {
        return json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "stringData": spec
        });
    }
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
        "spec": spec
    })
}

const NAMESPACES: [&str; 2] = ["a", "b"];

/// The content of a Secret: a pair of three, one without its key, one with another's, or authorities.
fn secret(seed: u8) -> Value {
    static PAIRS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let pairs = PAIRS.get_or_init(|| {
        let made =
            (0..3).map(|_| rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate"));
        made.map(|made| (made.cert.pem(), made.signing_key.serialize_pem())).collect()
    });
    let ((certificate, key), (_, other)) =
        (&pairs[usize::from(seed % 3)], &pairs[usize::from(seed.wrapping_add(1) % 3)]);
    match seed / 3 % 5 {
        0 => json!({ "tls.crt": certificate }),
        1 => json!({"tls.crt": certificate, "tls.key": other}),
        2 => json!({"cert": certificate, "key": key, "cacert": certificate}),
        _ => json!({"tls.crt": certificate, "tls.key": key}),
    }
}

/// One object out of a small world in which names collide and refer to each other, or its deletion.
fn change() -> impl Strategy<Value = Change> {
    let place = (0..2usize, 0..3u8, 0..60u8, any::<bool>(), 0..6u8);
    (place, 0..9u8, any::<u8>()).prop_map(|((namespace, n, age, deleted, other), what, seed)| {
        let namespace = NAMESPACES[namespace];
        let peer = format!("s{}", other % 3);
        let (kind, name, spec) = match what {
            0 => ("Service", format!("s{n}"), json!({
                "selector": {"app": format!("s{n}")},
                "clusterIP": if seed % 3 == 0 { "" } else { "10.0.0.1" },
                "ports": if seed % 2 == 0 { json!([{"name": if seed % 8 == 0 { "grpc-web" } else { "http" }, "port": 80}]) }
                    else { json!([{"name": "http", "port": 80}, {"name": "tcp", "port": 90}]) },
            })),
            1 | 2 => ("WorkloadEntry", format!("w{n}{other}"), json!({
                "address": format!("10.1.0.{}", seed % 5),
                "labels": {"app": peer, "version": format!("v{}", seed % 2)},
            })),
            3 => ("DestinationRule", format!("d{n}"), json!({
                "host": peer,
                "exportTo": if seed % 3 == 0 { json!(["."]) } else { json!([]) },
                "trafficPolicy": if seed % 5 == 0 { json!({"tls": {"mode": "MUTUAL", "credentialName": format!("c{}", seed % 2)}}) } else { json!({"loadBalancer": {"simple": "RANDOM"}}) },
                "subsets": [{"name": "v0", "labels": {"version": "v0"}}, {"name": format!("v{}", seed % 3 + 1), "labels": {"version": "v1"}}],
            })),
            4 => ("VirtualService", format!("v{n}"), json!({
                "hosts": if seed % 4 == 0 { json!(["*"]) } else { json!([peer]) },
                "exportTo": if seed % 7 == 0 { json!(["."]) } else { json!([]) },
                "gateways": if seed % 3 == 0 { json!(["a/g0", "b/g1", "mesh"]) } else { json!([]) },
                "http": [
                    {"match": [{"uri": {"prefix": format!("/{}", seed % 4)}, "sourceLabels": if seed % 2 == 0 { json!({"team": "x"}) } else { json!({}) }}],
                     "route": [{"destination": {"host": "s0", "subset": "v0"}}]},
                    {"route": [{"destination": {"host": format!("s{}", seed % 3)}}]},
                ],
                "tcp": [{"route": [{"destination": {"host": "s1", "port": {"number": 90}}}]}],
            })),
            7 => ("Secret", format!("c{}{}", n % 2, if seed % 4 == 0 { "-cacert" } else { "" }), secret(seed)),
            8 => ("Gateway", format!("g{}", n % 2), json!({
                "selector": if seed % 5 == 0 { json!({"team": "x"}) } else { json!({}) },
                "servers": [
                    {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": [if seed % 2 == 0 { "*" } else { "e0.example.com" }],
                     "tls": {"mode": if seed % 3 == 0 { "MUTUAL" } else { "SIMPLE" }, "credentialName": format!("c{}", seed % 2)}},
                ],
            })),
            5 => ("Sidecar", "default".to_owned(), json!({
                "egress": [{"hosts": if seed % 2 == 0 { json!(["./*"]) } else { json!(["*/s0.a.svc.cluster.local", "./*"]) }}],
            })),
            _ => ("ServiceEntry", format!("e{n}"), json!({
                "hosts": [format!("e{}.example.com", seed % 2)],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": if seed % 3 == 0 { "DNS" } else { "STATIC" },
                "endpoints": [{"address": format!("10.2.0.{}", seed % 3), "labels": {"version": "v1"}}],
            })),
        };
        let mut document = document(kind, namespace, &name, &spec, age);
        if kind == "ServiceEntry" && spec["resolution"] == "DNS" {
            document["spec"]["endpoints"] = json!([]);
        }
        let object = object(document);
        if deleted { Change::Delete { source: 0, key: object.key() } } else { Change::Put { source: 0, object } }
    })
}

fn scopes(world: &World) -> Vec<Scope> {
    let mut found = Vec::new();
    for (namespace, team) in [("a", "x"), ("a", "y"), ("b", "x")] {
        for client in [ClientKind::Heddle, ClientKind::Envoy] {
            let metadata = json!({"OUTBOUND": "127.0.0.1:1", "LABELS": {"team": team, "app": "s0"}});
            found.push(kit::scope(world, &kit::node("sidecar", namespace, client, metadata)));
        }
    }
    for namespace in NAMESPACES {
        let labels = json!({"LABELS": {"team": "x"}});
        found.push(kit::scope(world, &kit::node("router", namespace, ClientKind::Envoy, labels)));
    }
    let captured = json!({"OUTBOUND": "127.0.0.1:1", "INTERCEPTION_MODE": "REDIRECT"});
    found.push(kit::scope(world, &kit::node("sidecar", "a", ClientKind::Heddle, captured)));
    let node = json!({"OUTBOUND": ["a/team=x=127.0.0.1:1", "b=127.0.0.1:2"]});
    found.push(kit::scope(world, &kit::node("node", "a", ClientKind::Heddle, node)));
    found.sort();
    found.dedup();
    found
}

/// The resources that two views do not have alike, with what each has.
fn differing(own: &View, scratch: &View) -> Vec<String> {
    let found = ResourceType::ALL.into_iter().flat_map(|kind| own.diff(scratch, kind));
    let found = found.map(|change| match change {
        Difference::Put(resource) => {
            format!("{resource:?}, from scratch {:?}", scratch.get(resource.kind, &resource.name))
        }
        Difference::Removed(resource) => format!("nothing, from scratch {resource:?}"),
    });
    found.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn incremental_is_from_scratch(batches in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..12)) {
        let mut world = World::new(MeshConfig::default());
        let mut compiler = Compiler::default();
        for (n, batch) in batches.iter().enumerate() {
            let (next, dirty) = world.apply(batch);
            world = next;
            compiler.update(&world, &dirty);
            // Scopes come and go as their labels begin and cease to matter.
            let scopes = scopes(&world);
            let kept: Vec<_> = compiler.scopes().cloned().collect();
            for scope in kept.iter().filter(|scope| !scopes.contains(scope) || n % 5 == 4) {
                compiler.detach(scope);
            }
            for scope in &scopes {
                compiler.attach(&world, scope);
                let own = compiler.compiled(scope).expect("attached");
                let scratch = compile(&world, scope);
                let differing = differing(&own.view, &scratch.view);
                prop_assert!(differing.is_empty(), "{:?} after batch {}: {:#?}", scope, n, differing);
                prop_assert_eq!(own.findings, scratch.findings);
            }
        }
    }

    #[test]
    fn the_world_does_not_depend_on_the_order_of_changes(changes in prop::collection::vec(change(), 1..12)) {
        let mut seen = BTreeSet::new();
        let mut distinct = changes;
        distinct.retain(|change| seen.insert(change.key()));
        let empty = World::new(MeshConfig::default());
        let (there, _) = empty.apply(&distinct);
        let mut back = empty;
        for change in distinct.iter().rev() {
            back = back.apply(std::slice::from_ref(change)).0;
        }
        for scope in scopes(&there) {
            prop_assert_eq!(&*compile(&there, &scope).view, &*compile(&back, &scope).view);
        }
    }
}

/// Whoever has the listener of an address that two services claim, a change to the other must not hand it over.
#[test]
fn two_services_of_one_address_do_not_take_turns() {
    let put = |kind: &str, name: &str, spec: Value| Change::Put {
        source: 0,
        object: object(document(kind, "a", name, &spec, 0)),
    };
    let service = |name: &str| {
        put("Service", name, json!({"clusterIP": "10.0.0.1", "ports": [{"name": "tcp", "port": 90}]}))
    };
    let route = |host: &str| {
        let to = json!([{"route": [{"destination": {"host": "elsewhere", "port": {"number": 90}}}]}]);
        put("VirtualService", host, json!({"hosts": [host], "tcp": to}))
    };
    let (mut world, mut compiler) = (World::new(MeshConfig::default()), Compiler::default());
    let metadata = json!({"OUTBOUND": "127.0.0.1:1", "INTERCEPTION_MODE": "REDIRECT"});
    let scope = kit::scope(&world, &kit::node("sidecar", "a", ClientKind::Heddle, metadata));
    compiler.attach(&world, &scope);
    for change in [service("s0"), service("s1"), route("s0"), route("s1")] {
        let (next, dirty) = world.apply(&[change]);
        world = next;
        compiler.update(&world, &dirty);
        let scratch = compile(&world, &scope);
        assert_eq!(*compiler.view(&scope).expect("attached"), *scratch.view);
        assert!(scratch.view.get(ResourceType::Listener, "10.0.0.1_90").is_some());
    }
}

/// A world of services, each with its endpoints.
fn large(services: usize, endpoints: usize) -> World {
    let mut changes = Vec::new();
    for s in 0..services {
        let spec = json!({"selector": {"app": format!("s{s}")}, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]});
        changes.push(Change::Put {
            source: 0,
            object: object(document("Service", "a", &format!("s{s}"), &spec, 0)),
        });
        for e in 0..endpoints {
            let spec = json!({"address": format!("10.{}.{}.{e}", s / 250, s % 250), "labels": {"app": format!("s{s}")}});
            let name = format!("w{s}-{e}");
            changes.push(Change::Put {
                source: 0,
                object: object(document("WorkloadEntry", "a", &name, &spec, 0)),
            });
        }
    }
    World::new(MeshConfig::default()).apply(&changes).0
}

#[test]
fn an_endpoint_change_compiles_and_encodes_that_set_once_for_all_scopes() {
    let world = large(200, 5);
    let mut compiler = Compiler::default();
    let mut scopes = Vec::new();
    for n in 0..20 {
        let metadata = json!({"OUTBOUND": format!("127.0.0.1:{}", 1000 + n)});
        let namespace = if n % 2 == 0 { "a" } else { "b" };
        let scope = kit::scope(&world, &kit::node("sidecar", namespace, ClientKind::Heddle, metadata));
        compiler.attach(&world, &scope);
        scopes.push(scope);
    }
    let counters = compiler.counters();
    let counts = || ResourceType::ALL.map(|kind| (counters.compiled_of(kind), counters.encoded_of(kind)));
    let before = counts();
    let spec = json!({"address": "10.9.9.9", "labels": {"app": "s7"}});
    let change = Change::Put { source: 0, object: object(document("WorkloadEntry", "a", "new", &spec, 0)) };
    let (world, dirty) = world.apply(&[change]);
    assert!(dirty.endpoints_only());
    let changed = compiler.update(&world, &dirty);
    assert_eq!(changed.len(), scopes.len());
    for ((kind, before), after) in ResourceType::ALL.into_iter().zip(before).zip(counts()) {
        let one = u64::from(kind == ResourceType::Endpoint);
        assert_eq!(after, (before.0 + one, before.1 + one), "{kind}");
    }
    let name = "outbound|80||s7.a.svc.cluster.local";
    let first = compiler.view(&scopes[0]).expect("a view");
    for scope in &scopes {
        let view = compiler.view(scope).expect("a view");
        let shared = (view.get(ResourceType::Endpoint, name), first.get(ResourceType::Endpoint, name));
        let (Some(own), Some(other)) = shared else { panic!("no endpoints") };
        assert!(Arc::ptr_eq(own, other), "the same bytes for everybody");
    }
}

#[test]
fn a_change_that_means_nothing_stops_early() {
    let world = large(50, 1);
    let mut compiler = Compiler::default();
    let scope = kit::scope(
        &world,
        &kit::node("sidecar", "a", ClientKind::Heddle, json!({"OUTBOUND": "127.0.0.1:1"})),
    );
    compiler.attach(&world, &scope);
    let counters = compiler.counters();
    let routes = counters.compiled_of(ResourceType::Route);
    let clusters = counters.compiled_of(ResourceType::Cluster);
    // A service that this scope cannot see.
    let mut hidden = document("Service", "b", "hidden", &json!({"ports": [{"name": "http", "port": 80}]}), 0);
    hidden["metadata"]["annotations"] = json!({"networking.istio.io/exportTo": "."});
    let (world, dirty) = world.apply(&[Change::Put { source: 0, object: object(hidden) }]);
    assert!(compiler.update(&world, &dirty).is_empty());
    assert_eq!(counters.compiled_of(ResourceType::Route), routes);
    assert_eq!(counters.compiled_of(ResourceType::Cluster), clusters);
    assert_eq!(world.count(&kind::SERVICE), 51);
}

/// A listener that services share knows of their ports by its name alone: other services do not concern it.
#[test]
fn a_shared_listener_is_compiled_for_the_first_service_of_grpc_web_alone() {
    let mut world = large(20, 0);
    let mut compiler = Compiler::default();
    let metadata = json!({"OUTBOUND": "127.0.0.1:1", "INTERCEPTION_MODE": "REDIRECT"});
    // Of a namespace without services: which of them select it is not asked anew.
    let scope = kit::scope(&world, &kit::node("sidecar", "b", ClientKind::Heddle, metadata));
    compiler.attach(&world, &scope);
    let counters = compiler.counters();
    let service = |name: &str, port: &str| Change::Put {
        source: 0,
        object: object(document(
            "Service",
            "a",
            name,
            &json!({"clusterIP": "10.0.0.2", "ports": [{"name": port, "port": 80}]}),
            0,
        )),
    };
    let gone = |name: &str| Change::Delete { source: 0, key: service(name, "http").key() };
    // What it was before is kept, and taken up again.
    let steps = [
        (service("more", "http"), 0),
        (service("first", "grpc-web"), 1),
        (service("second", "grpc-web"), 0),
        (gone("more"), 0),
        (gone("first"), 0),
        (gone("second"), 0),
    ];
    for (n, (change, expected)) in steps.into_iter().enumerate() {
        let before = counters.compiled_of(ResourceType::Listener);
        let (next, dirty) = world.apply(&[change]);
        world = next;
        compiler.update(&world, &dirty);
        assert_eq!(counters.compiled_of(ResourceType::Listener) - before, expected, "step {n}");
        assert_eq!(*compiler.view(&scope).expect("attached"), *compile(&world, &scope).view, "step {n}");
    }
}
