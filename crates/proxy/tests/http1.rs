//! HTTP/1.1 from client to endpoint and back, through a whole proxy.

mod kit;

use std::net::{Ipv4Addr, SocketAddr};

use heddle_runtime::free_port;
use kit::backend::{Backend, Client, Reply};
use kit::{
    Mesh, action, connection_manager, encoded_cluster, encoded_listener, http, http_filter, listener,
    retries, static_cluster, to_cluster,
};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn carries_requests_over_kept_connections() {
    let backend = Backend::named("one").await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..3 {
        let (head, body) = client.get("/x?y").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("x-envoy-upstream-service-time: "), "{head}");
        assert!(head.contains("date: "), "{head}");
        assert_eq!(body, "one");
    }
    assert_eq!(*backend.connections.lock().unwrap(), 1);
    let heads = backend.heads();
    assert!(heads[0].starts_with("GET /x?y HTTP/1.1\r\nhost: test\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("x-envoy-attempt-count: 1\r\n"), "{}", heads[0]);
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let backend = Backend::start(|head, _, _| {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()).as_str().into()
    })
    .await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: t\r\n\r\n")).collect();
    client.send(&requests).await;
    for n in 0..20 {
        assert_eq!(client.response().await.1, format!("/{n}"));
    }
}

#[tokio::test]
async fn bodies_of_every_framing_pass() {
    let backend = Backend::start(|head, body, _| {
        let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        if head.contains("chunked") {
            assert_eq!(body, b"3\r\nabc\r\n0\r\n\r\n");
            return "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nseen\r\n0\r\n\r\n".into();
        }
        if head.contains("/close") {
            return Reply::Last([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), body].concat());
        }
        Reply::Send([chunked.as_bytes(), body, b"\r\n0\r\n\r\n"].concat())
    })
    .await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    let body = "b".repeat(200_000);
    client.send(&format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    let (_, echoed) = client.response().await;
    assert_eq!(echoed.matches('b').count(), body.len());
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    let (head, echoed) = client.response().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(echoed, "4\r\nseen\r\n0\r\n\r\n");
    assert!(backend.heads()[1].contains("transfer-encoding: chunked"), "{}", backend.heads()[1]);
    client.send("POST /close HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nxyz").await;
    let (head, echoed) = client.response().await;
    assert_eq!(echoed, "3\r\nxyz\r\n0\r\n\r\n", "{head}");
}

#[tokio::test]
async fn refuses_what_is_malformed_and_goes_on() {
    let backend = Backend::named("one").await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("GET / HTTP/1.0\r\n\r\n", "426"),
        ("\x00\x01\x02\r\n\r\n", "400"),
    ] {
        let mut client = Client::new(mesh.connect().await);
        client.send(request).await;
        let rest = client.rest().await;
        assert!(rest.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {rest}");
    }
    assert!(backend.heads().is_empty());
    assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "one");
}

#[tokio::test]
async fn retries_where_the_route_says_so() {
    let backend =
        Backend::start(|_, _, _| "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n".into()).await;
    let good = Backend::start(|_, body, _| {
        Reply::Send(
            [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
        )
    })
    .await;
    let up = static_cluster("up", &[backend.address, good.address]);
    let route = action(to_cluster("/", "up"), |action| action.retry_policy = retries("5xx", 10));
    let mesh = Mesh::start(1, |at| http(at, vec![route.clone()], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..10 {
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, "hello");
    }
    assert!(!backend.heads().is_empty());
}

#[tokio::test]
async fn repeats_a_get_whose_connection_died_of_old_age() {
    // Every connection answers once and closes on the second request.
    let backend = Backend::start(|_, _, number| match number {
        0 => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into(),
        _ => Reply::Close,
    })
    .await;
    let up = static_cluster("up", &[backend.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..5 {
        assert_eq!(client.get("/").await.1, "ok");
    }
}

#[tokio::test]
async fn says_why_there_is_no_answer() {
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST.into()).unwrap()));
    let silent = Backend::start(|_, _, _| Reply::Silence).await;
    let rude = Backend::start(|_, _, _| Reply::Close).await;
    let clusters = [
        static_cluster("dead", &[dead]),
        static_cluster("none", &[]),
        static_cluster("silent", &[silent.address]),
        static_cluster("rude", &[rude.address]),
    ];
    let slow = action(to_cluster("/silent", "silent"), |action| {
        action.timeout = Some(envoy_types::pb::google::protobuf::Duration { seconds: 0, nanos: 50_000_000 });
    });
    let mesh = Mesh::start(1, |at| {
        let routes = vec![
            to_cluster("/dead", "dead"),
            to_cluster("/none", "none"),
            slow.clone(),
            to_cluster("/rude", "rude"),
        ];
        http(at, routes, &clusters)
    })
    .await;
    for (path, status, text) in [
        ("/dead", "503", "remote connection failure"),
        ("/none", "503", "no healthy upstream"),
        ("/silent", "504", "upstream request timeout"),
        ("/rude", "503", "connection termination"),
    ] {
        let mut client = Client::new(mesh.connect().await);
        let (head, body) = client.get(path).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(body.contains(text), "{path}: {body}");
        client.get("/none").await;
    }
    let (head, _) = Client::new(mesh.connect().await).get("/elsewhere").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn a_head_or_body_that_does_not_come_is_waited_for_no_longer_than_told() {
    let backend = Backend::named("one").await;
    let up = static_cluster("up", &[backend.address]);
    let most = envoy_types::pb::google::protobuf::Duration { seconds: 0, nanos: 300_000_000 };
    // The time for a head by its own setting, and by the one for every stream.
    for own in [true, false] {
        let mesh = Mesh::start(1, |at| {
            let mut manager = connection_manager(vec![to_cluster("/", "up")]);
            let setting =
                if own { &mut manager.request_headers_timeout } else { &mut manager.stream_idle_timeout };
            *setting = Some(most);
            vec![encoded_listener(&listener("test", at, http_filter(&manager))), encoded_cluster(&up)]
        })
        .await;
        let mut half = Client::new(mesh.connect().await);
        half.send("GET / HTTP/1.1\r\nHost: t\r\nx:").await;
        let mut body = Client::new(mesh.connect().await);
        body.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf").await;
        // A drop now and then does not buy time.
        let mut slow = Client::new(mesh.connect().await);
        let begun = std::time::Instant::now();
        let mut drops = tokio::time::interval(std::time::Duration::from_millis(50));
        let dripping = async {
            loop {
                drops.tick().await;
                if slow.stream.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        let halves = async {
            let rest = half.rest().await;
            assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
            if !own {
                let rest = body.rest().await;
                assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), async { tokio::join!(dripping, halves) })
            .await
            .expect("nobody is waited for without end");
        assert!(begun.elapsed() >= std::time::Duration::from_millis(250), "{:?}", begun.elapsed());
        assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "one");
    }
}
