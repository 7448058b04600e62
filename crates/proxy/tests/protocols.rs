//! HTTP/2, gRPC trailers, upgrades, CONNECT, TCP and detection through a whole proxy.

mod kit;

use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as route;
use kit::backend::{Backend, Client};
use kit::{Mesh, http, http2, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An HTTP/2 server that echoes the body and answers with trailers.
async fn h2_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let te = request.headers().get("te").cloned();
                        let mut body = request.into_body();
                        let mut response = http::Response::new(());
                        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                        if let Some(te) = te {
                            response.headers_mut().insert("x-te", te);
                        }
                        let mut send = respond.send_response(response, false).unwrap();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                            send.send_data(data, false).unwrap();
                        }
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        send.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

async fn h2_client(mesh: &Mesh) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    client.ready().await.unwrap()
}

async fn read_all(mut body: h2::RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap())
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let up = http2(static_cluster("up", &[h2_backend().await]));
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = h2_client(&mesh).await;
    let request = http::Request::post("http://test/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    let payload = vec![7_u8; 300_000];
    let mut rest = Bytes::from(payload.clone());
    let sender = tokio::spawn(async move {
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
            send.send_data(rest.split_to(capacity.min(rest.len())), false).unwrap();
        }
        send.send_data(Bytes::new(), true).unwrap();
    });
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-te"], "trailers");
    let (body, trailers) = read_all(response.into_body()).await;
    sender.await.unwrap();
    assert_eq!(body, payload);
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let up = http2(static_cluster("up", &[h2_backend().await]));
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let client = h2_client(&mesh).await;
    let calls = (0..50_u8).map(|n| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let request = http::Request::post("http://test/").body(()).unwrap();
            let (response, mut send) = client.send_request(request, false).unwrap();
            send.send_data(Bytes::from(vec![n; 100]), true).unwrap();
            assert_eq!(read_all(response.await.unwrap().into_body()).await.0, vec![n; 100]);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn versions_are_translated() {
    let h1 = Backend::named("one").await;
    let clusters = [static_cluster("h1", &[h1.address]), http2(static_cluster("h2", &[h2_backend().await]))];
    let routes = vec![to_cluster("/h1", "h1"), to_cluster("/h2", "h2")];
    let mesh = Mesh::start(1, |at| http(at, routes.clone(), &clusters)).await;
    // From HTTP/2 to HTTP/1.1.
    let mut client = h2_client(&mesh).await;
    let request = http::Request::get("http://test/h1").header("cookie", "a=1").header("cookie", "b=2");
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(read_all(response.into_body()).await.0, b"one");
    let head = h1.heads().remove(0);
    assert!(head.starts_with("GET /h1 HTTP/1.1\r\nhost: test\r\n"), "{head}");
    assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
    // From HTTP/1.1 to HTTP/2: trailers come behind a chunked body.
    let mut client = Client::new(mesh.connect().await);
    client
        .send("POST /h2 HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nxyz")
        .await;
    let (head, body) = client.response_until("grpc-status: 0\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(body.starts_with("3\r\nxyz\r\n0\r\n"), "{body}");
}

#[tokio::test]
async fn grpc_failures_are_told_in_its_own_way() {
    let mesh =
        Mesh::start(1, |at| http(at, vec![to_cluster("/", "none")], &[static_cluster("none", &[])])).await;
    let mut client = h2_client(&mesh).await;
    let request =
        http::Request::post("http://test/x").header("content-type", "application/grpc").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["grpc-message"], "no healthy upstream");
}

#[tokio::test]
async fn upgrades_become_tunnels() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (head, _) = kit::backend::read_message(&mut stream, &mut Vec::new()).await.unwrap();
                assert!(head.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{head}");
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi";
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
    });
    let up = static_cluster("up", &[address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    client
        .send("GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        .await;
    let (head, _) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("connection: upgrade\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    client.send("ping").await;
    client.expect("hiping").await;
    client.send("more").await;
    client.expect("more").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn connect_ends_here_where_the_route_says_so() {
    let echo = echo().await;
    let mut connect = to_cluster("/", "up");
    if let Some(matches) = &mut connect.r#match {
        matches.path_specifier =
            Some(route::route_match::PathSpecifier::ConnectMatcher(route::route_match::ConnectMatcher {}));
    }
    let connect = kit::action(connect, |action| {
        action.upgrade_configs = vec![route::route_action::UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            connect_config: Some(route::route_action::upgrade_config::ConnectConfig::default()),
            ..Default::default()
        }];
    });
    let mesh = Mesh::start(1, |at| http(at, vec![connect.clone()], &[static_cluster("up", &[echo])])).await;
    let mut client = Client::new(mesh.connect().await);
    client.send("CONNECT some.service:9000 HTTP/1.1\r\nHost: some.service:9000\r\n\r\n").await;
    let (head, _) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    client.send("through").await;
    client.expect("through").await;
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

#[tokio::test]
async fn tcp_is_relayed_and_half_closed() {
    let echo = echo().await;
    let mesh = Mesh::start(1, |at| {
        let listener = kit::listener("tcp", at, kit::tcp_filter("up"));
        vec![kit::encoded_listener(&listener), kit::encoded_cluster(&static_cluster("up", &[echo]))]
    })
    .await;
    let mut stream = mesh.connect().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = stream.split();
    let expected = sent.clone();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, outcome) = tokio::join!(send, read.read_to_end(&mut got));
    outcome.unwrap();
    assert!(got == expected);
}

/// A listener that tells HTTP from everything else.
fn detecting(at: SocketAddr) -> envoy_types::pb::envoy::config::listener::v3::Listener {
    use envoy_types::pb::envoy::config::listener::v3 as listener;
    let manager = kit::connection_manager(vec![to_cluster("/", "http")]);
    let mut detecting = kit::listener("detect", at, kit::http_filter(&manager));
    detecting.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
        application_protocols: vec!["http/1.1".to_owned(), "h2c".to_owned()],
        ..Default::default()
    });
    detecting.default_filter_chain =
        Some(listener::FilterChain { filters: vec![kit::tcp_filter("tcp")], ..Default::default() });
    let inspector =
        envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector::default();
    detecting.listener_filters = vec![listener::ListenerFilter {
        name: "envoy.filters.listener.http_inspector".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(kit::any(
            "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
            &inspector,
        ))),
        ..Default::default()
    }];
    detecting
}

#[tokio::test]
async fn the_side_that_speaks_first_decides() {
    let web = Backend::named("web").await;
    let greeter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let greeting = greeter.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = greeter.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"220 welcome\r\n").await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let clusters = |tcp| {
        [
            kit::encoded_cluster(&static_cluster("http", &[web.address])),
            kit::encoded_cluster(&static_cluster("tcp", &[tcp])),
        ]
    };
    let mesh = Mesh::start(1, |at| {
        [vec![kit::encoded_listener(&detecting(at))], clusters(greeting).to_vec()].concat()
    })
    .await;
    // The server greets, although the client says nothing.
    let mut client = Client::new(mesh.connect().await);
    client.expect("220 welcome\r\n").await;
    client.send("EHLO x\r\n").await;
    client.expect("EHLO x\r\n").await;
    // The client speaks first where the server waits.
    let echo = echo().await;
    let at = mesh.address;
    mesh.publish([vec![kit::encoded_listener(&detecting(at))], clusters(echo).to_vec()].concat());
    mesh.until(|proxy| {
        proxy.snapshot().clusters.values().any(|cluster| {
            *cluster.name.as_str() == *"tcp"
                && proxy.snapshot().endpoints(cluster).is_some_and(|set| set.endpoints[0].address == echo)
        })
    })
    .await;
    assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "web");
    let mut client = Client::new(mesh.connect().await);
    client.send("\x01binary\r\n").await;
    client.expect("\x01binary\r\n").await;
}
