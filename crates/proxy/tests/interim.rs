//! Interim responses (1xx) through a whole proxy.

mod kit;

use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use kit::backend::{Backend, Client};
use kit::{Mesh, connection_manager, encoded_cluster, encoded_listener, http, http_filter, http2, listener};
use kit::{static_cluster, to_cluster};
use tokio::net::TcpListener;

const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nconnection: x\r\n\r\n\
                      HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An HTTP/2 server that hints before it answers.
async fn hinting_h2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection: h2::server::Connection<_, Bytes> =
                    h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let hint =
                        ::http::Response::builder().status(103).header("link", "</style.css>; rel=preload");
                    respond.send_informational(hint.body(()).unwrap()).unwrap();
                    respond.send_response(::http::Response::new(()), true).unwrap();
                }
            });
        }
    });
    address
}

async fn mesh() -> Mesh {
    let one = Backend::start(|_, _, _| HINTED.into()).await;
    let up = [static_cluster("one", &[one.address]), http2(static_cluster("two", &[hinting_h2().await]))];
    let routes = vec![to_cluster("/one", "one"), to_cluster("/two", "two")];
    Mesh::start(1, |at| http(at, routes.clone(), &up)).await
}

#[tokio::test]
async fn early_hints_reach_clients_of_http1() {
    let mesh = mesh().await;
    for path in ["/one", "/two"] {
        let mut client = Client::new(mesh.connect().await);
        let (hint, _) = client.get(path).await;
        assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n", "{path}");
        let (head, _) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // The connection stands between two messages.
        assert!(client.get(path).await.0.starts_with("HTTP/1.1 103 "), "{path}");
    }
}

#[tokio::test]
async fn early_hints_reach_clients_of_http2() {
    let mesh = mesh().await;
    let (client, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    for path in ["/one", "/two"] {
        let mut client = client.clone().ready().await.unwrap();
        let request = ::http::Request::get(format!("http://test{path}")).body(()).unwrap();
        let (mut response, _) = client.send_request(request, true).unwrap();
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(hint.status(), 103);
        assert_eq!(hint.headers()["link"], "</style.css>; rel=preload");
        assert!(!hint.headers().contains_key("connection"));
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn clients_of_http_1_0_hear_the_final_response_only() {
    let one = Backend::start(|_, _, _| HINTED.into()).await;
    let up = static_cluster("up", &[one.address]);
    let mesh = Mesh::start(1, |at| {
        let mut manager = connection_manager(vec![to_cluster("/", "up")]);
        manager.http_protocol_options =
            Some(core::Http1ProtocolOptions { accept_http_10: true, ..Default::default() });
        vec![encoded_listener(&listener("test", at, http_filter(&manager))), encoded_cluster(&up)]
    })
    .await;
    let mut client = Client::new(mesh.connect().await);
    client.send("GET /one HTTP/1.0\r\nHost: test\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn the_endpoint_gives_the_continue_where_the_listener_says_so() {
    let continued = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let one = Backend::start(move |_, _, _| continued.into()).await;
    let up = static_cluster("up", &[one.address]);
    for proxied in [true, false] {
        let mesh = Mesh::start(1, |at| {
            let mut manager = connection_manager(vec![to_cluster("/", "up")]);
            manager.proxy_100_continue = proxied;
            vec![encoded_listener(&listener("test", at, http_filter(&manager))), encoded_cluster(&up)]
        })
        .await;
        let mut client = Client::new(mesh.connect().await);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nhi")
            .await;
        // Once either way: by the endpoint, or by the proxy in its place.
        assert!(client.response().await.0.starts_with("HTTP/1.1 100 "), "{proxied}");
        assert!(client.response().await.0.starts_with("HTTP/1.1 200 "), "{proxied}");
        assert_eq!(one.heads().last().unwrap().contains("expect: 100-continue"), proxied);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_the_continue_gets_it() {
    let one = Backend::named("done").await;
    let up = static_cluster("up", &[one.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut client = Client::new(mesh.connect().await);
    client.send("POST / HTTP/1.1\r\nHost: test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n").await;
    // Nothing more is sent before it is here.
    assert!(client.response().await.0.starts_with("HTTP/1.1 100 "));
    client.send("hi").await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
}
