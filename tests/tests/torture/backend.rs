//! The server behind a contender: it reads strictly, keeps what it read, and says what a case wants said.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::strict::{self, Message, Read};

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whole requests.
    pub(crate) requests: Vec<Message>,
    /// What was no request.
    pub(crate) wrong: Vec<String>,
    /// Bytes to answer `/case` with, in the place of an ordinary answer. The connection ends behind them.
    pub(crate) answer: Option<Vec<u8>>,
}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
        let seen = Arc::<Mutex<Seen>>::default();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone()));
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Seen>>) -> std::io::Result<()> {
    let with = |look: &mut dyn FnMut(&mut Seen)| {
        look(&mut log.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    };
    let mut input = Vec::new();
    loop {
        match strict::request(&input) {
            Read::Message(request, len) => {
                input.drain(..len);
                let (method, target) = (request.word(0).to_owned(), request.word(1).to_owned());
                let mut answer = None;
                with(&mut |seen| {
                    if target != "/settled" {
                        seen.requests.push(request.clone());
                    }
                    answer = seen.answer.clone().filter(|_| target == "/case");
                });
                if let Some(answer) = answer {
                    // Whoever is answered this way may have hung up before the end.
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    return Ok(());
                }
                let body = if method == "HEAD" { "" } else { "ok" };
                let text =
                    format!("HTTP/1.1 200 OK\r\nX-Target: {target}\r\nContent-Length: 2\r\n\r\n{body}");
                stream.write_all(text.as_bytes()).await?;
            }
            Read::More => {
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(());
                }
            }
            Read::Wrong(wrong) => {
                let text = format!("{wrong}: {:?}", String::from_utf8_lossy(&input[..input.len().min(400)]));
                with(&mut |seen| seen.wrong.push(text.clone()));
                return Ok(());
            }
        }
    }
}
