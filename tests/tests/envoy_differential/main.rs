//! heddle's proxy and real Envoy, joined to the same control plane, give the same answers to the same requests.
//!
//! Compared are the status, the backend, and all headers that the backend and the client see. Only the values of `date`,
//! `server`, `x-request-id` and `x-envoy-upstream-service-time` may differ. No resource is refused.

mod features;
mod peer;
mod raw;
mod routes;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::SocketAddr,
    sync::Arc,
};

use features::{FEATURES, Feature};
use heddle_control::{Control, ControlConfig};
use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};
use heddle_tests::{envoy::free_address, eventually, say};
use peer::{Peer, Place};
use raw::{Backend, Log, Message, send};

/// Headers whose values may differ.
const FREE: [&str; 4] = ["date", "server", "x-request-id", "x-envoy-upstream-service-time"];

struct World {
    control: Control,
    xds: SocketAddr,
    log: Log,
    scratch: tempfile::TempDir,
    _backends: Vec<Backend>,
}

fn service(host: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\nspec: {{hosts: [{host}], \
         ports: [{ports}], resolution: STATIC, location: MESH_INTERNAL, endpoints: [{endpoints}]}}\n",
        host.replace('.', "-")
    )
}

fn resources(ports: &BTreeMap<&str, u16>, gateway_port: u16) -> String {
    const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
    let at = |name: &str, labels: &str| {
        format!("{{address: 127.0.0.1, ports: {{http: {}}}, labels: {{{labels}}}}}", ports[name])
    };
    let mut text = String::new();
    for name in ["shop", "a", "b", "c", "mirror"] {
        text += &service(&format!("{name}.mesh"), HTTP, &at(name, ""));
    }
    text +=
        &service("versions.mesh", HTTP, &format!("{}, {}", at("b", "version: one"), at("c", "version: two")));
    text += &service(
        "ports.mesh",
        "{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}",
        &format!("{{address: 127.0.0.1, ports: {{http: {}, more: {}}}}}", ports["a"], ports["c"]),
    );
    text += &service("empty.mesh", HTTP, "");
    text += &service("refused.mesh", HTTP, "{address: 127.0.0.1, ports: {http: 1}}");
    text += "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: versions}\nspec: \
             {host: versions.mesh, subsets: [{name: one, labels: {version: one}}, {name: two, labels: {version: two}}]}\n";
    text += &format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{selector: {{istio: gw}}, \
         servers: [{{port: {{number: {gateway_port}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n"
    );
    text += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a.mesh], \
             gateways: [gw], http: [{route: [{destination: {host: a.mesh}}]}]}\n";
    text += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\n\
             spec:\n  hosts: [shop.mesh]\n  gateways: [mesh, gw]\n  http:\n";
    for Feature { rule, .. } in FEATURES.iter().filter(|feature| !feature.rule.is_empty()) {
        text += &format!("  - {rule}\n");
    }
    text += "  - {route: [{destination: {host: shop.mesh}}]}\n";
    text + &gateway_api(ports, gateway_port)
}

/// The same backends as core Services behind a Gateway of Gateway API.
fn gateway_api(ports: &BTreeMap<&str, u16>, gateway_port: u16) -> String {
    let mut text = String::new();
    for (name, port) in ports {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: None, ports: [{{name: http, \
             port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
             {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints: \
             [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]\n"
        );
    }
    text += &format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: heddle}}\nspec: \
         {{controllerName: heddle.dev/gateway-controller}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: gw}}\nspec: {{gatewayClassName: heddle, listeners: [{{name: http, port: {gateway_port}, \
         protocol: HTTP}}]}}\n"
    );
    text += "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\n\
             spec:\n  parentRefs: [{name: gw}]\n  hostnames: [shop.mesh]\n  rules:\n";
    for Feature { rule, .. } in routes::ROUTES.iter().filter(|feature| !feature.rule.is_empty()) {
        text += &format!("  - {rule}\n");
    }
    text + "  - {backendRefs: [{name: shop, port: 80}]}\n"
}

async fn world(gateway_port: u16) -> World {
    let log = Log::default();
    let mut backends = Vec::new();
    let mut ports = BTreeMap::new();
    for name in ["shop", "a", "b", "c", "mirror"] {
        let backend = Backend::start(name, log.clone()).await;
        ports.insert(name, backend.port);
        backends.push(backend);
    }
    let store = Arc::new(MemoryStore::new());
    for document in parse_documents(&resources(&ports, gateway_port), "mesh.yaml") {
        let document = document.unwrap_or_else(|d| panic!("{d}"));
        let object = match admit(&document, &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => object,
            other => panic!("{other:?}"),
        };
        store.put(object, Precondition::Any).await.unwrap_or_else(|e| panic!("{e}"));
    }
    let control = Control::start(ControlConfig { stores: vec![store], ..ControlConfig::default() });
    control.wait_ready().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
    let xds = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
    tokio::spawn(heddle_xds::serve(listener, Arc::new(control.clone()), pending()));
    let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    World { control, xds, log, scratch, _backends: backends }
}

/// `METHOD [@HOST]PATH name=value...` as bytes.
fn request(line: &str, case: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (host, path) = match target.strip_prefix('@') {
        Some(given) => given.split_at(given.find('/').unwrap_or(given.len())),
        None => ("shop.mesh", target),
    };
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nx-case: {case}\r\n");
    let mut body = String::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.replace('_', " ");
        match name {
            "body" => body = value,
            "from" => {}
            _ => text += &format!("{name}: {value}\r\n"),
        }
    }
    if !body.is_empty() {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text + "\r\n" + &body
}

/// A message in comparable form: values of one name joined, free values hidden.
fn comparable(message: &Message) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &message.headers {
        let hidden = FREE.iter().any(|free| name.eq_ignore_ascii_case(free));
        let value = if hidden { "*" } else { value };
        if name.eq_ignore_ascii_case("x-case") {
            continue;
        }
        // Envoy spells a name once however often it came.
        let key = all
            .keys()
            .find(|known| known.eq_ignore_ascii_case(name))
            .cloned()
            .unwrap_or_else(|| name.clone());
        let entry = all.entry(key).or_default();
        if !entry.is_empty() {
            *entry += ",";
        }
        *entry += value;
    }
    all
}

/// What came of one request: the client's side, then each backend's, sorted.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    status: u16,
    client: BTreeMap<String, String>,
    body: String,
    backends: Vec<(String, String, BTreeMap<String, String>, String)>,
}

async fn outcome(world: &World, peer: &Peer, line: &str, number: usize) -> Outcome {
    let case = format!("{}-{number}-{}", peer.name, peer.address);
    // Envoy takes 127.0.0.1, and nothing else, for loopback.
    let from = if line.ends_with("from=loopback") { 1 } else { 2 };
    let answer = send(peer.address, &request(line, &case), line.starts_with("HEAD "), from).await;
    let answer =
        answer.unwrap_or_else(|e| Message { first: format!("HTTP/1.1 0 {e}"), ..Message::default() });
    let expected = if line.contains("/mi1") { 2 } else { 0 };
    let log = &world.log;
    let seen = || log.lock().ok().and_then(|log| log.get(&case).cloned()).unwrap_or_default();
    for _ in 0..200 {
        if seen().len() >= expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut backends: Vec<_> = seen()
        .into_iter()
        .map(|(name, request)| (name, request.first.clone(), comparable(&request), request.body))
        .collect();
    backends.sort();
    Outcome { status: answer.status(), client: comparable(&answer), body: answer.body, backends }
}

/// The differences, one per line.
fn differences(reference: &Outcome, other: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: String, one: &dyn std::fmt::Debug, two: &dyn std::fmt::Debug| {
        found.push(format!("{what}: envoy {one:?}, here {two:?}"));
    };
    if reference.status != other.status {
        note("status".into(), &reference.status, &other.status);
    }
    if reference.body != other.body {
        note("body".into(), &reference.body, &other.body);
    }
    let names = |outcome: &Outcome| {
        outcome.backends.iter().map(|(n, f, _, b)| (n.clone(), f.clone(), b.clone())).collect::<Vec<_>>()
    };
    if names(reference) != names(other) {
        note("backends".into(), &names(reference), &names(other));
    }
    let mut sides = vec![("client".to_owned(), &reference.client, &other.client)];
    for (index, (one, two)) in reference.backends.iter().zip(&other.backends).enumerate() {
        sides.push((format!("backend {} #{index}", one.0), &one.2, &two.2));
    }
    for (side, one, two) in sides {
        let all: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        for name in all.into_iter().filter(|name| one.get(*name) != two.get(*name)) {
            note(format!("{side}: header {name}"), &one.get(name), &two.get(name));
        }
    }
    found
}

/// What a request met: the backend's name, or the status.
fn met(outcome: &Outcome) -> String {
    if outcome.status == 200
        && let Some((name, ..)) = outcome.backends.iter().find(|(name, ..)| name != "mirror")
    {
        return name.clone();
    }
    outcome.status.to_string()
}

async fn compare(world: &World, peers: &[Peer], place: &str, features: &[Feature]) -> (usize, Vec<String>) {
    let (mut sent, mut complaints) = (0, Vec::new());
    for Feature { name, requests, .. } in features {
        for (line, expected) in *requests {
            sent += 1;
            let mut reference: Option<Outcome> = None;
            for peer in peers {
                let outcome = outcome(world, peer, line, sent).await;
                if met(&outcome) != *expected {
                    complaints.push(format!(
                        "{place} {}: {name}: {line}: met {}, expected {expected}",
                        peer.name,
                        met(&outcome)
                    ));
                }
                match &reference {
                    None => reference = Some(outcome),
                    Some(reference) => {
                        let found = differences(reference, &outcome);
                        complaints.extend(
                            found.iter().map(|d| format!("{place} {}: {name}: {line}: {d}", peer.name)),
                        );
                    }
                }
            }
        }
    }
    (sent, complaints)
}

async fn ready(peers: &[Peer]) {
    for peer in peers {
        eventually(&format!("{} at {}", peer.name, peer.address), || async {
            let answer = send(peer.address, &request("GET /exact", "warm-up"), false, 2).await?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.first) }
        })
        .await;
    }
}

async fn no_refusals(world: &World) {
    for node in world.control.nodes().await {
        assert!(node.refusals.is_empty(), "{} refuses: {:?}", node.id, node.refusals);
    }
}

async fn differential(place: &'static str, features: &[Feature], least: usize) {
    let Some(envoy) = heddle_tests::peer::envoy() else { return };
    let port = free_address([127, 0, 0, 1]).port();
    let world = world(port).await;
    let at = |last: u8| match place {
        "sidecar" => Place::Sidecar,
        kind => Place::Gateway(kind, SocketAddr::from(([127, 0, 0, last], port))),
    };
    let dir = world.scratch.path();
    let peers = [
        Peer::envoy("envoy-sotw", &envoy, "GRPC", world.xds, at(11), dir),
        Peer::envoy("envoy-delta", &envoy, "DELTA_GRPC", world.xds, at(12), dir),
        Peer::heddle(world.xds, at(13)).await,
    ];
    ready(&peers).await;
    let (sent, complaints) = compare(&world, &peers, place, features).await;
    no_refusals(&world).await;
    say(&format!("{place}: {sent} requests, {} differences", complaints.len()));
    assert!(sent >= least, "{sent}");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_answers_as_envoy_does() {
    differential("sidecar", FEATURES, 150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_answers_as_envoy_does() {
    differential("istio", FEATURES, 150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_gateway_api_answers_as_envoy_does() {
    differential("k8s", routes::ROUTES, 40).await;
}
