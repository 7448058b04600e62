//! What stands behind the gateway: one answer, an echo over HTTP and WebSocket, an echo over TCP.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};

/// HTTP: `/stream` answers with the request's body as it comes, an upgrade becomes an echo, all else is [`super::BODY`].
pub(crate) async fn http() -> SocketAddr {
    listen(|stream| async {
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer))
            .await;
    })
    .await
}

/// TCP: says what it hears.
pub(crate) async fn tcp() -> SocketAddr {
    listen(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await
}

async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
    let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn answer(
    mut request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let whole = |body: &'static str| {
        Response::new(Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {}).boxed())
    };
    if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
        let mut response = whole("");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        // It belongs to the key that every client here sends (RFC 6455, 1.3).
        let accept = header::HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/stream" => Response::new(request.into_body().boxed()),
        _ => whole(super::BODY),
    })
}
