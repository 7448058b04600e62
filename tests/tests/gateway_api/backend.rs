//! Stand-ins for the suite's echo images: HTTP/1.1, HTTP/2 without TLS, WebSocket, gRPC and TCP, each
//! telling which pod answered and what it was asked.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, Infallible>;

/// What came to which pod: pod and path.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, String)>>>);

impl Log {
    /// How many requests for a path came to pods of that name.
    pub(crate) fn count(&self, prefix: &str, path: &str) -> usize {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(pod, seen)| pod.starts_with(prefix) && seen == path).count()
    }
}

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service: String,
}

/// What a pod's ports speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speaks {
    /// HTTP of either version, with WebSocket.
    Http,
    Grpc,
    Tcp,
    /// HTTP inside of TLS.
    Https,
}

/// What the images of the suite listen on, by their environment.
pub(crate) fn ports(container: &Value) -> Vec<(u16, Speaks)> {
    let env = container["env"].as_array().cloned().unwrap_or_default();
    let set = |name: &str| env.iter().any(|entry| entry["name"] == *name);
    if container["image"].as_str().is_some_and(|image| image.contains("echo-advanced")) {
        return vec![(8080, Speaks::Http), (9090, Speaks::Tcp), (7070, Speaks::Grpc)];
    }
    if set("TCP_ECHO_SERVER") {
        return vec![(3000, Speaks::Tcp)];
    }
    if set("GRPC_ECHO_SERVER") {
        return vec![(3000, Speaks::Grpc)];
    }
    if set("TLS_SERVER_CERT") {
        return vec![(3000, Speaks::Http), (3001, Speaks::Http), (8443, Speaks::Https)];
    }
    vec![(3000, Speaks::Http), (3001, Speaks::Http)]
}

/// Serves one pod: every port until the set is dropped.
pub(crate) async fn serve(
    tasks: &mut JoinSet<()>,
    pod: Pod,
    log: Log,
    ip: Ipv4Addr,
    ports: &[(u16, Speaks)],
    tls: Option<TlsAcceptor>,
) -> std::io::Result<()> {
    let echo = Arc::new(Echo { pod, log, attempts: Mutex::new(HashMap::new()), tls });
    for &(port, speaks) in ports {
        let listener = TcpListener::bind(SocketAddr::from((ip, port))).await?;
        let echo = echo.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let echo = echo.clone();
                connections.spawn(async move { echo.connection(stream, speaks).await });
                while connections.try_join_next().is_some() {}
            }
        });
    }
    Ok(())
}

struct Echo {
    pod: Pod,
    log: Log,
    /// Requests seen of each `uuid`: a pod fails the first `succeedAfter` of them.
    attempts: Mutex<HashMap<String, u32>>,
    tls: Option<TlsAcceptor>,
}

impl Echo {
    async fn connection(self: Arc<Self>, stream: TcpStream, speaks: Speaks) {
        if speaks == Speaks::Tcp {
            return self.tcp(stream).await;
        }
        if speaks == Speaks::Https {
            let Some(acceptor) = self.tls.clone() else { return };
            // Whoever does not trust the certificate goes away.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            return self.http(TokioIo::new(stream), speaks, false).await;
        }
        let mut start = [0; 3];
        let http2 = stream.peek(&mut start).await.is_ok_and(|n| n == 3) && &start == b"PRI";
        self.http(TokioIo::new(stream), speaks, http2).await;
    }

    async fn http<I>(self: Arc<Self>, io: I, speaks: Speaks, http2: bool)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let echo = self.clone();
            async move { Ok::<_, Infallible>(echo.answer(request, speaks).await) }
        });
        // A connection that breaks is the test's to notice, at the other end.
        let _ = if http2 {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        } else {
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
        };
    }

    /// Answers each line with who it is.
    async fn tcp(&self, mut stream: TcpStream) {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {
            let mut line = json!({
                "pod": self.pod.name, "namespace": self.pod.namespace, "service": self.pod.service,
            })
            .to_string();
            line.push('\n');
            if stream.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, speaks: Speaks) -> Response<Body> {
        if speaks == Speaks::Grpc {
            return self.grpc(&request);
        }
        if request.headers().contains_key("sec-websocket-key") {
            return websocket(&mut request);
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        self.log.0.lock().unwrap().push((self.pod.name.clone(), path.to_owned()));
        let query = Query::of(request.uri().query().unwrap_or_default());
        if let Some(delay) = query.delay {
            tokio::time::sleep(delay).await;
        }
        let status = self.status(&query);
        let mut response = Response::new(full(self.report(&request).to_string()));
        *response.status_mut() = status;
        if let Some((name, value)) = query.answer.as_ref().and_then(|text| text.split_once(':')) {
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            response.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }

    fn report(&self, request: &Request<Incoming>) -> Value {
        let uri = request.uri();
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or_else(|| uri.authority().map(|authority| authority.as_str()));
        json!({
            "path": uri.path_and_query().map_or("/", |path| path.as_str()),
            "host": host,
            "method": request.method().as_str(),
            "proto": format!("{:?}", request.version()),
            "headers": headers(request.headers()),
            "namespace": self.pod.namespace,
            "pod": self.pod.name,
            "service": self.pod.service,
        })
    }

    fn status(&self, query: &Query) -> StatusCode {
        let Some(code) = query.code else { return StatusCode::OK };
        let failing = match (&query.uuid, query.succeed_after) {
            (Some(uuid), Some(after)) => {
                let mut attempts = self.attempts.lock().unwrap();
                let seen = attempts.entry(uuid.clone()).or_default();
                *seen += 1;
                *seen <= after
            }
            _ => true,
        };
        if failing { code } else { StatusCode::OK }
    }

    /// One message, whose bytes are the report as JSON: no client but ours reads it.
    fn grpc(&self, request: &Request<Incoming>) -> Response<Body> {
        let known = ["Echo", "EchoTwo", "EchoThree"];
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let status = if known.contains(&method) { "0" } else { "12" };
        let message = self.report(request).to_string();
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(message.as_bytes());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", header::HeaderValue::from_static(status));
        let frames = [Ok(Frame::data(Bytes::from(frame))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
        response.body(BodyExt::boxed(body)).unwrap()
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// Headers as the suite's backend reports them: each name with the list of its values.
fn headers(headers: &HeaderMap) -> Value {
    let mut all: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (name, value) in headers {
        all.entry(name.as_str()).or_default().push(value.to_str().unwrap_or("?"));
    }
    json!(all)
}

#[derive(Default)]
struct Query {
    delay: Option<Duration>,
    code: Option<StatusCode>,
    succeed_after: Option<u32>,
    uuid: Option<String>,
    /// A header for the answer, `NAME:VALUE`.
    answer: Option<String>,
}

impl Query {
    fn of(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "delay" => query.delay = duration(value),
                "responseCode" => query.code = value.parse().ok(),
                "succeedAfter" => query.succeed_after = value.parse().ok(),
                "uuid" => query.uuid = Some(value.to_owned()),
                "answer" => query.answer = Some(value.to_owned()),
                _ => {}
            }
        }
        query
    }
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

/// Accepts the upgrade and sends every short frame back, unmasked.
fn websocket(request: &mut Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut head = [0; 6];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = head[1] & 0x7f;
            let mut payload = vec![0; usize::from(length)];
            if length > 125 || stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            for (at, byte) in payload.iter_mut().enumerate() {
                *byte ^= head[2 + at % 4];
            }
            let mut frame = vec![head[0], length];
            frame.extend_from_slice(&payload);
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        // What every client of the test sends is the example of RFC 6455, section 1.3; so is this.
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .body(full(Bytes::new()))
        .unwrap()
}
