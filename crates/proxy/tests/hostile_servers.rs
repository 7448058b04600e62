//! Servers of HTTP/2 that break each rule: whoever asked is answered 502 or 503 with a reason, and nobody else notices.

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Http2ProtocolOptions;
use envoy_types::pb::google::protobuf::UInt32Value;
use kit::backend::{Backend, Client};
use kit::frames::*;
use kit::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// What a server sends after its first frames, and then without end.
struct Server {
    name: &'static str,
    /// Its first frames; nothing is the usual SETTINGS.
    first: Option<Vec<u8>>,
    /// Sent when the request has come.
    answer: Vec<u8>,
    /// Sent again and again behind that.
    again: Option<fn() -> Vec<u8>>,
    /// It ends the connection then.
    close: bool,
    /// The answer to the client.
    status: &'static str,
}

fn ok(stream: u32, more: &[(&str, &str)], flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[&[(":status", "200")], more].concat()))
}

fn servers() -> Vec<Server> {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let one =
        |name, answer: Vec<u8>| Server { name, first: None, answer, again: None, close: false, status: "50" };
    let first = |name, first: Vec<u8>| Server { first: Some(first), ..one(name, Vec::new()) };
    let endless = |name, answer: Vec<u8>, again| Server { again: Some(again), ..one(name, answer) };
    let raw = |payload: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, payload);
    let bomb = {
        let mut large = vec![0x88, 0x40, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x1e];
        large.extend(vec![b'b'; 3968]);
        large.extend(vec![0xbe; 10_000]);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &large)
    };
    vec![
        first("no HTTP/2 at all", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        first("SETTINGS of a broken length", frame(SETTINGS, 0, 0, &[0; 5])),
        first("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[])),
        first("SETTINGS with a window too large", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        first("SETTINGS with frames too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        first("an acknowledgement with content", [settings(), frame(SETTINGS, ACK, 0, &[0; 6])].concat()),
        one("DATA before HEADERS", frame(DATA, 0, 1, b"early")),
        one("DATA of an idle stream", frame(DATA, 0, 99, b"x")),
        one("DATA of stream 0", frame(DATA, 0, 0, b"x")),
        one("HEADERS of a stream of its own", ok(2, &[], END_STREAM)),
        one("HEADERS of an idle stream", ok(99, &[], END_STREAM)),
        one("a frame too large", frame(DATA, 0, 1, &[0; 20_000])),
        one("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-a", "b")]))),
        one(
            "DATA within fields",
            [frame(HEADERS, 0, 1, &block(&[(":status", "200")])), frame(DATA, 0, 1, b"x")].concat(),
        ),
        one("HPACK: an index of nothing", raw(&[0x88, 0xff, 0xff, 0xff, 0x7f])),
        one("HPACK: index 0", raw(&[0x88, 0x80])),
        one("HPACK: a string cut short", raw(&[0x88, 0, 0x7f])),
        one("HPACK: a table too large", raw(&[0x3f, 0xe1, 0xff, 0xff, 0x07, 0x88])),
        one("HPACK: a bomb", bomb),
        one("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        one("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        one(
            "PUSH_PROMISE",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &request("GET", "/", &[])].concat()),
        ),
        one("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 99, &[0; 4])),
        one("GOAWAY before the request", frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])),
        Server {
            close: true,
            ..one("GOAWAY after it, and the end", frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]))
        },
        one("GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        one("PING of a broken length", frame(PING, 0, 0, &[0; 7])),
        Server { close: true, ..one("half a frame", vec![0, 0, 50, 0, 0]) },
        one("no status", raw(&block(&[("x-a", "b")]))),
        one("a status of letters", raw(&block(&[(":status", "abc")]))),
        one("a status twice", raw(&block(&[(":status", "200"), (":status", "200")]))),
        one("a request's field", raw(&block(&[(":status", "200"), (":path", "/evil")]))),
        one("101", frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "101")]))),
        one("a name in large letters", ok(1, &[("X-A", "b")], END_STREAM)),
        one("a name with a colon", ok(1, &[("x:a", "b")], END_STREAM)),
        one("a value with line ends", ok(1, &[("x-a", "b\r\nset-cookie: evil")], END_STREAM)),
        one("a value with NUL", ok(1, &[("x-a", "b\0")], END_STREAM)),
        one("transfer-encoding", ok(1, &[("transfer-encoding", "chunked")], END_STREAM)),
        one("connection", ok(1, &[("connection", "close")], END_STREAM)),
        one(
            "two lengths",
            [
                ok(1, &[("content-length", "2"), ("content-length", "2")], 0),
                frame(DATA, END_STREAM, 1, b"ok"),
            ]
            .concat(),
        ),
        one(
            "a length that is none",
            [ok(1, &[("content-length", "+2")], 0), frame(DATA, END_STREAM, 1, b"ok")].concat(),
        ),
        one("a length and no body", ok(1, &[("content-length", "5")], END_STREAM)),
        endless("interim responses without end", Vec::new(), || {
            frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103")]))
        }),
        endless("fields without end", frame(HEADERS, 0, 1, &block(&[(":status", "200")])), || {
            frame(CONTINUATION, 0, 1, &block(&[("x-a", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")]))
        }),
        endless(
            "empty CONTINUATION without end",
            frame(HEADERS, 0, 1, &block(&[(":status", "200")])),
            || frame(CONTINUATION, 0, 1, &[]),
        ),
        endless("PING without end", Vec::new(), || frame(PING, 0, 0, &[0; 8])),
        endless("SETTINGS without end", Vec::new(), || frame(SETTINGS, 0, 0, &[])),
        endless("RST_STREAM without end", Vec::new(), || frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])),
        endless("WINDOW_UPDATE without end", Vec::new(), || frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        endless("PRIORITY without end", Vec::new(), || frame(PRIORITY, 0, 3, &[0; 5])),
        // These end in the middle of a response: the client can tell.
        Server {
            status: "200",
            ..one(
                "more than the length",
                [ok(1, &[("content-length", "2")], 0), frame(DATA, END_STREAM, 1, b"more")].concat(),
            )
        },
        Server {
            status: "200",
            ..one(
                "less than the length",
                [ok(1, &[("content-length", "9")], 0), frame(DATA, END_STREAM, 1, b"less")].concat(),
            )
        },
        Server {
            status: "200",
            ..endless("empty DATA without end", ok(1, &[], 0), || frame(DATA, 0, 1, &[]))
        },
        Server {
            status: "200",
            ..endless("more than the window", ok(1, &[], 0), || frame(DATA, 0, 1, &[0; 16_384]))
        },
    ]
}

async fn act(mut stream: TcpStream, server: &Server) -> std::io::Result<()> {
    let (mut read, mut write) = stream.split();
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut read, &mut preface).await?;
    write.write_all(server.first.as_deref().unwrap_or(&frame(SETTINGS, 0, 0, &[]))).await?;
    while let Some(frame) = next(&mut read).await {
        if frame.kind == HEADERS {
            break;
        }
    }
    write.write_all(&server.answer).await?;
    if server.close {
        return Ok(());
    }
    if let Some(again) = server.again {
        let some: Vec<u8> = (0..16).flat_map(|_| again()).collect();
        let sending = async { while write.write_all(&some).await.is_ok() {} };
        let reading = async { while next(&mut read).await.is_some() {} };
        tokio::join!(sending, reading);
    }
    while next(&mut read).await.is_some() {}
    Ok(())
}

async fn start(server: &'static Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream, server));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_a_rule_harms_its_own_requests_only() {
    let servers: &'static [Server] = Vec::leak(servers());
    let mut clusters = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        // Small enough that who does not keep to it exceeds it at once, also where it is read quickly.
        let initial_stream_window_size = Some(UInt32Value { value: 65_535 });
        let options = Http2ProtocolOptions { initial_stream_window_size, ..Default::default() };
        let cluster = static_cluster(&format!("bad{number}"), &[start(server).await]);
        clusters.push(http2_with(cluster, options));
    }
    let good = Backend::named("good").await;
    clusters.push(static_cluster("good", &[good.address]));
    let mesh = Mesh::start(1, |at| {
        let mut routes: Vec<_> =
            (0..servers.len()).map(|n| to_cluster(&format!("/bad{n}/"), &format!("bad{n}"))).collect();
        routes.push(to_cluster("/", "good"));
        http(at, routes, &clusters)
    })
    .await;
    let mut honest = Client::new(mesh.connect().await);
    let mut wrong = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let mut client = Client::new(mesh.connect().await);
        client.send(&format!("GET /bad{number}/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), client.rest()).await;
        let answer = answer.unwrap_or_else(|_| "nothing in 20 s".to_owned());
        let answer = answer.trim_start_matches("HTTP/1.1 103 Early Hints\r\n\r\n");
        let told = answer.starts_with(&format!("HTTP/1.1 {}", server.status))
            && (server.status == "200" || answer.contains("reset reason: "));
        // A body that is not whole has no end.
        let cut = server.status != "200" || !answer.ends_with("\r\n0\r\n\r\n");
        if !told || !cut || answer.contains("evil") {
            wrong.push(format!("{}: {:?}", server.name, &answer[..answer.len().min(300)]));
        }
        assert_eq!(honest.get("/").await.1, "good", "beside {}", server.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
