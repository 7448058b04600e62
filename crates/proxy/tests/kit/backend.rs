//! Servers and clients that speak plain bytes, so that a test sees what is on the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A server that answers each request by a function of its bytes.
pub struct Backend {
    pub address: SocketAddr,
    /// Heads of the requests it has seen, and the number of connections.
    pub seen: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<Mutex<usize>>,
}

/// What a backend does with a request.
pub enum Reply {
    /// Sends this and goes on.
    Send(Vec<u8>),
    /// Sends this and closes.
    Last(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Never answers.
    Silence,
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }
}

impl Backend {
    /// `answer` is called with the head, the body and the number of the request on its connection.
    pub async fn start(answer: impl Fn(&str, &[u8], usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), answer).await
    }

    pub async fn start_at(
        at: SocketAddr,
        answer: impl Fn(&str, &[u8], usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let answer = Arc::new(answer);
        let (record, opened) = (seen.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *opened.lock().unwrap() += 1;
                tokio::spawn(serve(stream, answer.clone(), record.clone()));
            }
        });
        Self { address, seen, connections }
    }

    /// Answers 200 with its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_, _, _| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).as_str().into()
        })
        .await
    }

    pub fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Answers on a Unix socket.
pub async fn serve_pipe(
    listener: UnixListener,
    answer: impl Fn(&str, &[u8], usize) -> Reply + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, answer.clone(), Arc::default()));
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Arc<impl Fn(&str, &[u8], usize) -> Reply>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut buffer = Vec::new();
    for number in 0.. {
        let Some((head, body)) = read_message(&mut stream, &mut buffer).await else { return };
        seen.lock().unwrap().push(head.clone());
        match answer(&head, &body, number) {
            Reply::Send(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::Last(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                return;
            }
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        }
    }
}

/// Reads one message whose body has a length or is chunked; the chunked body is returned as it came.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_end).collect()).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.trim().parse::<usize>().unwrap());
    let end = |buffer: &[u8]| match length {
        Some(length) => (buffer.len() >= length).then_some(length),
        None if lower.contains("transfer-encoding: chunked") => {
            // Perhaps with trailers.
            let last = match buffer.starts_with(b"0\r\n") {
                true => Some(0),
                false => buffer.windows(5).position(|five| five == b"\r\n0\r\n").map(|at| at + 2),
            };
            let end = |at: usize| {
                buffer[at..].windows(4).position(|four| four == b"\r\n\r\n").map(|end| at + end + 4)
            };
            last.and_then(end)
        }
        None => Some(0),
    };
    loop {
        if let Some(end) = end(buffer) {
            return Some((head, buffer.drain(..end).collect()));
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// What a client waits for has to come in time: a fault must fail a test, not hang it.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), what).await.expect("an answer within 30 s")
}

/// A client on one connection.
pub struct Client {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub async fn response(&mut self) -> (String, String) {
        let (head, body) =
            within(read_message(&mut self.stream, &mut self.buffer)).await.expect("a response");
        (head, String::from_utf8(body).unwrap())
    }

    pub async fn get(&mut self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.response().await
    }

    /// Nothing when the connection breaks off.
    pub async fn try_get(&mut self, path: &str) -> Option<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.ok()?;
        read_message(&mut self.stream, &mut self.buffer).await.map(|(head, _)| head)
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        let _ = within(self.stream.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }
}

impl Client {
    /// Reads exactly this.
    pub async fn expect(&mut self, text: &str) {
        while self.buffer.len() < text.len() {
            let len = within(self.stream.read_buf(&mut self.buffer)).await.unwrap();
            assert!(len > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        assert_eq!(String::from_utf8_lossy(&self.buffer.drain(..text.len()).collect::<Vec<_>>()), text);
    }

    /// Everything until `end` has come, or the connection ends.
    pub async fn until(&mut self, end: &str) -> String {
        let mut all = std::mem::take(&mut self.buffer);
        while !all.ends_with(end.as_bytes()) {
            if within(self.stream.read_buf(&mut all)).await.unwrap_or(0) == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// A response whose body ends in `end`.
    pub async fn response_until(&mut self, end: &str) -> (String, String) {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if text.ends_with(end) {
                self.buffer.clear();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                return (format!("{head}\r\n\r\n"), body.to_owned());
            }
            let len = within(self.stream.read_buf(&mut self.buffer)).await.unwrap();
            assert!(len > 0, "the connection ended after {text:?}");
        }
    }
}
