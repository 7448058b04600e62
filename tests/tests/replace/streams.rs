//! Connections that are meant to stay open: each says something several times a second, and wants to hear it back.

use std::{
    net::SocketAddr,
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
    net::TcpStream,
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
    WebSocket,
    Http2,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::WebSocket, Self::Http2];
}

/// One stream. It ends well when asked to, and badly in every other case.
pub(crate) struct LongStream {
    end: Arc<AtomicBool>,
    pub(crate) echoed: Arc<AtomicU64>,
    task: JoinHandle<Result<(), String>>,
}

impl LongStream {
    pub(crate) async fn open(kind: Kind, http: SocketAddr, tcp: SocketAddr) -> Result<Self, String> {
        let mut pipe = match kind {
            Kind::Tcp => Pipe::Bytes(Box::new(connect(tcp).await?)),
            Kind::WebSocket => websocket(http).await?,
            Kind::Http2 => http2(http).await?,
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
    Bytes(Box<dyn Duplex>),
    Frames { to: mpsc::Sender<Result<Frame<Bytes>, String>>, from: hyper::body::Incoming, kept: Vec<u8> },
}

impl Pipe {
    async fn echo(&mut self, number: u64) -> Result<(), String> {
        let sent = number.to_be_bytes();
        let exchange = async {
            match self {
                Self::Bytes(stream) => {
                    stream.write_all(&sent).await.map_err(|e| format!("write: {e}"))?;
                    let mut heard = [0; 8];
                    stream.read_exact(&mut heard).await.map_err(|e| format!("read: {e}"))?;
                    Ok(heard == sent)
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

async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(to).await.map_err(|e| format!("connect to {to}: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

async fn websocket(to: SocketAddr) -> Result<Pipe, String> {
    let io = TokioIo::new(connect(to).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/socket")
        .header(header::HOST, super::HOST)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| format!("upgrade: {e}"))?;
    if answer.status() != 101 {
        return Err(format!("upgrade: {}", answer.status()));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|e| format!("upgrade: {e}"))?;
    Ok(Pipe::Bytes(Box::new(TokioIo::new(upgraded))))
}

async fn http2(to: SocketAddr) -> Result<Pipe, String> {
    let io = TokioIo::new(connect(to).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|e| e.to_string())?;
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
    pub(crate) async fn open(&mut self, count: usize, http: SocketAddr, tcp: SocketAddr) {
        for kind in Kind::ALL.into_iter().cycle().take(count) {
            match LongStream::open(kind, http, tcp).await {
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
