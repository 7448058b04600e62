//! Requests as the suite makes them, on a fresh connection each.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Outcome<T> = Result<T, String>;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) to: SocketAddr,
    /// With TLS, and the server name that is asked for.
    pub(crate) tls: Option<(TlsConnector, String)>,
    pub(crate) http2: bool,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

pub(crate) async fn ask(ask: &Ask) -> Outcome<Answer> {
    timeout(PATIENCE, exchange(ask)).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?
}

async fn exchange(ask: &Ask) -> Outcome<Answer> {
    let stream = TcpStream::connect(ask.to).await.map_err(|e| format!("connect {}: {e}", ask.to))?;
    match &ask.tls {
        None => over(ask, TokioIo::new(stream)).await,
        Some((connector, sni)) => over(ask, TokioIo::new(handshake(connector, sni, stream).await?)).await,
    }
}

async fn handshake(connector: &TlsConnector, sni: &str, stream: TcpStream) -> Outcome<TlsStream<TcpStream>> {
    let name = ServerName::try_from(sni.to_owned()).map_err(|e| e.to_string())?;
    connector.connect(name, stream).await.map_err(|e| format!("TLS for {sni}: {e}"))
}

/// Whether a TLS connection is refused: no handshake comes about.
pub(crate) async fn tls_reject(to: SocketAddr, connector: &TlsConnector, sni: &str) -> Outcome<()> {
    let stream = TcpStream::connect(to).await.map_err(|e| format!("connect {to}: {e}"))?;
    match timeout(PATIENCE, handshake(connector, sni, stream)).await {
        Ok(Err(_)) => Ok(()),
        Ok(Ok(_)) => Err(format!("a TLS connection for {sni} came about")),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn over<I>(ask: &Ask, io: I) -> Outcome<Answer>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let uri = if ask.http2 { format!("http://{}{}", ask.host, ask.path) } else { ask.path.clone() };
    let mut request = Request::builder().method(&*ask.method).uri(uri);
    if !ask.http2 {
        request = request.header("host", &ask.host);
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(ask.body.clone())).map_err(|e| e.to_string())?;
    let response = if ask.http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let (head, body) = response.map_err(|e| format!("{e:?}"))?.into_parts();
    let body = body.collect().await.map_err(|e| format!("body: {e:?}"))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status, headers: head.headers, trailers, body: body.to_bytes() })
}

/// A gRPC call with an empty message: its status, and what the backend reported.
pub(crate) async fn grpc(mut call: Ask) -> Outcome<(u32, Value)> {
    call.http2 = true;
    call.method = "POST".to_owned();
    call.headers.insert("content-type".to_owned(), "application/grpc".to_owned());
    call.headers.insert("te".to_owned(), "trailers".to_owned());
    call.body = Bytes::from_static(&[0, 0, 0, 0, 0]);
    let answer = ask(&call).await?;
    let status = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
    let status = status.and_then(|status| status.to_str().ok()).and_then(|status| status.parse().ok());
    let Some(status) = status else {
        return Err(format!("no grpc-status; HTTP status {}", answer.status));
    };
    let report = answer.body.get(5..).and_then(|message| serde_json::from_slice(message).ok());
    Ok((status, report.unwrap_or_default()))
}

/// Sends a line and reads the answer, which is who answered.
pub(crate) async fn tcp(to: SocketAddr) -> Outcome<Value> {
    let talk = async {
        let mut stream = TcpStream::connect(to).await.map_err(|e| format!("connect {to}: {e}"))?;
        stream.write_all(b"hello\n").await.map_err(|e| e.to_string())?;
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.map_err(|e| format!("read: {e}"))?;
        serde_json::from_slice(&buffer[..read]).map_err(|e| format!("{read} bytes: {e}"))
    };
    timeout(PATIENCE, talk).await.map_err(|_| "no answer".to_owned())?
}

/// Opens a WebSocket, sends two messages and expects each back.
pub(crate) async fn websocket(to: SocketAddr, path: &str) -> Outcome<()> {
    let talk = async {
        let mut stream = TcpStream::connect(to).await.map_err(|e| format!("connect {to}: {e}"))?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            to.ip()
        );
        stream.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
        let head = read_head(&mut stream).await?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(format!("no upgrade: {}", head.lines().next().unwrap_or_default()));
        }
        for (opcode, payload) in [(0x81, &b"Websocket Support!"[..]), (0x82, &[1, 2, 3, 4, 5, 6, 7][..])] {
            let length = u8::try_from(payload.len()).map_err(|e| e.to_string())?;
            // Masked with zeros, which leaves the payload as it is.
            let mut frame = vec![opcode, 0x80 | length, 0, 0, 0, 0];
            frame.extend_from_slice(payload);
            stream.write_all(&frame).await.map_err(|e| e.to_string())?;
            let mut back = vec![0; payload.len() + 2];
            stream.read_exact(&mut back).await.map_err(|e| format!("reading a frame: {e}"))?;
            if back[2..] != *payload {
                return Err(format!("sent {payload:?}, got {back:?}"));
            }
        }
        Ok(())
    };
    timeout(PATIENCE, talk).await.map_err(|_| "no answer".to_owned())?
}

async fn read_head(stream: &mut TcpStream) -> Outcome<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.map_err(|e| format!("reading the head: {e}"))?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
