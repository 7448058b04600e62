//! Connections that are meant to stay open: each says something several times a second, and wants to hear it back.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;

/// Between two messages.
const PACE: Duration = Duration::from_millis(250);
/// For one message and its echo.
const PATIENCE: Duration = Duration::from_secs(20);

/// What carries the messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Tcp,
    /// By upgrade.
    WebSocket,
    Http2,
    /// Two WebSockets on one connection of HTTP/2 (RFC 8441).
    Tunnels,
    /// By upgrade, at the Unix socket.
    PipeWebSocket,
    /// As [`Kind::Tunnels`], at the Unix socket.
    PipeTunnels,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Tcp, Self::WebSocket, Self::Http2, Self::Tunnels, Self::PipeWebSocket, Self::PipeTunnels];
}

/// Where the gateway is reached.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) socket: PathBuf,
}

impl Doors {
    async fn connect(&self, kind: Kind) -> Result<Box<dyn Duplex>, String> {
        let to = match kind {
            Kind::PipeWebSocket | Kind::PipeTunnels => {
                let stream = UnixStream::connect(&self.socket).await;
                return Ok(Box::new(
                    stream.map_err(|e| format!("connect to {}: {e}", self.socket.display()))?,
                ));
            }
            Kind::Tcp => self.tcp,
            Kind::WebSocket | Kind::Http2 | Kind::Tunnels => self.http,
        };
        let stream = TcpStream::connect(to).await.map_err(|e| format!("connect to {to}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Box::new(stream))
    }
}

/// One stream. It ends well when asked to, and badly in every other case.
pub(crate) struct LongStream {
    end: Arc<AtomicBool>,
    pub(crate) echoed: Arc<AtomicU64>,
    task: JoinHandle<Result<(), String>>,
}

impl LongStream {
    pub(crate) async fn open(kind: Kind, doors: &Doors) -> Result<Self, String> {
        let stream = doors.connect(kind).await?;
        let mut pipe = match kind {
            Kind::Tcp => Pipe::Bytes(vec![stream]),
            Kind::WebSocket | Kind::PipeWebSocket => websocket(stream).await?,
            Kind::Http2 => http2(stream).await?,
            Kind::Tunnels | Kind::PipeTunnels => tunnels(stream).await?,
        };
        let (end, echoed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (asked, count) = (end.clone(), echoed.clone());
        // Open means that it has carried something.
        pipe.echo(0).await.map_err(|e| format!("{kind:?}: {e}"))?;
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            for number in 1.. {
                pace.tick().await;
                if asked.load(Ordering::Relaxed) {
                    break;
                }
                pipe.echo(number).await.map_err(|e| format!("{kind:?}, message {number}: {e}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { end, echoed, task })
    }

    /// Closes it; what went wrong in its life.
    pub(crate) async fn close(self) -> Result<(), String> {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.map_err(|e| e.to_string())?
    }
}

trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Duplex for T {}

enum Pipe {
    /// All of them carry each message.
    Bytes(Vec<Box<dyn Duplex>>),
    Frames {
        to: mpsc::Sender<Result<Frame<Bytes>, String>>,
        from: hyper::body::Incoming,
        kept: Vec<u8>,
    },
}

impl Pipe {
    async fn echo(&mut self, number: u64) -> Result<(), String> {
        let sent = number.to_be_bytes();
        let exchange = async {
            match self {
                Self::Bytes(streams) => {
                    let mut good = true;
                    for stream in streams {
                        stream.write_all(&sent).await.map_err(|e| format!("write: {e}"))?;
                        // What turns one into the other need not pass on what it has by itself.
                        stream.flush().await.map_err(|e| format!("write: {e}"))?;
                        let mut heard = [0; 8];
                        stream.read_exact(&mut heard).await.map_err(|e| format!("read: {e}"))?;
                        good &= heard == sent;
                    }
                    Ok(good)
                }
                Self::Frames { to, from, kept } => {
                    let frame = Frame::data(Bytes::copy_from_slice(&sent));
                    to.send(Ok(frame))
                        .await
                        .map_err(|_| "the request body is not read any more".to_owned())?;
                    while kept.len() < sent.len() {
                        let frame = from.frame().await.ok_or("the response has ended")?;
                        let frame = frame.map_err(|e| format!("read: {e}"))?;
                        kept.extend(frame.data_ref().into_iter().flatten());
                    }
                    Ok(kept.drain(..sent.len()).eq(sent))
                }
            }
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("something else came back".to_owned()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("no echo within {PATIENCE:?}")),
        }
    }
}

/// What a request for a WebSocket has, whichever version asks for it. The key is that of RFC 6455, 1.3.
fn for_websocket(request: http::request::Builder) -> Result<Request<Empty<Bytes>>, String> {
    request
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::new())
        .map_err(|e| e.to_string())
}

async fn websocket(stream: Box<dyn Duplex>) -> Result<Pipe, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/socket")
        .header(header::HOST, super::HOST)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket");
    let answer = sender.send_request(for_websocket(request)?).await.map_err(|e| format!("upgrade: {e}"))?;
    if answer.status() != 101 {
        return Err(format!("upgrade: {}", answer.status()));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|e| format!("upgrade: {e}"))?;
    Ok(Pipe::Bytes(vec![Box::new(TokioIo::new(upgraded))]))
}

async fn tunnels(stream: Box<dyn Duplex>) -> Result<Pipe, String> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    // What may be asked for is known once anything was answered.
    let first =
        Request::get(format!("http://{}/", super::HOST)).body(Empty::new()).map_err(|e| e.to_string())?;
    sender.send_request(first).await.map_err(|e| format!("request: {e}"))?;
    let mut tunnels: Vec<Box<dyn Duplex>> = Vec::new();
    for _ in 0..2 {
        let request = Request::connect(format!("http://{}/socket", super::HOST))
            .extension(hyper::ext::Protocol::from_static("websocket"));
        let answer =
            sender.send_request(for_websocket(request)?).await.map_err(|e| format!("CONNECT: {e}"))?;
        if answer.status() != 200 {
            return Err(format!("CONNECT: {}", answer.status()));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|e| format!("CONNECT: {e}"))?;
        tunnels.push(Box::new(TokioIo::new(upgraded)));
    }
    Ok(Pipe::Bytes(tunnels))
}

async fn http2(stream: Box<dyn Duplex>) -> Result<Pipe, String> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let (to, frames) = mpsc::channel(1);
    let body = StreamBody::new(ReceiverStream::new(frames).map(|frame: Result<_, String>| frame));
    let uri = format!("http://{}/stream", super::HOST);
    let request = Request::post(uri).body(body).map_err(|e| e.to_string())?;
    // The answer's head comes before the request's end.
    let answer = sender.send_request(request).await.map_err(|e| format!("request: {e}"))?;
    if answer.status() != 200 {
        return Err(format!("request: {}", answer.status()));
    }
    Ok(Pipe::Frames { to, from: answer.into_body(), kept: Vec::new() })
}

/// The streams that are open at a time, the oldest first.
#[derive(Default)]
pub(crate) struct Streams {
    open: Vec<LongStream>,
    pub(crate) broken: Arc<Mutex<Vec<String>>>,
}

impl Streams {
    /// Opens so many more, of all kinds in turn.
    pub(crate) async fn open(&mut self, count: usize, doors: &Doors) {
        for kind in Kind::ALL.into_iter().cycle().take(count) {
            match LongStream::open(kind, doors).await {
                Ok(stream) => self.open.push(stream),
                Err(error) => self.complain(format!("not opened: {error}")),
            }
        }
    }

    /// Closes the oldest ones.
    pub(crate) async fn close(&mut self, count: usize) {
        let count = count.min(self.open.len());
        let leaving: Vec<_> = self.open.drain(..count).collect();
        for ended in futures_util::future::join_all(leaving.into_iter().map(LongStream::close)).await {
            if let Err(error) = ended {
                self.complain(error);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn complain(&self, text: String) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.push(text);
        }
    }
}
