//! Connections that are made before a request needs them (`Cluster.preconnect_policy`).

mod kit;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::PreconnectPolicy;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::{DoubleValue, UInt32Value};
use kit::backend::{Client, read_message, within};
use kit::tls::{Authority, san, socket, trusting, validated_by};
use kit::{Mesh, http, http2, static_cluster, to_cluster};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What a server has seen, and the gate that its answers wait at.
struct Seen {
    accepted: AtomicUsize,
    /// Handshakes of TLS.
    sessions: AtomicUsize,
    requests: AtomicUsize,
    /// The connection of each request, by the order in which they were accepted.
    order: Mutex<Vec<usize>>,
    gate: Semaphore,
}

impl Default for Seen {
    fn default() -> Self {
        let count = AtomicUsize::default;
        let (accepted, sessions, requests) = (count(), count(), count());
        Self { accepted, sessions, requests, order: Mutex::default(), gate: Semaphore::new(0) }
    }
}

impl Seen {
    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    async fn until(&self, count: &AtomicUsize, least: usize) {
        within(async {
            while count.load(Ordering::SeqCst) < least {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) {
        let mut buffer = Vec::new();
        while read_message(&mut stream, &mut buffer).await.is_some() {
            self.order.lock().unwrap().push(number);
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.flush().await;
        }
    }
}

/// A server of HTTP/1.1 whose answers wait, perhaps over TLS.
async fn server(secure: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, shown) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
    let seen = shown.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = seen.accepted.fetch_add(1, Ordering::SeqCst);
            let (seen, secure) = (seen.clone(), secure.clone());
            tokio::spawn(async move {
                let Some(config) = secure else { return seen.serve(stream, number).await };
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
                seen.sessions.fetch_add(1, Ordering::SeqCst);
                seen.serve(stream, number).await;
            });
        }
    });
    (at, shown)
}

/// A server of HTTP/2 that takes one stream at a time on each connection.
async fn narrow_http2() -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, shown) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
    let seen = shown.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.accepted.fetch_add(1, Ordering::SeqCst);
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut server = h2::server::Builder::new();
                let mut connection: h2::server::Connection<_, Bytes> =
                    server.max_concurrent_streams(1).handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    seen.requests.fetch_add(1, Ordering::SeqCst);
                    let seen = seen.clone();
                    tokio::spawn(async move {
                        seen.gate.acquire().await.unwrap().forget();
                        let _ = respond.send_response(::http::Response::new(()), true);
                    });
                }
            });
        }
    });
    (at, shown)
}

/// The cluster `up` with this ratio.
fn ahead(at: SocketAddr, ratio: f64) -> cluster::Cluster {
    let policy = PreconnectPolicy {
        per_upstream_preconnect_ratio: Some(DoubleValue { value: ratio }),
        ..Default::default()
    };
    cluster::Cluster { preconnect_policy: Some(policy), ..static_cluster("up", &[at]) }
}

async fn mesh(up: &cluster::Cluster) -> Mesh {
    Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(up))).await
}

/// A request under way that waits for its answer.
async fn ask(mesh: &Mesh) -> Client {
    let mut client = Client::new(mesh.connect().await);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    client
}

async fn until_stat(mesh: &Mesh, name: &str, least: u64) {
    within(async { while stat(mesh, name).await < least {} }).await;
}

async fn stat(mesh: &Mesh, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&mesh.admin("GET", "/stats").await).into_owned();
    let start = format!("cluster.up.{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |value| value.trim().parse().unwrap())
}

async fn answered(seen: &Seen, clients: Vec<Client>) {
    seen.gate.add_permits(clients.len());
    for mut client in clients {
        assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn the_next_request_finds_its_connection_made() {
    let (at, seen) = server(None).await;
    let mesh = mesh(&ahead(at, 2.0)).await;
    let first = ask(&mesh).await;
    seen.until(&seen.accepted, 2).await;
    until_stat(&mesh, "upstream_cx_total", 2).await;
    // At two requests there are to be four: two more, and none for the request itself.
    let second = ask(&mesh).await;
    seen.until(&seen.accepted, 4).await;
    seen.until(&seen.requests, 2).await;
    until_stat(&mesh, "upstream_cx_total", 4).await;
    assert_eq!(*seen.order.lock().unwrap(), [0, 1], "the second request uses what was made for it");
    answered(&seen, vec![first, second]).await;
    // With four there, two requests need no more.
    let again = vec![ask(&mesh).await, ask(&mesh).await];
    seen.until(&seen.requests, 4).await;
    answered(&seen, again).await;
    assert_eq!(stat(&mesh, "upstream_cx_total").await, 4);
    assert_eq!(seen.accepted(), 4);
}

#[tokio::test]
async fn without_a_ratio_above_one_nothing_is_made_ahead() {
    for given in [None, Some(1.0)] {
        let (at, seen) = server(None).await;
        let up = given.map_or_else(|| static_cluster("up", &[at]), |ratio| ahead(at, ratio));
        let mesh = mesh(&up).await;
        for count in 1..=3 {
            let client = ask(&mesh).await;
            seen.until(&seen.requests, count).await;
            answered(&seen, vec![client]).await;
        }
        assert_eq!((seen.accepted(), stat(&mesh, "upstream_cx_total").await), (1, 1), "{given:?}");
    }
}

#[tokio::test]
async fn the_limit_of_connections_holds() {
    let (at, seen) = server(None).await;
    let thresholds = cluster::circuit_breakers::Thresholds {
        max_connections: Some(UInt32Value { value: 2 }),
        ..Default::default()
    };
    let mut up = ahead(at, 3.0);
    up.circuit_breakers =
        Some(cluster::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    let mesh = mesh(&up).await;
    let first = ask(&mesh).await;
    seen.until(&seen.accepted, 2).await;
    until_stat(&mesh, "upstream_cx_total", 2).await;
    let second = ask(&mesh).await;
    seen.until(&seen.requests, 2).await;
    answered(&seen, vec![first, second]).await;
    assert_eq!((seen.accepted(), stat(&mesh, "upstream_cx_total").await), (2, 2));
}

#[tokio::test]
async fn tls_is_agreed_on_ahead() {
    const NAME: &str = "up.example.com";
    let authority = Authority::new("root");
    let leaf = authority.leaf(NAME);
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap())
        .unwrap();
    let (at, seen) = server(Some(Arc::new(config))).await;
    let mut validation = trusting(&authority.pem);
    validation.match_typed_subject_alt_names = vec![san(tls::subject_alt_name_matcher::SanType::Dns, NAME)];
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(validated_by(tls::CommonTlsContext::default(), validation)),
        sni: NAME.to_owned(),
        ..Default::default()
    };
    let mut up = ahead(at, 1.5);
    up.transport_socket = socket("UpstreamTlsContext", &context);
    let mesh = mesh(&up).await;
    let first = ask(&mesh).await;
    seen.until(&seen.sessions, 2).await;
    until_stat(&mesh, "ssl_handshake", 2).await;
    // 1.5 times two is three: one more.
    let second = ask(&mesh).await;
    seen.until(&seen.requests, 2).await;
    seen.until(&seen.sessions, 3).await;
    until_stat(&mesh, "ssl_handshake", 3).await;
    assert_eq!(*seen.order.lock().unwrap(), [0, 1]);
    answered(&seen, vec![first, second]).await;
    assert_eq!(seen.accepted(), 3);
}

#[tokio::test]
async fn streams_of_http2_count_as_room() {
    let (at, seen) = narrow_http2().await;
    let mesh = mesh(&http2(ahead(at, 2.0))).await;
    // The first learns how many streams the endpoint takes.
    let client = ask(&mesh).await;
    seen.until(&seen.requests, 1).await;
    answered(&seen, vec![client]).await;
    let before = seen.accepted();
    assert!(before <= 2, "{before}");
    let first = ask(&mesh).await;
    seen.until(&seen.accepted, 2).await;
    let second = ask(&mesh).await;
    seen.until(&seen.requests, 3).await;
    answered(&seen, vec![first, second]).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_alone_for_a_while() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let seen = Arc::<Seen>::default();
    seen.gate.add_permits(Semaphore::MAX_PERMITS);
    let shown = seen.clone();
    tokio::spawn(async move {
        // It takes one connection, and no other ever after.
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        shown.serve(stream, 0).await;
    });
    let mesh = mesh(&static_cluster("up", &[at])).await;
    let mut client = Client::new(mesh.connect().await);
    assert!(client.get("/").await.0.starts_with("HTTP/1.1 200 "));
    mesh.publish(http(mesh.address, vec![to_cluster("/", "up")], &[ahead(at, 2.0)]));
    let mut served = async || assert!(client.get("/").await.0.starts_with("HTTP/1.1 200 "));
    within(async {
        while stat(&mesh, "upstream_cx_connect_fail").await == 0 {
            served().await;
        }
    })
    .await;
    for _ in 0..50 {
        served().await;
    }
    // The pause doubles: ten tries take two minutes.
    let failed = stat(&mesh, "upstream_cx_connect_fail").await;
    assert!(failed < 10, "{failed}");
}
