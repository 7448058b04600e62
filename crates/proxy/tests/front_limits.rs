//! How long and how much a listener takes of one connection and one request.

mod kit;

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, HttpProtocolOptions};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Duration as PbDuration, UInt32Value};
use kit::backend::{Backend, Client};
use kit::frames::*;
use kit::*;
use tokio::io::AsyncWriteExt;

/// A listener changed like this before a backend.
async fn mesh(change: impl Fn(&mut hcm::HttpConnectionManager)) -> (Mesh, Backend) {
    let backend = Backend::named("a").await;
    let mesh = Mesh::start(1, |at| {
        let mut manager = connection_manager(vec![to_cluster("/", "a")]);
        change(&mut manager);
        let listener = listener("test", at, http_filter(&manager));
        vec![encoded_listener(&listener), encoded_cluster(&static_cluster("a", &[backend.address]))]
    })
    .await;
    (mesh, backend)
}

const fn millis(millis: i32) -> Option<PbDuration> {
    Some(PbDuration { seconds: 0, nanos: millis * 1_000_000 })
}

/// However steadily its body drips, a request has to be complete in time.
#[tokio::test]
async fn a_request_that_drips_is_answered_408() {
    let (mesh, _backend) = mesh(|manager| manager.request_timeout = millis(300)).await;
    let mut client = Client::new(mesh.connect().await);
    assert_eq!(client.get("/").await.1, "a");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n").await;
    let (read, mut write) = client.stream.into_split();
    let drip = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while write.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    });
    let mut answer = vec![0; 12];
    let mut read = tokio::io::BufReader::new(read);
    let read = tokio::io::AsyncReadExt::read_exact(&mut read, &mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    drip.abort();
}

#[tokio::test]
async fn a_connection_ends_when_it_is_old() {
    let options = HttpProtocolOptions { max_connection_duration: millis(400), ..Default::default() };
    let (mesh, _backend) = mesh(|manager| manager.common_http_protocol_options = Some(options)).await;
    let mut idle = Client::new(mesh.connect().await);
    assert!(!idle.get("/").await.0.contains("connection: close"));
    assert_eq!(idle.rest().await, "");
    let mut busy = Client::new(mesh.connect().await);
    let closed = async {
        while let Some(head) = busy.try_get("/").await {
            if head.contains("connection: close") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("an end");
    assert_eq!(busy.rest().await, "");
    // HTTP/2 is told so by GOAWAY without an error.
    let mut stream = mesh.connect().await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let told = async {
        loop {
            match next(&mut stream).await {
                Some(frame) if frame.kind == GOAWAY => return reason(&frame),
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), told).await.expect("GOAWAY"), 0);
}

#[tokio::test]
async fn http_1_0_without_host_gets_the_one_configured() {
    let options = Http1ProtocolOptions {
        accept_http_10: true,
        default_host_for_http_10: "old.example.com".into(),
        ..Default::default()
    };
    let (mesh, backend) = mesh(|manager| manager.http_protocol_options = Some(options.clone())).await;
    let mut client = Client::new(mesh.connect().await);
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 200"));
    assert!(
        backend.heads()[0].to_ascii_lowercase().contains("host: old.example.com\r\n"),
        "{:?}",
        backend.heads()
    );
}

/// What HTTP/2 can carry, and what would be two things to a server of HTTP/1.1.
#[tokio::test]
async fn requests_of_http2_have_one_meaning_or_none() {
    let options =
        HttpProtocolOptions { max_headers_count: Some(UInt32Value { value: 10 }), ..Default::default() };
    let (mesh, backend) = mesh(|manager| manager.common_http_protocol_options = Some(options)).await;
    let own = |path, authority| {
        [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    };
    let with = |more: &[(&str, &str)]| block(&[&own("/", "test")[..], more].concat());
    let many: Vec<_> = (0..11).map(|_| ("x-a", "b")).collect();
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("two lengths", with(&[("content-length", "2"), ("content-length", "2")])),
        ("a length with a sign", with(&[("content-length", "+2")])),
        ("a length with a space", with(&[("content-length", " 2")])),
        ("a coding", with(&[("transfer-encoding", "chunked")])),
        ("a connection", with(&[("connection", "x-a")])),
        ("a line end in a value", with(&[("x-a", "b\r\ntransfer-encoding: chunked")])),
        ("a line end in a name", with(&[("x-a: b\r\nhost", "evil")])),
        ("a line end in the path", block(&own("/ HTTP/1.1\r\nHost: evil\r\nX: ", "test"))),
        ("a space in the path", block(&own("/a b", "test"))),
        ("a path that is a name", block(&own("evil", "test"))),
        ("a path of another scheme", block(&own("http://evil/", "test"))),
        ("an empty path", block(&own("", "test"))),
        ("an authority with a path", block(&own("/", "test/evil"))),
        ("an authority with user information", block(&own("/", "evil@test"))),
        ("an authority with a port that is none", block(&own("/", "test:evil"))),
        ("an authority with a line end", block(&own("/", "test\r\nx: y"))),
        ("a method with a space", {
            block(&[(":method", "GET /evil"), (":scheme", "http"), (":path", "/"), (":authority", "test")])
        }),
        (
            "two Hosts",
            block(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                ("host", "test"),
                ("host", "evil"),
            ]),
        ),
        ("too many fields", with(&many)),
    ];
    for (name, block) in wrong {
        let mut stream = mesh.connect().await;
        let sent = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &block),
            frame(DATA, END_STREAM, 1, b"ok"),
            frame(PING, 0, 0, &[1; 8]),
        ]
        .concat();
        let _ = stream.write_all(&sent).await;
        // Refused by an answer, a reset or the end; and nothing of it was a request to the server.
        let refused = async {
            while let Some(frame) = next(&mut stream).await {
                match frame.kind {
                    // Indexed 200 is 0x88.
                    HEADERS => return frame.payload[0] != 0x88,
                    RST_STREAM | GOAWAY => return true,
                    _ => {}
                }
            }
            true
        };
        let refused = tokio::time::timeout(Duration::from_secs(20), refused).await;
        assert_eq!(refused, Ok(true), "{name}");
        assert!(backend.heads().is_empty(), "{name}: {:?}", backend.heads());
    }
    // A `Host` beside `:authority` is not looked at.
    let mut stream = mesh.connect().await;
    let block = with(&[("host", "evil"), ("content-length", "2")]);
    let sent = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &block),
        frame(DATA, END_STREAM, 1, b"ok"),
    ]
    .concat();
    stream.write_all(&sent).await.unwrap();
    while next(&mut stream).await.is_some_and(|frame| frame.kind != HEADERS) {}
    let heads = backend.heads();
    assert!(
        heads.len() == 1 && heads[0].contains("ost: test\r\n") && !heads[0].contains("evil"),
        "{heads:?}"
    );
}
