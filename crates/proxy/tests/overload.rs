//! Places for connections that run out: whoever holds one without use makes room for whoever asks.

mod kit;

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use heddle_proxy::ProxyConfig;
use kit::backend::{Backend, Client, Reply};
use kit::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const MOST: usize = 20;

async fn mesh(backend: &Backend) -> Mesh {
    let limited = |config| ProxyConfig { max_connections: Some(MOST), ..config };
    Mesh::start_as(([127, 0, 0, 1], 0).into(), 1, limited, |at| {
        let manager: hcm::HttpConnectionManager = connection_manager(vec![to_cluster("/", "a")]);
        let listener = listener("test", at, http_filter(&manager));
        vec![encoded_listener(&listener), encoded_cluster(&static_cluster("a", &[backend.address]))]
    })
    .await
}

async fn stat(mesh: &Mesh, name: &str) -> u64 {
    let answer = String::from_utf8(mesh.admin("GET", &format!("/stats?filter=^{name}$")).await).unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    body.trim().rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// What a client is told on a connection of its own, which it keeps.
async fn ask(mesh: &Mesh) -> (String, Client) {
    let ask = async {
        let mut client = Client::new(TcpStream::connect(mesh.address).await.unwrap());
        (client.get("/").await.1, client)
    };
    tokio::time::timeout(Duration::from_secs(20), ask).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_room() {
    let backend = Backend::named("a").await;
    let mesh = mesh(&backend).await;
    let mut kept = Vec::new();
    for number in 0..4 * MOST {
        let (answer, client) = ask(&mesh).await;
        assert_eq!(answer, "a", "client {number}");
        kept.push(client);
        assert!(stat(&mesh, "http.downstream_cx_active").await <= MOST as u64);
    }
    drop(kept);
    let calm = async {
        while stat(&mesh, "overload.envoy.resource_monitors.global_downstream_max_connections.pressure").await
            > 0
        {}
    };
    tokio::time::timeout(Duration::from_secs(20), calm).await.expect("calm again");
    let mut client = Client::new(mesh.connect().await);
    assert!(!client.get("/").await.0.contains("connection: close"), "connections are kept again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_come_make_room() {
    let backend = Backend::named("a").await;
    let mesh = mesh(&backend).await;
    let mut slow = Vec::new();
    for _ in 0..4 * MOST {
        let mut client = Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nHost: te").await;
        slow.push(client);
    }
    assert_eq!(ask(&mesh).await.0, "a");
    assert!(slow[0].rest().await.starts_with("HTTP/1.1 408"));
}

/// A byte now and then is no use of a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_come_make_room() {
    let backend = Backend::named("a").await;
    let mesh = mesh(&backend).await;
    let mut slow = Vec::new();
    for number in 0..2 * MOST {
        let mut client = Client::new(mesh.connect().await);
        client.send("POST / HTTP/1.1\r\nHost: test\r\ncontent-length: 100000\r\n\r\nx").await;
        if number % 2 == 0 {
            // Half of them drip, the others are silent.
            let (read, mut write) = client.stream.into_split();
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            slow.push(tokio::spawn(async move {
                while write.write_all(b"x").await.is_ok() {
                    pace.tick().await;
                }
                drop(read);
            }));
        } else {
            slow.push(tokio::spawn(async move {
                let told = client.rest().await;
                assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
            }));
        }
    }
    assert_eq!(ask(&mesh).await.0, "a");
    // Those that came first had to go; the last are left alone once there is room.
    for one in slow.drain(..2) {
        tokio::time::timeout(Duration::from_secs(20), one).await.expect("it is cut").unwrap();
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Nothing ever wakes a stream on which nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_streams_of_http2_make_room() {
    let backend = Backend::named("a").await;
    let mesh = mesh(&backend).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MOST {
        let stream = mesh.connect().await;
        let (mut client, connection) =
            h2::client::Builder::new().handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = ::http::Request::post("http://test/").body(()).unwrap();
        let (answer, body) = client.send_request(request, false).unwrap();
        silent.push((client, driven, answer, body));
    }
    assert_eq!(ask(&mesh).await.0, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_make_room() {
    const BODY: usize = 8 << 20;
    let backend = Backend::start(|head, _, _| {
        let body = if head.starts_with("GET /big ") { vec![b'x'; BODY] } else { b"a".to_vec() };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Reply::Last([head.into_bytes(), body].concat())
    })
    .await;
    let mesh = mesh(&backend).await;
    let mut deaf = Vec::new();
    for _ in 0..2 * MOST {
        let mut client = Client::new(mesh.connect().await);
        client.send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n").await;
        deaf.push(client);
    }
    assert_eq!(ask(&mesh).await.0, "a");
    // What was sent was cut.
    assert!(deaf[0].rest().await.len() < BODY);
}
