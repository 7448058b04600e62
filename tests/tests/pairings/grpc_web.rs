//! gRPC-Web: Google's own client in a page of another origin, Connect's client over fetch, and grpcio's server behind the
//! proxy. Real Envoy in the proxy's place has them see the same.

use std::{net::SocketAddr, path::PathBuf};

use envoy_types::pb::envoy::{
    config::{cluster::v3::Cluster, listener::v3::Listener},
    extensions::filters::{
        http::{
            cors::v3::{Cors, CorsPolicy},
            grpc_web::v3::GrpcWeb,
        },
        network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use heddle_tests::{envoy::free_address, eventually, peer, root};
use serde_json::{Value, json};

use crate::{
    bed::Keys,
    kit::{self, Mesh, any, peer::start_envoy},
    python::Server,
    run,
};

/// gRPC-Web and CORS before the router, and the server behind it.
fn resources(at: SocketAddr, up: SocketAddr, nobody: SocketAddr) -> (Vec<Listener>, Vec<Cluster>) {
    let mut refused = kit::to_cluster("/refused", "nobody");
    let mut served = kit::to_cluster("/", "up");
    let policy = CorsPolicy {
        allow_origin_string_match: vec![StringMatcher {
            match_pattern: Some(MatchPattern::Exact("http://page.test".to_owned())),
            ..Default::default()
        }],
        allow_methods: "POST".to_owned(),
        allow_headers: "content-type,x-grpc-web,x-user-agent,grpc-timeout,x-mine,x-mine-bin".to_owned(),
        expose_headers: "grpc-status,grpc-message,x-initial,x-back-bin".to_owned(),
        ..Default::default()
    };
    for route in [&mut refused, &mut served] {
        let policy = any("envoy.extensions.filters.http.cors.v3.CorsPolicy", &policy);
        route.typed_per_filter_config.insert("envoy.filters.http.cors".to_owned(), policy);
    }
    let mut manager = kit::connection_manager(vec![refused, served]);
    let filter = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let (web, cors) =
        ("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", "envoy.extensions.filters.http.cors.v3.Cors");
    manager.http_filters.splice(
        0..0,
        [
            filter("envoy.filters.http.grpc_web", any(web, &GrpcWeb::default())),
            filter("envoy.filters.http.cors", any(cors, &Cors::default())),
        ],
    );
    let clusters = vec![
        kit::http2(kit::static_cluster("up", &[up])),
        kit::http2(kit::static_cluster("nobody", &[nobody])),
    ];
    (vec![kit::listener("web", at, kit::http_filter(&manager))], clusters)
}

/// What a client saw through the proxy at this address.
async fn seen(node: &PathBuf, script: &str, packages: &str, at: SocketAddr) -> Value {
    eventually("the listener is open", || async {
        tokio::net::TcpStream::connect(at).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let script = root().join("tests/peers").join(script).display().to_string();
    let said = run(node, &[&script, packages, &format!("http://{at}")], None).await;
    let said = said.unwrap_or_else(|complaint| panic!("{complaint}"));
    let found = said.lines().find_map(|line| serde_json::from_str(line).ok());
    found.unwrap_or_else(|| panic!("no JSON: {said}"))
}

/// What a program has to see.
fn expected() -> Value {
    let nothing = json!({});
    let answer = |messages: &[&str], initial: &str, bin: &str| {
        json!({
            "code": 0, "messages": messages,
            "head": {"x-initial": initial, "x-back-bin": bin}, "trailers": {"x-trailing": "t", "x-trailing-bin": "AP8"}
        })
    };
    let failed = |code: u8, text: &str| json!({"code": code, "text": text, "messages": [], "head": nothing, "trailers": nothing});
    json!({
        "unary": answer(&["hello"], "m", "Af4A"),
        "empty": answer(&[""], "", ""),
        "large": {"code": 0, "same": true},
        "several": (0..20).map(|n: u8| n.to_string()).collect::<Vec<_>>().join(","),
        "status": failed(9, "not so: 100% ä"),
        "status of a stream": failed(9, "not so: 100% ä"),
        "no such method": failed(12, "Method not found!"),
        "stream": {"code": 0, "messages": "all", "head": nothing, "trailers": nothing},
        "empty stream": {"code": 0, "messages": [], "head": nothing, "trailers": nothing},
        "deadline": {"code": 4, "heard": "of the deadline"},
        "cancelled": {"messages": ["here"], "heard": "of its end"},
    })
}

/// What a client saw through heddle, which is what it saw through Envoy. Nothing, where a peer is absent.
async fn agreed(script: &str) -> Option<Value> {
    let (python, (node, packages)) = (peer::python()?, peer::node()?);
    let packages = packages.display().to_string();
    let keys = Keys::new();
    let server = Server::start(&python, "grpc_pairs.py", &keys, true);
    let up = server.addresses[0].1;
    // Bound, and never listened to: whoever comes is refused.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = bound.local_addr().unwrap();
    let mesh = Mesh::start(2, |at| {
        let (listeners, clusters) = resources(at, up, nobody);
        let listeners = listeners.iter().map(kit::encoded_listener);
        listeners.chain(clusters.iter().map(kit::encoded_cluster)).collect()
    })
    .await;
    let ours = seen(&node, script, &packages, mesh.address).await;
    let theirs = free_address([127, 0, 0, 1]);
    let (listeners, clusters) = resources(theirs, up, nobody);
    if let Some(_envoy) = start_envoy(listeners, clusters, &keys.folder.0) {
        assert_eq!(ours, seen(&node, script, &packages, theirs).await, "here, and through Envoy");
    }
    Some(ours)
}

/// The words of an answer for an endpoint that is not there are the proxy's own.
fn without_nobody(found: &mut Value) -> Value {
    let nobody = found.as_object_mut().and_then(|found| found.remove("nobody")).unwrap_or_default();
    assert_eq!(nobody["code"], 14, "{nobody}");
    found.take()
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_client_of_grpc_web_sees_what_it_sees_through_envoy() {
    let Some(mut ours) = agreed("grpc_web.cjs").await else { return };
    let mut expected = expected();
    // The client says nothing of a status 0 that comes with the head.
    expected["empty stream"]["code"] = Value::Null;
    assert_eq!(without_nobody(&mut ours["text"]), expected, "text");
    // In binary it gives nothing before the end, when it is too late to cancel.
    expected.as_object_mut().unwrap().remove("cancelled");
    assert_eq!(without_nobody(&mut ours["binary"]), expected, "binary");
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_client_of_grpc_web_sees_what_it_sees_through_envoy() {
    let Some(mut ours) = agreed("connect_web.cjs").await else { return };
    assert_eq!(without_nobody(&mut ours), expected());
}
