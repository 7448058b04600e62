//! Sessions over gRPC: aggregated discovery and the per-type services.

mod admission;
mod body;
mod method;
mod stream;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::codec::{Decoder, Streaming};
use tracing::{debug, warn};

use crate::{Interner, Metrics, ViewSource};
use admission::Admission;
use body::{Item, StreamBody};
use method::Method;
use stream::{Requests, Stream};

/// How a server treats its connections.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Streams admitted per second once the burst is used up, so that a reconnect storm is work of
    /// a bounded rate; default 1,000.
    pub admit_per_second: u32,
    /// Streams admitted at once; default 200.
    pub admit_burst: u32,
    /// Streams per connection; default 4,096.
    pub streams_per_connection: u32,
    /// Largest request in bytes; default 32 MiB (a hundred thousand names and their versions).
    pub max_request: usize,
    /// HTTP/2 ping on a silent connection; default 30 s.
    pub keepalive: Duration,
    /// A connection whose ping is not answered in this time is closed; default 10 s.
    pub keepalive_timeout: Duration,
    /// How long streams get to end after the shutdown began; default 5 s.
    pub drain: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            admit_per_second: 1_000,
            admit_burst: 200,
            streams_per_connection: 4_096,
            max_request: 32 << 20,
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// An xDS server over a source of views.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all streams of a server share.
struct Shared {
    source: Arc<dyn ViewSource>,
    config: ServerConfig,
    admission: Admission,
    interner: Arc<Interner>,
    metrics: Arc<Metrics>,
    /// Turns true when streams have to end.
    closing: watch::Sender<bool>,
}

/// Serves with default settings until `shutdown` completes; then no connection is accepted, open
/// streams end with `UNAVAILABLE`, and the call returns.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn ViewSource>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    Server::new(source, ServerConfig::default()).serve(listener, shutdown).await
}

impl Server {
    /// A server that serves nothing yet.
    pub fn new(source: Arc<dyn ViewSource>, config: ServerConfig) -> Self {
        let admission = Admission::new(config.admit_per_second, config.admit_burst);
        let (closing, _) = watch::channel(false);
        let (interner, metrics) = Default::default();
        Self { shared: Arc::new(Shared { source, config, admission, interner, metrics, closing }) }
    }

    /// Counters, shared with the server.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.shared.metrics.clone()
    }

    /// Accepts connections until `shutdown` completes, then drains.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let _ = socket.set_nodelay(true);
                    let (server, open) = (self.clone(), open.clone());
                    tokio::spawn(async move {
                        if let Err(error) = server.serve_connection(socket).await {
                            debug!(%peer, %error, "xDS connection ended");
                        }
                        drop(open);
                    });
                }
                Err(error) => {
                    // Out of descriptors or a connection that died in the queue: others may do.
                    warn!(%error, "cannot accept an xDS connection; check the limit of open files");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop((listener, open));
        self.shared.closing.send_replace(true);
        let _ = tokio::time::timeout(self.shared.config.drain, all_closed.recv()).await;
        Ok(())
    }

    /// Serves one connection, whatever carries it, until it ends or the server shuts down.
    pub async fn serve_connection<C>(&self, connection: C) -> Result<(), hyper::Error>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.shared.config;
        let shared = self.shared.clone();
        let service = service_fn(move |request| {
            let response = answer(&shared, request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.streams_per_connection)
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(64 << 10)
            .keep_alive_interval(config.keepalive)
            .keep_alive_timeout(config.keepalive_timeout);
        let mut closing = self.shared.closing.subscribe();
        let connection = builder.serve_connection(TokioIo::new(connection), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            _ = closing.wait_for(|closing| *closing) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

/// Starts the stream that a request asks for.
fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<StreamBody> {
    let Some(method) = Method::of(request.uri().path()) else {
        return respond(StreamBody::refused(tonic::Status::unimplemented(format!(
            "no such method here: {}; this is an xDS v3 server (ADS, CDS, EDS, LDS, RDS, VHDS, SDS)",
            request.uri().path()
        ))));
    };
    let limit = shared.config.max_request;
    let requests = match method.variant {
        crate::Variant::Delta => Requests::Delta(streaming(request.into_body(), limit)),
        crate::Variant::StateOfTheWorld => Requests::Sotw(streaming(request.into_body(), limit)),
    };
    let (to_body, items) = mpsc::channel::<Item>(1);
    let stream = Stream::new(shared.clone(), method, requests, to_body);
    tokio::spawn(stream.run());
    respond(StreamBody::new(items))
}

fn streaming<T>(body: Incoming, limit: usize) -> Streaming<T>
where
    T: prost::Message + Default + Send + 'static,
    tonic_prost::ProstDecoder<T>: Decoder<Item = T, Error = tonic::Status>,
{
    let decoder = tonic_prost::ProstDecoder::<T>::new(Default::default());
    Streaming::new_request(decoder, body, None, Some(limit))
}

fn respond(body: StreamBody) -> Response<StreamBody> {
    let mut response = Response::new(body);
    let grpc = header::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
