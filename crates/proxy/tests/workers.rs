//! What holds for many workers as for one: connections are spread, and limits per proxy refuse nobody too early.

mod kit;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::google::protobuf::UInt32Value;
use kit::backend::{Backend, Client, within};
use kit::{Mesh, http, static_cluster, to_cluster};

/// A counter of each worker.
async fn of_each(mesh: &Mesh, counter: &str) -> Vec<u64> {
    let stats = mesh.admin("GET", "/stats?filter=listener.worker_").await;
    let stats = String::from_utf8(stats).unwrap();
    let lines = stats.lines().filter_map(|line| line.split_once(&format!(".{counter}: ")));
    lines.map(|(_, value)| value.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_connections_of_grpc_load_eight_workers_evenly() {
    let backend = Backend::named("up").await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(8, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut open = Vec::new();
    for number in 1..=16 {
        let stream = mesh.connect().await;
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        // Long streams: each connection stays with its worker.
        for _ in 0..3 {
            let request = ::http::Request::post("http://test/echo.Echo/Say").body(()).unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            assert_eq!(within(answer).await.unwrap().status(), 200);
        }
        open.push((send, driven));
        let each = of_each(&mesh, "downstream_cx_active").await;
        assert_eq!(each.len(), 8);
        assert_eq!(each.iter().sum::<u64>(), number, "{each:?}");
    }
    let each = of_each(&mesh, "downstream_cx_active").await;
    // The mean is two.
    assert!(each.iter().all(|connections| (1..=3).contains(connections)), "{each:?}");
}

/// `maxConnections: 1` is one per proxy, and a worker without a connection opens one all the same: nobody waits for
/// what another worker holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_one_connection_refuses_nobody_who_comes_alone() {
    let backend = Backend::named("up").await;
    let mut up = static_cluster("up", &[backend.address]);
    let thresholds = cluster::circuit_breakers::Thresholds {
        max_connections: Some(UInt32Value { value: 1 }),
        max_pending_requests: Some(UInt32Value { value: 1 }),
        ..Default::default()
    };
    up.circuit_breakers =
        Some(cluster::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    let mesh = Mesh::start(8, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut clients = Vec::new();
    for _ in 0..32 {
        let mut client = Client::new(mesh.connect().await);
        let (head, _) = client.get("/").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        clients.push(client);
    }
    let each = of_each(&mesh, "downstream_cx_total").await;
    assert!(each.iter().all(|connections| *connections > 0), "every worker took part: {each:?}");
    let overflow = mesh.admin("GET", "/stats?filter=overflow").await;
    let overflow = String::from_utf8(overflow).unwrap();
    assert!(overflow.contains("cluster.up.upstream_rq_pending_overflow: 0"), "{overflow}");
}
