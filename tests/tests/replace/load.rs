//! New connections at a fixed rate, each with one request; and a few clients that keep theirs.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use heddle_tests::client::Connection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
};

/// Between two bursts of new connections.
const TICK: Duration = Duration::from_millis(10);
/// For one request, the connection included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clients that keep their connection.
const KEEPING: usize = 4;

/// The load. Every request must be answered with 200.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) done: Arc<AtomicU64>,
    pub(crate) failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(at: SocketAddr, per_second: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let mut load = Self { stop, done, failed, tasks: Vec::new() };
        for _ in 0..KEEPING {
            load.tasks.push(load.keep(at));
        }
        load.tasks.push(load.come_and_go(at, per_second));
        load
    }

    /// Asks again and again whether the proxy is ready, by a connection that is kept, and for a name.
    pub(crate) fn watch(&mut self, admin: SocketAddr, dns: SocketAddr) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(TICK);
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let ready = async {
                    let mut connection = match kept.take() {
                        Some(connection) => connection,
                        None => Connection::open(admin).await?,
                    };
                    let answer = connection.send("GET", "localhost", "/ready", &[], b"").await?;
                    let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
                    kept = (!closes).then_some(connection);
                    if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
                };
                let outcome = ready.await.map_err(|e| format!("/ready: {e}"));
                note(outcome, &AtomicU64::new(0), &failed);
            }
        }));
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(TICK);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                note(name(dns).await, &AtomicU64::new(0), &failed);
            }
        }));
    }

    /// Asks at a Unix socket, by a new connection each time.
    pub(crate) fn knock(&mut self, at: &Path) {
        let (at, stop, failed) = (at.to_owned(), self.stop.clone(), self.failed.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(TICK);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                note(super::pipe::once(&at).await, &AtomicU64::new(0), &failed);
            }
        }));
    }

    fn come_and_go(&self, at: SocketAddr, per_second: u64) -> JoinHandle<()> {
        let (stop, done, failed) = (self.stop.clone(), self.done.clone(), self.failed.clone());
        tokio::spawn(async move {
            let start = tokio::time::Instant::now();
            let mut tick = tokio::time::interval(TICK);
            let mut clients = tokio::task::JoinSet::new();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                tick.tick().await;
                let due = start.elapsed().as_millis() as u64 * per_second / 1000;
                while sent < due {
                    sent += 1;
                    let (done, failed) = (done.clone(), failed.clone());
                    clients.spawn(async move { note(once(at).await, &done, &failed) });
                }
                while clients.try_join_next().is_some() {}
            }
            while clients.join_next().await.is_some() {}
        })
    }

    fn keep(&self, at: SocketAddr) -> JoinHandle<()> {
        let (stop, done, failed) = (self.stop.clone(), self.done.clone(), self.failed.clone());
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(TICK);
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let exchange = async {
                    let mut stream = match kept.take() {
                        Some(stream) => stream,
                        None => TcpStream::connect(at).await.map_err(|e| format!("connect: {e}"))?,
                    };
                    let closes = exchange(&mut stream, "keep-alive").await?;
                    Ok::<_, String>((!closes).then_some(stream))
                };
                let answered = tokio::time::timeout(PATIENCE, exchange).await;
                let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
                note(answered.map(|stream| kept = stream).map_err(|e| format!("kept: {e}")), &done, &failed);
            }
        })
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn more(&self, count: u64) {
        let until = self.done.load(Ordering::Relaxed) + count;
        let mut poll = tokio::time::interval(TICK);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.done.load(Ordering::Relaxed) < until && tokio::time::Instant::now() < deadline {
            poll.tick().await;
        }
    }

    /// Ends the load; how many requests were answered, and what became of the others.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
        let failed = self.failed.lock().map(|mut failed| std::mem::take(&mut *failed)).unwrap_or_default();
        (self.done.load(Ordering::Relaxed), failed)
    }
}

fn note(answered: Result<(), String>, done: &AtomicU64, failed: &Mutex<Vec<String>>) {
    match answered {
        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
        Err(error) => {
            if let Ok(mut failed) = failed.lock() {
                failed.push(error);
            }
        }
    }
}

/// A question for a name of the mesh over UDP; whatever is answered is good.
async fn name(dns: SocketAddr) -> Result<(), String> {
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04shop\x04mesh\x00\x00\x01\x00\x01";
    let asked = async {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(dns).await?;
        socket.send(question).await?;
        socket.recv(&mut [0; 512]).await
    };
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("name: {error}")),
        Err(_) => Err("name: no answer".to_owned()),
    }
}

/// One request over a connection of its own.
pub(crate) async fn once(at: SocketAddr) -> Result<(), String> {
    let whole = async {
        let mut stream = TcpStream::connect(at).await.map_err(|e| format!("connect: {e}"))?;
        exchange(&mut stream, "close").await.map(drop)
    };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

/// Whether the connection is closed after the answer.
async fn exchange(stream: &mut TcpStream, connection: &str) -> Result<bool, String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", super::HOST);
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
    let mut answer = Vec::new();
    loop {
        let mut some = [0; 2048];
        let len =
            stream.read(&mut some).await.map_err(|e| format!("read after {} bytes: {e}", answer.len()))?;
        if len == 0 {
            return Err(format!("closed after {:?}", String::from_utf8_lossy(&answer)));
        }
        answer.extend_from_slice(&some[..len]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() == super::BODY.len()
        {
            let good = head.starts_with("HTTP/1.1 200 ") && body == super::BODY;
            return if good { Ok(head.contains("connection: close")) } else { Err(text.into_owned()) };
        }
        if answer.len() > 2048 {
            return Err(text.into_owned());
        }
    }
}
