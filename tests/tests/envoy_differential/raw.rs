//! HTTP/1.1 by hand, so that what is compared is what stood on the wire: names in their case, in their order.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// A message as it stood on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

/// Reads one message. `bodiless`: the answer to a HEAD.
pub(crate) async fn read_message(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    bodiless: bool,
) -> std::io::Result<Option<Message>> {
    let end = loop {
        if let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if more(stream, rest).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut message = Message { first: lines.next().unwrap_or_default().to_owned(), ..Message::default() };
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        message.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let chunked = message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let none = bodiless || matches!(message.status(), 101 | 204 | 304);
    let body = match (none, chunked, length) {
        (false, true, _) => read_chunks(stream, rest).await?,
        (false, false, Some(length)) => {
            while rest.len() < length && more(stream, rest).await? > 0 {}
            rest.drain(..length.min(rest.len())).collect()
        }
        _ => Vec::new(),
    };
    message.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(message))
}

async fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> std::io::Result<usize> {
    stream.read_buf(rest).await
}

async fn read_chunks(stream: &mut TcpStream, rest: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            if more(stream, rest).await? == 0 {
                return Ok(body);
            }
            continue;
        };
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16).unwrap_or(0);
        while rest.len() < end + 2 + size + 2 && more(stream, rest).await? > 0 {}
        body.extend_from_slice(&rest[end + 2..(end + 2 + size).min(rest.len())]);
        rest.drain(..(end + 2 + size + 2).min(rest.len()));
        if size == 0 {
            return Ok(body);
        }
    }
}

/// What backends saw, by the value of `x-case`.
pub(crate) type Log = Arc<Mutex<HashMap<String, Vec<(String, Message)>>>>;

/// A backend that says its name. `x-answer` asks for a status, `x-slow` for milliseconds of thought.
pub(crate) struct Backend {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub(crate) async fn start(name: &'static str, log: Log) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(name, stream, log.clone()));
            }
        });
        Self { port, task }
    }
}

async fn serve(name: &'static str, mut stream: TcpStream, log: Log) -> std::io::Result<()> {
    let mut rest = Vec::new();
    while let Some(request) = read_message(&mut stream, &mut rest, false).await? {
        let number = |header: &str| request.header(header).and_then(|value| value.parse::<u64>().ok());
        let (status, slow) = (number("x-answer").unwrap_or(200), number("x-slow"));
        let case = request.header("x-case").unwrap_or_default().to_owned();
        let head_only = request.first.starts_with("HEAD ");
        if let Ok(mut log) = log.lock() {
            log.entry(case).or_default().push((name.to_owned(), request));
        }
        if let Some(slow) = slow {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
        if status == 101 {
            let answer = "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Up: 1\r\n\r\n";
            stream.write_all(answer.as_bytes()).await?;
            continue;
        }
        let body = if head_only { "" } else { name };
        let answer = format!(
            "HTTP/1.1 {status} Fine\r\nContent-Type: text/plain\r\nX-Up: 1\r\nX-Gone: 1\r\nServer: backend\r\n\
             X-Two: a\r\nX-Two: b\r\nContent-Length: {}\r\n\r\n{body}",
            name.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// One request by a connection of its own, from 127.0.0.`from`.
pub(crate) async fn send(
    to: SocketAddr,
    request: &str,
    head_only: bool,
    from: u8,
) -> Result<Message, String> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, from], 0)))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        read_message(&mut stream, &mut Vec::new(), head_only).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await;
    let answer = answer.map_err(|_| "no answer in 20 s".to_owned())?.map_err(|error| error.to_string())?;
    answer.ok_or_else(|| "the connection was closed without an answer".to_owned())
}
