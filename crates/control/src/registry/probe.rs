//! One check over the network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri, header, http::uri::Authority};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::spec::{CheckSpec, Probe, Target};

/// What a health service may answer, in bytes.
const ANSWER: usize = 4096;

/// Makes the check; the error says what was seen, for the operator.
pub(super) async fn probe(spec: &CheckSpec) -> Result<(), String> {
    let check = async {
        let stream = connect(&spec.target).await.map_err(|error| format!("{}: {error}", spec.target))?;
        match &spec.probe {
            Probe::Tcp => Ok(()),
            Probe::Http { path } => http(stream, &spec.target, path).await,
            Probe::Grpc { service } => grpc(stream, &spec.target, service).await,
        }
    };
    match tokio::time::timeout(spec.timeout, check).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{}: no answer within {}", spec.target, shown(spec.timeout))),
    }
}

fn shown(duration: Duration) -> String {
    heddle_resource::value::Dur(duration).to_string()
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn connect(target: &Target) -> io::Result<Stream> {
    match target {
        Target::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(Stream::Tcp),
        // `@NAME` is a name in the abstract space, which begins with a zero byte.
        Target::Unix(path) => match path.strip_prefix('@') {
            Some(name) => UnixStream::connect(format!("\0{name}")).await.map(Stream::Unix),
            None => UnixStream::connect(path).await.map(Stream::Unix),
        },
    }
}

fn authority(target: &Target) -> Authority {
    let text = match target {
        Target::Tcp(..) => target.to_string(),
        Target::Unix(_) => "localhost".to_owned(),
    };
    text.parse().unwrap_or_else(|_| Authority::from_static("localhost"))
}

async fn http(stream: Stream, target: &Target, path: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("GET {target}{path}: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(failed)?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, authority(target).as_str())
        .header(header::USER_AGENT, "heddle-health")
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .map_err(|error| format!("GET {target}{path}: {error}"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        match response.status().as_u16() {
            200..=399 => Ok(()),
            status => Err(format!("GET {target}{path}: status {status}")),
        }
    };
    alongside(exchange, connection).await
}

async fn grpc(stream: Stream, target: &Target, service: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("grpc.health.v1.Health/Check at {target}: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    let uri = Uri::builder().scheme("http").authority(authority(target)).path_and_query(CHECK).build();
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.map_err(|error| error.to_string())?)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "heddle-health")
        .body(Full::new(question(service)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() != 200 {
            return Err(format!(
                "grpc.health.v1.Health/Check at {target}: HTTP status {}",
                response.status()
            ));
        }
        let from_headers = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| format!("grpc.health.v1.Health/Check at {target}: {error}"))?;
        let from_trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        match from_trailers.or(from_headers) {
            Some(status) if status == "0" => {}
            Some(status) => {
                return Err(format!("grpc.health.v1.Health/Check at {target}: grpc-status {status:?}"));
            }
            None => return Err(format!("grpc.health.v1.Health/Check at {target}: no grpc-status")),
        }
        match serving(&body.to_bytes()) {
            Some(1) => Ok(()),
            Some(status) => Err(format!("{target} says {}", name_of(status))),
            None => Err(format!("grpc.health.v1.Health/Check at {target}: not a health answer")),
        }
    };
    alongside(exchange, connection).await
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The request in gRPC's framing: uncompressed, length, message.
fn question(service: &str) -> Bytes {
    use prost::Message;
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`
fn serving(body: &[u8]) -> Option<i32> {
    use prost::Message;
    let (head, message) = body.split_at_checked(5)?;
    if head[0] != 0 {
        return None;
    }
    HealthCheckResponse::decode(message).ok().map(|response| response.status)
}

fn name_of(status: i32) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// Drives the connection as long as the exchange lasts.
async fn alongside<T>(
    exchange: impl Future<Output = Result<T, String>>,
    connection: impl Future<Output = Result<(), hyper::Error>>,
) -> Result<T, String> {
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        outcome = &mut exchange => outcome,
        // The peer may close right after it answered: the answer counts.
        _ = connection => exchange.await,
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
