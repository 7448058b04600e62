//! gRPC-Web through a whole proxy, and beside real Envoy with the same bytes.

mod kit;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{DirectResponseAction, FilterConfig, Route, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use heddle_runtime::free_port;
use kit::{
    Mesh, any, connection_manager_of, encoded_cluster, encoded_listener, http_filter, http2, listener,
};
use kit::{static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server of gRPC: sends its messages back one by one and ends with a status, or has a status only.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection: h2::server::Connection<_, Bytes> =
                    h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
    address
}

async fn answer(request: ::http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    let head = ::http::Response::builder().header("content-type", "application/grpc");
    let seen = |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    let head = head
        .header("x-type", seen("content-type"))
        .header("x-te", seen("te"))
        .header("x-length", seen("content-length"))
        .header("x-accepts", seen("grpc-accept-encoding"));
    if parts.uri.path() == "/s/only" {
        let head = head.header("grpc-status", "12").header("grpc-message", "no%20such").body(()).unwrap();
        respond.send_response(head, true).unwrap();
        return;
    }
    let mut out = respond.send_response(head.body(()).unwrap(), false).unwrap();
    // Frame by frame, as the messages were framed.
    let mut left = &all[..];
    while let [_, a, b, c, d, rest @ ..] = left {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if rest.len() < len {
            break;
        }
        if out.send_data(Bytes::copy_from_slice(&left[..5 + len]), false).is_err() {
            return;
        }
        left = &rest[len..];
    }
    let mut trailers = ::http::HeaderMap::new();
    trailers.insert("grpc-status", if left.is_empty() { "0" } else { "13" }.parse().unwrap());
    trailers.insert("x-trailer", "a b".parse().unwrap());
    // Whoever is gone needs no trailers.
    let _ = out.send_trailers(trailers);
}

/// The filter is on or `disabled`; two hosts say otherwise for themselves.
fn resources(
    at: SocketAddr,
    up: SocketAddr,
    disabled: bool,
) -> (
    Vec<envoy_types::pb::envoy::config::listener::v3::Listener>,
    Vec<envoy_types::pb::envoy::config::cluster::v3::Cluster>,
) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let body =
        DataSource { specifier: Some(Specifier::InlineString("closed".to_owned())), ..Default::default() };
    let closed = DirectResponseAction { status: 403, body: Some(body), ..Default::default() };
    let host = |name: &str, domain: &str, says: Option<FilterConfig>| VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes: vec![
            to_cluster("/s/", "up"),
            to_cluster("/refused", "nobody"),
            Route { action: Some(Action::DirectResponse(closed.clone())), ..to_cluster("/closed", "") },
        ],
        typed_per_filter_config: says
            .map(|says| {
                ("envoy.filters.http.grpc_web".to_owned(), any("envoy.config.route.v3.FilterConfig", &says))
            })
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let on = FilterConfig { config: Some(Any::default()), ..Default::default() };
    let off = FilterConfig { disabled: true, ..Default::default() };
    let hosts =
        vec![host("on", "on.test", Some(on)), host("off", "off.test", Some(off)), host("rest", "*", None)];
    let mut manager = connection_manager_of(hosts);
    let filter = hcm::HttpFilter {
        disabled,
        name: "envoy.filters.http.grpc_web".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
            "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
            &GrpcWeb::default(),
        ))),
        ..Default::default()
    };
    manager.http_filters.insert(0, filter);
    let clusters = vec![http2(static_cluster("up", &[up])), static_cluster("nobody", &[nobody])];
    (vec![listener("web", at, http_filter(&manager))], clusters)
}

async fn mesh() -> Mesh {
    let up = server().await;
    Mesh::start(1, |at| {
        let (listeners, clusters) = resources(at, up, false);
        listeners.iter().map(encoded_listener).chain(clusters.iter().map(encoded_cluster)).collect()
    })
    .await
}

/// Status, headers and body; pieces of the request's body are sent as chunks of their own.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn call(at: SocketAddr, path: &str, kind: &str, accept: &str, body: &[&[u8]]) -> Answer {
    let mut stream = loop {
        match TcpStream::connect(at).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let framing = match body {
        [whole] => format!("content-length: {}\r\n", whole.len()),
        _ => "transfer-encoding: chunked\r\n".to_owned(),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-grpc-web: 1\r\ncontent-type: {kind}\r\naccept: {accept}\r\n{framing}\r\n"
    );
    let mut message = head.into_bytes();
    for piece in body {
        if body.len() == 1 {
            message.extend_from_slice(piece);
            continue;
        }
        message.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        message.extend_from_slice(piece);
        message.extend_from_slice(b"\r\n");
    }
    if body.len() != 1 {
        message.extend_from_slice(b"0\r\n\r\n");
    }
    // Who answers early may close early.
    let _ = stream.write_all(&message).await;
    let (mut all, mut piece) = (Vec::new(), vec![0; 65536]);
    let read = async {
        while let Ok(len) = stream.read(&mut piece).await
            && len > 0
        {
            all.extend_from_slice(&piece[..len]);
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.unwrap_or_else(|_| panic!("{path} {kind}: no end"));
    parsed(&all)
}

fn parsed(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{all:?}"));
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().to_owned();
    let mut headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = all[end + 4..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        body = unchunked(&body);
    }
    for free in [
        "date",
        "server",
        "x-envoy-upstream-service-time",
        "content-length",
        "transfer-encoding",
        "connection",
    ] {
        headers.remove(free);
    }
    Answer { status, headers, body: body.escape_ascii().to_string() }
}

fn unchunked(mut left: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = left.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&left[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        all.extend_from_slice(&left[end + 2..end + 2 + size]);
        left = &left[end + 2 + size + 2..];
    }
    all
}

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const HI: &[u8] = b"\0\0\0\0\x02hi";

#[tokio::test]
async fn calls_are_translated_both_ways() {
    let mesh = mesh().await;
    let answer = call(mesh.address, "/s/echo", BINARY, "*/*", &[HI]).await;
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    let header = |name: &str| answer.headers[name].as_str();
    assert_eq!(header("content-type"), BINARY);
    assert_eq!((header("x-type"), header("x-te"), header("x-length")), ("application/grpc", "trailers", "-"));
    assert_eq!(
        answer.body,
        b"\0\0\0\0\x02hi\x80\0\0\0\x1egrpc-status:0\r\nx-trailer:a b\r\n".escape_ascii().to_string()
    );
    // Text, wherever its pieces end.
    for pieces in
        [&[&b"AAAAAAJoaQ=="[..]][..], &[b"A", b"AAAA", b"AJoa", b"Q=", b"="], &[b"AAAAAAJo", b"aQ=="]]
    {
        let answer = call(mesh.address, "/s/echo", TEXT, TEXT, pieces).await;
        assert_eq!(answer.headers["content-type"], "application/grpc-web-text+proto");
        assert_eq!(answer.body, "AAAAAAJoaQ==gAAAAB5ncnBjLXN0YXR1czowDQp4LXRyYWlsZXI6YSBiDQo=", "{pieces:?}");
    }
    // A status without messages comes in the head; so do those of our own making.
    let answer = call(mesh.address, "/s/only", BINARY, "*/*", &[HI]).await;
    assert_eq!((answer.headers["grpc-status"].as_str(), answer.body.as_str()), ("12", ""));
    let answer = call(mesh.address, "/nowhere", TEXT, TEXT, &[b"AAAAAAA="]).await;
    assert_eq!(answer.status, "HTTP/1.1 404 Not Found");
    assert_eq!(answer.headers["content-type"], "application/grpc-web-text+proto");
    let answer = call(mesh.address, "/refused", BINARY, "*/*", &[HI]).await;
    assert_eq!(answer.headers["grpc-status"], "14");
    // What is no base64 goes to nobody.
    let answer = call(mesh.address, "/s/echo", TEXT, TEXT, &[b"no!base64"]).await;
    assert_eq!(answer.headers["grpc-status"], "13", "{answer:?}");
}

#[tokio::test]
async fn long_messages_pass_whole() {
    let mesh = mesh().await;
    let mut message = vec![0, 0, 3, 0, 0];
    message.extend((0..196_608_u32).map(|n| (n * 7) as u8));
    let answer =
        call(mesh.address, "/s/echo", BINARY, "*/*", &[&message[..100_000], &message[100_000..]]).await;
    let mut expected = message.clone();
    expected.extend_from_slice(b"\x80\0\0\0\x1egrpc-status:0\r\nx-trailer:a b\r\n");
    assert_eq!(answer.body, expected.escape_ascii().to_string());
}

#[tokio::test]
async fn calls_are_those_of_envoy() {
    let up = server().await;
    let dir = std::env::temp_dir().join(format!("heddle-grpc-web-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let theirs = SocketAddr::from(([127, 0, 0, 1], free_port([127, 0, 0, 1].into()).unwrap()));
    let (listeners, clusters) = resources(theirs, up, false);
    let Some(_envoy) = kit::peer::start_envoy(listeners, clusters, &dir) else { return };
    let mesh = Mesh::start(1, |at| {
        let (listeners, clusters) = resources(at, up, false);
        listeners.iter().map(encoded_listener).chain(clusters.iter().map(encoded_cluster)).collect()
    })
    .await;
    let two = [HI, b"\0\0\0\0\x03you"].concat();
    let cases: [(&str, &str, &str, &[&[u8]]); 10] = [
        ("/s/echo", BINARY, "*/*", &[HI]),
        ("/s/echo", "application/grpc-web", BINARY, &[&two]),
        ("/s/echo", BINARY, TEXT, &[HI]),
        ("/s/echo", TEXT, TEXT, &[b"AAAAAAJoaQ=="]),
        ("/s/echo", "application/grpc-web-text+proto", "*/*", &[b"AAAA", b"AAJoaQ=="]),
        ("/s/only", BINARY, "*/*", &[HI]),
        ("/s/only", TEXT, TEXT, &[b"AAAAAAJoaQ=="]),
        ("/nowhere", BINARY, "*/*", &[HI]),
        ("/refused", TEXT, TEXT, &[b"AAAAAAJoaQ=="]),
        ("/s/echo", "application/grpc", "*/*", &[HI]),
    ];
    let mut found = Vec::new();
    for (path, kind, accept, body) in cases {
        let (one, two) = (
            call(theirs, path, kind, accept, body).await,
            call(mesh.address, path, kind, accept, body).await,
        );
        if one != two {
            found.push(format!("{path} {kind} {accept}:\n envoy {one:?}\n here  {two:?}"));
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// One connection manager for many: hosts switch the filter on or off for themselves, in heddle as in Envoy.
#[tokio::test]
async fn hosts_switch_the_filter() {
    let up = server().await;
    for disabled in [false, true] {
        let dir = kit::peer::Folder::new();
        let theirs = SocketAddr::from(([127, 0, 0, 1], free_port([127, 0, 0, 1].into()).unwrap()));
        let (listeners, clusters) = resources(theirs, up, disabled);
        let envoy = kit::peer::start_envoy(listeners, clusters, &dir.0);
        let mesh = Mesh::start(1, |at| {
            let (listeners, clusters) = resources(at, up, disabled);
            listeners.iter().map(encoded_listener).chain(clusters.iter().map(encoded_cluster)).collect()
        })
        .await;
        for (host, on) in [("on.test", true), ("off.test", false), ("test", !disabled)] {
            for path in ["/s/echo", "/closed", "/nowhere"] {
                let url = format!("http://{host}{path}");
                let ours = call(mesh.address, &url, BINARY, "*/*", &[HI]).await;
                // Without a route nobody has said anything.
                let translated = if path == "/nowhere" { !disabled } else { on };
                let web = ours.headers.get("content-type").is_some_and(|kind| kind == BINARY);
                assert_eq!(web, translated, "{url}, disabled: {disabled}: {ours:?}");
                if path == "/s/echo" {
                    let sent = if on { "application/grpc" } else { BINARY };
                    assert_eq!(ours.headers["x-type"], sent, "{url}, disabled: {disabled}");
                }
                if envoy.is_some() {
                    assert_eq!(
                        call(theirs, &url, BINARY, "*/*", &[HI]).await,
                        ours,
                        "{url} by Envoy and here"
                    );
                }
            }
        }
    }
}
