//! Backends that answer with what they saw, as JSON.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What a backend saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub host: String,
    pub proto: String,
    /// Names in the case in which they arrived (HTTP/1.1), in order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// An HTTP/1.1 and HTTP/2 server that answers 200 with JSON: `backend`, `path`, `host`, `method`, `proto`, `headers`.
/// The request header `x-answer: STATUS` asks for another status.
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Backend {
    /// # Panics
    /// When no port can be bound.
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
        Self::on(name, listener)
    }

    /// # Panics
    /// When the listener has no address.
    pub fn on(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, own_name) = (seen.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, name) = (log.clone(), own_name.clone());
                tokio::spawn(async move {
                    let answer = service_fn(move |request| answer(name.clone(), log.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Self { name: name.to_owned(), address, seen, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Takes what was seen since the last call.
    pub fn take(&self) -> Vec<Seen> {
        self.seen.lock().map(|mut s| std::mem::take(&mut *s)).unwrap_or_default()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    name: String,
    log: Arc<Mutex<Vec<Seen>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let host = parts.headers.get("host").map(text).or_else(|| parts.uri.authority().map(ToString::to_string));
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: host.unwrap_or_default(),
        proto: format!("{:?}", parts.version),
        headers: parts.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
        body,
    };
    let status = parts
        .headers
        .get("x-answer")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok())
        .unwrap_or(200);
    let headers: serde_json::Map<String, serde_json::Value> =
        seen.headers.iter().map(|(n, v)| (n.clone(), v.clone().into())).collect();
    let page = serde_json::json!({
        "backend": name, "method": seen.method, "path": seen.path, "host": seen.host, "proto": seen.proto, "headers": headers,
        "body": String::from_utf8_lossy(&seen.body),
    });
    if let Ok(mut log) = log.lock() {
        log.push(seen);
    }
    let mut response = Response::new(Full::new(Bytes::from(page.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}
