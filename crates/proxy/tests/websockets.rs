//! WebSockets between versions of HTTP: upgrades (RFC 6455) and extended CONNECT (RFC 8441), alone and beside real Envoy.

mod kit;

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::google::protobuf::Duration;
use heddle_runtime::free_port;
use kit::backend::{Client, read_message, within};
use kit::peer::{Folder, start_envoy};
use kit::{Manager, Mesh, action, connection_manager, http2, retries, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The key of RFC 6455, 1.3, and what belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const ASK: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection manager that offers extended CONNECT, with a log.
fn manager(log: &Path) -> Manager {
    let format =
        "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let mut manager = connection_manager(vec![to_cluster("/", "up")]);
    manager.http2_protocol_options.get_or_insert_default().allow_connect = true;
    manager.access_log = vec![kit::log_to(log, format)];
    manager
}

async fn mesh(manager: &Manager, up: &Cluster) -> Mesh {
    Mesh::start(1, |at| {
        let listener = kit::listener("test", at, kit::http_filter(manager));
        vec![kit::encoded_listener(&listener), kit::encoded_cluster(up)]
    })
    .await
}

/// The first lines of a log, when there are so many.
async fn lines(log: &Path, count: usize) -> Vec<String> {
    within(async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.lines().count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

/// An endpoint of HTTP/1.1 that answers a key with `accept`, greets and echoes, until `bye`. The heads it gets are passed on.
async fn http1(accept: fn(&str) -> &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (head, _) = read_message(&mut stream, &mut Vec::new()).await?;
                let key = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.to_owned())
                });
                let _ = tell.send(head);
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {}\r\n\r\nhi ",
                    accept(&key?)
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
                let mut heard = Vec::new();
                while !heard.starts_with(b"bye") {
                    heard.clear();
                    if stream.read_buf(&mut heard).await.ok()? == 0 {
                        break;
                    }
                    stream.write_all(&heard).await.ok()?;
                }
                Some(())
            });
        }
    });
    (address, told)
}

/// What an endpoint of HTTP/2 does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Greets, echoes until the end or `bye`, and then says `end`.
    Echo,
    /// Does not offer extended CONNECT.
    NotOffered,
    /// Says that it leaves once the tunnel is there; then as [`Does::Echo`].
    Leaves,
    /// Breaks the stream off once it has heard something.
    Resets,
}

type Asked = http::Request<()>;

async fn http2_endpoint(does: Does) -> (SocketAddr, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                if does != Does::NotOffered {
                    builder.enable_connect_protocol();
                }
                let mut connection = builder.handshake::<_, Bytes>(stream).await.ok()?;
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (parts, mut body) = request.into_parts();
                    let _ = tell.send(http::Request::from_parts(parts, ()));
                    let mut send = respond.send_response(http::Response::new(()), false).ok()?;
                    send.send_data(Bytes::from_static(b"hi "), false).ok()?;
                    if does == Does::Leaves {
                        connection.graceful_shutdown();
                    }
                    tokio::spawn(async move {
                        while let Some(Ok(data)) = body.data().await {
                            if does == Does::Resets {
                                send.send_reset(h2::Reason::CANCEL);
                                return;
                            }
                            let _ = body.flow_control().release_capacity(data.len());
                            let _ = send.send_data(data.clone(), false);
                            if data.starts_with(b"bye") {
                                break;
                            }
                        }
                        let _ = send.send_data(Bytes::from_static(b" end"), true);
                    });
                }
                Some(())
            });
        }
    });
    (address, told)
}

/// A client of HTTP/2 that was told what it may ask for.
async fn http2_client(mesh: &Mesh) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    // An answer comes behind the settings.
    let request = http::Request::get("http://test/settings").body(()).unwrap();
    drop(within(client.send_request(request, true).unwrap().0).await);
    client
}

/// Asks by extended CONNECT: the answer, and where the tunnel begins.
async fn ask(
    client: &mut h2::client::SendRequest<Bytes>,
    protocol: &'static str,
) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let mut request = http::Request::connect("http://test/ws").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    let (response, send) = client.send_request(request, false).unwrap();
    (within(response).await.unwrap(), send)
}

async fn hears(body: &mut h2::RecvStream, wanted: &str) {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.extend_from_slice(&within(body.data()).await.expect("more").unwrap());
    }
    assert_eq!(String::from_utf8_lossy(&got), wanted);
}

#[tokio::test]
async fn extended_connect_is_offered_where_it_is_allowed() {
    let dir = Folder::new();
    let (at, _told) = http1(|_| "").await;
    for allowed in [false, true] {
        let mut manager = manager(&dir.0.join("log"));
        manager.http2_protocol_options.get_or_insert_default().allow_connect = allowed;
        let mesh = mesh(&manager, &static_cluster("up", &[at])).await;
        assert_eq!(http2_client(&mesh).await.is_extended_connect_protocol_enabled(), allowed);
    }
}

#[tokio::test]
async fn an_endpoint_of_http1_has_to_know_the_key_that_was_made() {
    let dir = Folder::new();
    let log = dir.0.join("log");
    let (at, mut told) = http1(|key| {
        assert_eq!(key.len(), 24, "16 bytes in base64: {key}");
        ACCEPT
    })
    .await;
    let mesh = mesh(&manager(&log), &static_cluster("up", &[at])).await;
    let mut client = http2_client(&mesh).await;
    told.recv().await.unwrap();
    let (response, _send) = ask(&mut client, "websocket").await;
    let head = told.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /ws http/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert_eq!(response.status(), 502, "an accept for another key");
    // Who names a key, as Envoy does for its own client, has the endpoint's answer to it.
    let mut request =
        http::Request::connect("http://test/ws").header("sec-websocket-key", KEY).body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut send) = client.send_request(request, false).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-accept"], ACCEPT);
    assert!(!response.headers().contains_key("upgrade"), "{response:?}");
    send.send_data(Bytes::from_static(b"ping"), true).unwrap();
    let mut body = response.into_body();
    hears(&mut body, "hi ping").await;
    while let Some(data) = within(body.data()).await {
        assert_eq!(data.unwrap(), "", "the tunnel ends when both sides have ended");
    }
    let lines = lines(&log, 3).await;
    assert_eq!(lines[1], "GET /ws HTTP/2 502 UPE upstream_reset_before_response_started{protocol_error}");
    assert_eq!(lines[2], "GET /ws HTTP/2 101 - via_upstream");
}

#[tokio::test]
async fn an_upgrade_is_an_extended_connect_to_an_endpoint_of_http2() {
    let dir = Folder::new();
    let log = dir.0.join("log");
    let (at, mut told) = http2_endpoint(Does::Echo).await;
    let mesh = mesh(&manager(&log), &http2(static_cluster("up", &[at]))).await;
    let mut client = Client::new(mesh.connect().await);
    client.send(ASK).await;
    let (head, _) = client.response().await;
    let asked = told.recv().await.unwrap();
    assert_eq!((asked.method().as_str(), asked.uri().to_string()), ("CONNECT", "http://test/ws".to_owned()));
    assert_eq!(asked.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
    assert!(!asked.headers().contains_key("upgrade"), "{asked:?}");
    let lower = head.to_ascii_lowercase();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(lower.contains("connection: upgrade\r\n") && lower.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{head}");
    client.send("ping").await;
    client.expect("hi ping").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, " end", "the endpoint may speak on behind the client's end");
    // And from HTTP/2, where nobody speaks of keys.
    let mut client = http2_client(&mesh).await;
    told.recv().await.unwrap();
    let (response, mut send) = ask(&mut client, "websocket").await;
    assert_eq!(response.status(), 200);
    let asked = told.recv().await.unwrap();
    assert!(!asked.headers().contains_key("sec-websocket-key"), "{asked:?}");
    assert!(!response.headers().contains_key("sec-websocket-accept"), "{response:?}");
    send.send_data(Bytes::from_static(b"ping"), true).unwrap();
    hears(&mut response.into_body(), "hi ping end").await;
    let lines = lines(&log, 3).await;
    assert_eq!(lines[0], "GET /ws HTTP/1.1 101 - via_upstream");
    assert_eq!(lines[2], "GET /ws HTTP/2 101 - via_upstream");
}

#[tokio::test]
async fn an_endpoint_that_offers_no_extended_connect_is_not_asked() {
    let dir = Folder::new();
    let log = dir.0.join("log");
    let (at, mut told) = http2_endpoint(Does::NotOffered).await;
    let mesh = mesh(&manager(&log), &http2(static_cluster("up", &[at]))).await;
    for _ in 0..2 {
        let mut client = Client::new(mesh.connect().await);
        client.send(ASK).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert!(body.ends_with("reset reason: protocol error"), "{body}");
    }
    let found = &lines(&log, 2).await[1];
    let wanted = "GET /ws HTTP/1.1 502 UPE upstream_reset_before_response_started{protocol_error|the_endpoint_speaks_HTTP/2_\
                  and_its_SETTINGS_have_no_ENABLE_CONNECT_PROTOCOL,_which_an_upgrade_takes_(RFC_8441)}";
    assert_eq!(found, wanted);
    assert!(told.try_recv().is_err(), "nothing was asked");
    // What is no upgrade goes over the same connection.
    let mut client = Client::new(mesh.connect().await);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(client.until("end\r\n0\r\n\r\n").await.contains("hi"));
}

#[tokio::test]
async fn a_tunnel_outlives_the_goaway_of_its_connection() {
    let dir = Folder::new();
    let (at, mut told) = http2_endpoint(Does::Leaves).await;
    let mesh = mesh(&manager(&dir.0.join("log")), &http2(static_cluster("up", &[at]))).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::new(mesh.connect().await);
        client.send(ASK).await;
        assert!(client.response().await.0.starts_with("HTTP/1.1 101 "));
        client.expect("hi ").await;
        told.recv().await.unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        client.send("still").await;
        client.expect("still").await;
    }
}

#[tokio::test]
async fn a_tunnel_that_breaks_off_is_not_tried_again() {
    let dir = Folder::new();
    let log = dir.0.join("log");
    let (at, mut told) = http2_endpoint(Does::Resets).await;
    let again = action(to_cluster("/", "up"), |action| {
        action.retry_policy = retries("5xx,reset,connect-failure,refused-stream", 5);
    });
    let mut manager = manager(&log);
    manager.route_specifier = connection_manager(vec![again]).route_specifier;
    let mesh = mesh(&manager, &http2(static_cluster("up", &[at]))).await;
    let mut client = Client::new(mesh.connect().await);
    client.send(ASK).await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 101 "));
    told.recv().await.unwrap();
    client.send("word").await;
    assert_eq!(client.rest().await, "hi ");
    assert!(lines(&log, 1).await[0].starts_with("GET /ws HTTP/1.1 101 "));
    assert!(told.try_recv().is_err(), "once");
}

#[tokio::test]
async fn a_tunnel_on_which_nothing_moves_ends() {
    let dir = Folder::new();
    let log = dir.0.join("log");
    let (at, _told) = http2_endpoint(Does::Echo).await;
    let mut manager = manager(&log);
    manager.stream_idle_timeout = Some(Duration { seconds: 0, nanos: 200_000_000 });
    let mesh = mesh(&manager, &http2(static_cluster("up", &[at]))).await;
    let mut client = Client::new(mesh.connect().await);
    client.send(ASK).await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.rest().await, "hi ");
    assert!(lines(&log, 1).await[0].starts_with("GET /ws HTTP/1.1 101 SI "), "{:?}", lines(&log, 1).await);
}

#[tokio::test]
async fn what_is_not_in_upgrade_configs_is_refused_over_http2_too() {
    let dir = Folder::new();
    let (at, mut told) = http2_endpoint(Does::Echo).await;
    let mesh = mesh(&manager(&dir.0.join("log")), &http2(static_cluster("up", &[at]))).await;
    let mut client = http2_client(&mesh).await;
    told.recv().await.unwrap();
    assert_eq!(ask(&mut client, "chat").await.0.status(), 403);
    // HTTP/1.1 passes this one over, and would leave a GET with a body.
    assert_eq!(ask(&mut client, "h2c").await.0.status(), 501);
    assert!(told.try_recv().is_err(), "nothing was passed on");
}

/// A real Envoy with one listener, towards one cluster.
async fn envoy(manager: &Manager, up: &Cluster, dir: &Path) -> Option<(kit::peer::Running, SocketAddr)> {
    std::fs::create_dir_all(dir).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port([127, 0, 0, 1].into()).unwrap()));
    let listener = kit::listener("test", at, kit::http_filter(manager));
    let running = start_envoy(vec![listener], vec![up.clone()], dir)?;
    within(async {
        while TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    Some((running, at))
}

/// HTTP/1.1, then HTTP/2 between the two, then whatever the endpoint speaks: the client sees one WebSocket.
async fn through(at: SocketAddr) {
    let mut client = Client::new(TcpStream::connect(at).await.unwrap());
    client.send(ASK).await;
    let (head, _) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{head}");
    client.expect("hi ").await;
    client.send("ping").await;
    client.expect("ping").await;
    client.send("bye").await;
    assert!(client.rest().await.starts_with("bye"));
}

#[tokio::test]
async fn envoy_before_and_behind_carries_the_same_websockets() {
    let dir = Folder::new();
    let log = |name: &str| dir.0.join(name);
    let (one, _told) = http1(|key| if key == KEY { ACCEPT } else { "wrong" }).await;
    let (two, _told_too) = http2_endpoint(Does::Echo).await;
    for (number, last) in
        [static_cluster("up", &[one]), http2(static_cluster("up", &[two]))].iter().enumerate()
    {
        // Envoy makes the extended CONNECT, heddle what follows.
        let behind = mesh(&manager(&log(&format!("{number}-heddle-behind"))), last).await;
        let towards = http2(static_cluster("up", &[behind.address]));
        let before = manager(&log(&format!("{number}-envoy-before")));
        let Some((_envoy, at)) = envoy(&before, &towards, &log(&format!("a{number}"))).await else {
            eprintln!("LEFT OUT: Envoy is not on this machine");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "and CI must not skip it");
            return;
        };
        through(at).await;
        // And the other way round. Envoy names no key that it was not given, and makes no accept.
        let behind = manager(&log(&format!("{number}-envoy-behind")));
        let (_envoy_too, at) = envoy(&behind, last, &log(&format!("b{number}"))).await.unwrap();
        let towards = http2(static_cluster("up", &[at]));
        let before = mesh(&manager(&log(&format!("{number}-heddle-before"))), &towards).await;
        through(before.address).await;
        for place in ["before", "behind"] {
            let line = async |who| lines(&log(&format!("{number}-{who}-{place}")), 1).await.remove(0);
            let start = |line: String| line.split(' ').take(4).collect::<Vec<_>>().join(" ");
            let (ours, theirs) = (start(line("heddle").await), start(line("envoy").await));
            assert_eq!(ours, theirs, "{place}");
            assert!(ours.ends_with(" 101"), "{ours}");
        }
    }
}
