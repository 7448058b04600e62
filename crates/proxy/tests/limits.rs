//! Breakers through a whole proxy: what waits, what is refused, and that the limits hold over all workers.

mod kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::google::protobuf::{Duration as PbDuration, UInt32Value};
use kit::backend::{Backend, Client, Reply};
use kit::{
    Mesh, action, encoded_cluster, encoded_listener, http, http2, listener, retries, static_cluster,
    tcp_filter, to_cluster,
};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A server whose answers wait until they are let go.
struct Gated {
    address: SocketAddr,
    gate: Arc<Semaphore>,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Gated {
    async fn http1() -> Self {
        Self::http1_with("").await
    }

    /// `fields` of every answer, as they are written.
    async fn http1_with(fields: &'static str) -> Self {
        let (this, listener) = Self::new().await;
        let (gate, requests, connections) =
            (this.gate.clone(), this.requests.clone(), this.connections.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (gate, requests) = (gate.clone(), requests.clone());
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while kit::backend::read_message(&mut stream, &mut buffer).await.is_some() {
                        requests.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.unwrap().forget();
                        let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        this
    }

    /// HTTP/2 with `streams` at a time on each connection.
    async fn http2(streams: u32) -> Self {
        let (this, listener) = Self::new().await;
        let (gate, requests, connections) =
            (this.gate.clone(), this.requests.clone(), this.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (gate, requests) = (gate.clone(), requests.clone());
                tokio::spawn(async move {
                    let mut server = h2::server::Builder::new();
                    let mut connection: h2::server::Connection<_, Bytes> =
                        server.max_concurrent_streams(streams).handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        requests.fetch_add(1, Ordering::SeqCst);
                        let gate = gate.clone();
                        tokio::spawn(async move {
                            gate.acquire().await.unwrap().forget();
                            let _ = respond.send_response(::http::Response::new(()), true);
                        });
                    }
                });
            }
        });
        this
    }

    async fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        (Self { address, gate, requests: Arc::default(), connections: Arc::default() }, listener)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn until_requests(&self, count: usize) {
        until(|| self.requests.load(Ordering::SeqCst) >= count).await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it came about in time");
}

/// The cluster `up` with these limits.
fn limited(
    at: SocketAddr,
    change: impl FnOnce(&mut cluster::circuit_breakers::Thresholds),
) -> cluster::Cluster {
    let mut up = static_cluster("up", &[at]);
    let mut thresholds = cluster::circuit_breakers::Thresholds::default();
    change(&mut thresholds);
    up.circuit_breakers =
        Some(cluster::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    up
}

const fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// The value of a counter of `up`.
async fn stat(mesh: &Mesh, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&mesh.admin("GET", "/stats").await).into_owned();
    let start = format!("cluster.up.{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |value| value.trim().parse().unwrap())
}

async fn until_stat(mesh: &Mesh, name: &str, least: u64) {
    let wait = async { while stat(mesh, name).await < least {} };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the counter got there in time");
}

#[tokio::test]
async fn a_request_waits_for_a_connection_and_one_too_many_is_refused() {
    let backend = Gated::http1().await;
    let up = limited(backend.address, |limits| {
        limits.max_connections = uint(1);
        limits.max_pending_requests = uint(1);
    });
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut first = Client::new(mesh.connect().await);
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    backend.until_requests(1).await;
    let mut second = Client::new(mesh.connect().await);
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    until_stat(&mesh, "upstream_cx_overflow", 1).await;
    let (head, body) = Client::new(mesh.connect().await).get("/").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.ends_with("overflow"), "{body}");
    assert!(head.contains("x-envoy-overloaded: true\r\n"), "{head}");
    assert_eq!(stat(&mesh, "upstream_rq_pending_overflow").await, 1);
    backend.gate.add_permits(2);
    assert_eq!(first.response().await.1, "ok");
    assert_eq!(second.response().await.1, "ok");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn who_waits_is_served_when_a_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let up = limited(listener.local_addr().unwrap(), |limits| limits.max_connections = uint(1));
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        clients.push(client);
    }
    until_stat(&mesh, "upstream_cx_overflow", 1).await;
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().await.unwrap();
        kit::backend::read_message(&mut stream, &mut Vec::new()).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
    }
    for mut client in clients {
        assert_eq!(client.response().await.1, "ok");
    }
}

#[tokio::test]
async fn http2_requests_wait_for_room_on_the_connection() {
    let backend = Gated::http2(2).await;
    let up = limited(backend.address, |limits| limits.max_connections = uint(1));
    let up = http2(up);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    // The first says how many streams the endpoint takes.
    backend.gate.add_permits(1);
    assert!(Client::new(mesh.connect().await).get("/").await.0.starts_with("HTTP/1.1 200 "));
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        clients.push(client);
    }
    backend.until_requests(3).await;
    backend.gate.add_permits(6);
    for mut client in clients {
        assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_requests_holds_over_all_workers() {
    let backend = Gated::http1().await;
    let up = limited(backend.address, |limits| limits.max_requests = uint(1));
    let mesh = Mesh::start(2, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let answers = (0..16).map(|_| {
        let address = mesh.address;
        tokio::spawn(async move {
            let mut client = Client::new(TcpStream::connect(address).await.unwrap());
            client.get("/").await.0
        })
    });
    let answers: Vec<_> = answers.collect();
    until_stat(&mesh, "upstream_rq_pending_overflow", 15).await;
    backend.gate.add_permits(1);
    let mut served = 0;
    for answer in answers {
        served += usize::from(answer.await.unwrap().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(served, 1);
}

#[tokio::test]
async fn the_limit_of_connections_holds_for_tcp() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"hello").await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let up = limited(address, |limits| limits.max_connections = uint(1));
    let mesh = Mesh::start(2, |at| {
        vec![encoded_listener(&listener("test", at, tcp_filter("up"))), encoded_cluster(&up)]
    })
    .await;
    let mut first = mesh.connect().await;
    let mut greeting = [0; 5];
    first.read_exact(&mut greeting).await.unwrap();
    // The second has nobody to talk to.
    let mut second = mesh.connect().await;
    assert_eq!(second.read(&mut greeting).await.unwrap_or(0), 0);
    drop((first, second));
    until_stat(&mesh, "upstream_cx_overflow", 1).await;
    let again = async {
        loop {
            let mut third = mesh.connect().await;
            if matches!(third.read(&mut greeting).await, Ok(5)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("the place comes free");
}

/// As declared in the cluster's HTTP options.
fn with_options(
    mut cluster: cluster::Cluster,
    change: impl FnOnce(&mut upstream::HttpProtocolOptions),
) -> cluster::Cluster {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = cluster.typed_extension_protocol_options.get(name);
    let mut options =
        options.map(|any| upstream::HttpProtocolOptions::decode(&*any.value).unwrap()).unwrap_or_default();
    change(&mut options);
    cluster.typed_extension_protocol_options.insert(name.to_owned(), kit::any(name, &options));
    cluster
}

#[tokio::test]
async fn a_connection_carries_as_many_requests_as_it_may() {
    let (one, two) = (Gated::http1().await, Gated::http2(100).await);
    let most = |cluster| {
        with_options(cluster, |options| {
            options.common_http_protocol_options.get_or_insert_default().max_requests_per_connection =
                uint(2);
        })
    };
    let up = [most(static_cluster("h1", &[one.address])), most(http2(static_cluster("h2", &[two.address])))];
    let routes = vec![to_cluster("/h1", "h1"), to_cluster("/h2", "h2")];
    let mesh = Mesh::start(1, |at| http(at, routes.clone(), &up)).await;
    for (backend, path) in [(one, "/h1"), (two, "/h2")] {
        backend.gate.add_permits(5);
        let mut client = Client::new(mesh.connect().await);
        for _ in 0..5 {
            let head = client.get(path).await.0;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        assert_eq!(backend.connections(), 3, "{path}");
    }
}

#[tokio::test]
async fn idle_connections_end_after_their_time() {
    let backend = Gated::http1().await;
    let up = with_options(static_cluster("up", &[backend.address]), |options| {
        options.common_http_protocol_options.get_or_insert_default().idle_timeout =
            Some(PbDuration { seconds: 0, nanos: 1_000_000 });
    });
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    backend.gate.add_permits(1);
    Client::new(mesh.connect().await).get("/").await;
    let closed = async { while stat(&mesh, "upstream_cx_active").await > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("it was closed in time");
}

#[tokio::test]
async fn a_connection_that_its_endpoint_may_be_closing_is_not_used() {
    let cases = [("keep-alive: timeout=1\r\n", 3), ("Keep-Alive: timeout=60, max=9\r\n", 1), ("", 1)];
    for (fields, connections) in cases {
        let backend = Gated::http1_with(fields).await;
        let up = static_cluster("up", &[backend.address]);
        let mesh =
            Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
        backend.gate.add_permits(3);
        let mut client = Client::new(mesh.connect().await);
        for _ in 0..3 {
            let head = client.get("/").await.0;
            assert!(!head.to_ascii_lowercase().contains("keep-alive: timeout"), "it is for one hop: {head}");
        }
        assert_eq!(backend.connections(), connections, "{fields}");
    }
}

#[tokio::test]
async fn the_clients_protocol_is_spoken_upstream_where_asked_for() {
    use upstream::http_protocol_options::{UpstreamProtocolOptions, UseDownstreamHttpConfig};
    let (one, two) = (Gated::http1().await, Gated::http2(100).await);
    one.gate.add_permits(1);
    two.gate.add_permits(1);
    let same = |name: &str, at| {
        with_options(static_cluster(name, &[at]), |options| {
            let same = UseDownstreamHttpConfig::default();
            options.upstream_protocol_options =
                Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(same));
        })
    };
    let up = [same("one", one.address), same("two", two.address)];
    let routes = vec![to_cluster("/one", "one"), to_cluster("/two", "two")];
    let mesh = Mesh::start(1, |at| http(at, routes.clone(), &up)).await;
    let head = Client::new(mesh.connect().await).get("/one").await.0;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (mut client, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    let request = ::http::Request::get("http://test/two").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_carries_as_many_streams_as_it_may() {
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let backend = Gated::http2(100).await;
    let up = with_options(static_cluster("up", &[backend.address]), |options| {
        let http2 = core::Http2ProtocolOptions { max_concurrent_streams: uint(2), ..Default::default() };
        let explicit =
            ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)) };
        options.upstream_protocol_options = Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit));
    });
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut clients = Vec::new();
    for number in 1..=5 {
        let mut client = Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        backend.until_requests(number).await;
        clients.push(client);
    }
    assert_eq!(backend.connections(), 3);
    backend.gate.add_permits(5);
    for mut client in clients {
        assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn what_a_breaker_refused_is_not_tried_again() {
    let backend = Gated::http1().await;
    let up = limited(backend.address, |limits| limits.max_requests = uint(1));
    let route = action(to_cluster("/", "up"), |action| {
        action.retry_policy = retries("5xx,connect-failure,reset", 3);
    });
    let mesh = Mesh::start(1, |at| http(at, vec![route.clone()], std::slice::from_ref(&up))).await;
    let mut first = Client::new(mesh.connect().await);
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    backend.until_requests(1).await;
    assert!(Client::new(mesh.connect().await).get("/").await.0.starts_with("HTTP/1.1 503 "));
    assert_eq!(stat(&mesh, "upstream_rq_retry").await, 0);
    assert_eq!(stat(&mesh, "upstream_rq_pending_overflow").await, 1);
}

#[tokio::test]
async fn a_try_on_which_nothing_moves_is_given_up() {
    let tries = AtomicUsize::new(0);
    let backend = Backend::start(move |_, _, _| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Silence,
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into(),
    })
    .await;
    let up = static_cluster("up", &[backend.address]);
    let route = action(to_cluster("/", "up"), |action| {
        let mut policy = retries("reset", 1).unwrap();
        policy.per_try_idle_timeout = Some(PbDuration { seconds: 0, nanos: 20_000_000 });
        action.retry_policy = Some(policy);
    });
    let mesh = Mesh::start(1, |at| http(at, vec![route.clone()], std::slice::from_ref(&up))).await;
    assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "ok");
    assert_eq!(backend.heads().len(), 2);
    assert_eq!(stat(&mesh, "upstream_rq_per_try_idle_timeout").await, 1);
}

#[tokio::test]
async fn no_more_faults_are_at_work_than_may_be() {
    use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
    use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
    use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
    let backend = Gated::http1().await;
    backend.gate.add_permits(1);
    let up = static_cluster("up", &[backend.address]);
    let always = FractionalPercent { numerator: 100, denominator: 0 };
    let fault = HttpFault {
        delay: Some(FaultDelay {
            percentage: Some(always),
            fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(PbDuration {
                seconds: 3600,
                nanos: 0,
            })),
        }),
        max_active_faults: uint(1),
        ..Default::default()
    };
    let mesh = Mesh::start(1, |at| {
        let mut manager = kit::connection_manager(vec![to_cluster("/", "up")]);
        let filter = hcm::http_filter::ConfigType::TypedConfig(kit::any(
            "envoy.extensions.filters.http.fault.v3.HTTPFault",
            &fault,
        ));
        let name = "envoy.filters.http.fault".to_owned();
        manager
            .http_filters
            .insert(0, hcm::HttpFilter { name, config_type: Some(filter), ..Default::default() });
        vec![encoded_listener(&listener("test", at, kit::http_filter(&manager))), encoded_cluster(&up)]
    })
    .await;
    // Two at once: one is delayed for an hour, the other goes on unharmed.
    let (mut one, mut two) = (Client::new(mesh.connect().await), Client::new(mesh.connect().await));
    for client in [&mut one, &mut two] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    }
    let served = async {
        tokio::select! {
            (head, _) = one.response() => head,
            (head, _) = two.response() => head,
        }
    };
    let head = tokio::time::timeout(Duration::from_secs(20), served).await.expect("one goes on");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_answers_badly_is_left_alone_by_all_workers() {
    let bad = Backend::start(|_, _, _| "HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n".into()).await;
    let good = Backend::named("good").await;
    let mut up = static_cluster("up", &[bad.address, good.address]);
    up.outlier_detection = Some(cluster::OutlierDetection {
        consecutive_5xx: uint(3),
        base_ejection_time: Some(PbDuration { seconds: 3600, nanos: 0 }),
        max_ejection_time: Some(PbDuration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    });
    let mesh = Mesh::start(2, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut failed = 0;
    for _ in 0..60 {
        // A connection each, so that both workers have some.
        let (head, _) = Client::new(mesh.connect().await).get("/").await;
        failed += usize::from(head.starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(failed, 3);
    assert_eq!(stat(&mesh, "outlier_detection.ejections_enforced_total").await, 1);
    let clusters = String::from_utf8_lossy(&mesh.admin("GET", "/clusters").await).into_owned();
    assert!(
        clusters.contains(&format!("up::{}::health_flags::/failed_outlier_check", bad.address)),
        "{clusters}"
    );
}

#[tokio::test]
async fn the_last_endpoint_is_used_however_bad_it_is() {
    let bad = Backend::start(|_, _, _| "HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n".into()).await;
    let mut up = static_cluster("up", &[bad.address]);
    up.outlier_detection = Some(cluster::OutlierDetection { consecutive_5xx: uint(1), ..Default::default() });
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..4 {
        assert!(client.get("/").await.0.starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(bad.heads().len(), 4);
}

#[tokio::test]
async fn an_endpoint_that_answers_no_ping_is_given_up() {
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Empty SETTINGS, and then nothing any more.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let up = with_options(static_cluster("up", &[address]), |options| {
        let time = |nanos| Some(PbDuration { seconds: 0, nanos });
        let http2 = core::Http2ProtocolOptions {
            connection_keepalive: Some(core::KeepaliveSettings {
                interval: time(10_000_000),
                timeout: time(20_000_000),
                ..Default::default()
            }),
            ..Default::default()
        };
        let explicit =
            ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)) };
        options.upstream_protocol_options = Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit));
    });
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    let answer = tokio::time::timeout(Duration::from_secs(20), client.get("/")).await;
    let (head, _) = answer.expect("it does not wait for ever");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}
