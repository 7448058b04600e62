//! What stands behind the proxy: one set of answers, said in HTTP/1.1 and in HTTP/2, in the clear and over TLS.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Header and trailer fields by lower-case name.
type Fields = BTreeMap<String, String>;

struct Request {
    path: String,
    method: String,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

#[derive(Default)]
struct Answer {
    hint: bool,
    status: u16,
    fields: Fields,
    body: Vec<u8>,
    /// The length is not told beforehand.
    open: bool,
    trailers: Fields,
}

/// `len` bytes whose places can be told apart.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// `/echo`, `/size/N`, `/open/N` (a body of no known length), `/status/N`, `/trailers`, `/hints`.
fn answer(request: Request) -> Answer {
    let mut answer = Answer { status: 200, ..Answer::default() };
    let path: Vec<&str> = request.path.split('/').skip(1).collect();
    match *path.as_slice() {
        ["echo"] => {
            let told = request.fields.get("content-length").cloned();
            answer.fields.insert("x-told".into(), told.unwrap_or_else(|| "nothing".into()));
            answer.fields.insert("x-method".into(), request.method);
            answer.body = request.body;
            answer.trailers = request.trailers;
        }
        ["size", len] => answer.body = pattern(len.parse().unwrap_or(0)),
        ["open", len] => (answer.body, answer.open) = (pattern(len.parse().unwrap_or(0)), true),
        ["status", status] => answer.status = status.parse().unwrap_or(500),
        ["trailers"] => {
            answer.body = b"body".to_vec();
            answer.trailers.insert("x-sum".into(), "42".into());
        }
        ["hints"] => (answer.hint, answer.body) = (true, b"late".to_vec()),
        _ => answer.status = 404,
    }
    answer
}

const HINT: (&str, &str) = ("link", "</style.css>; rel=preload");

/// Serves until the runtime ends.
pub(crate) async fn start(http2: bool, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                match tls {
                    None => serve(stream, http2).await,
                    // The version is the one that was agreed upon, or none: then nothing is served.
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        let agreed = stream.get_ref().1.alpn_protocol();
                        assert_eq!(agreed, Some(if http2 { &b"h2"[..] } else { b"http/1.1" }));
                        serve(stream, http2).await;
                    }
                }
            });
        }
    });
    address
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, http2: bool) {
    // A client that goes away is no business of this side.
    let _ = if http2 { serve_http2(stream).await.ok() } else { serve_http1(stream).await.ok() };
}

async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(exchange(request, respond));
    }
    Ok(())
}

async fn exchange(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = incoming.trailers().await?.unwrap_or_default();
    let head_only = head.method == "HEAD";
    let answer = answer(Request {
        path: head.uri.path().to_owned(),
        method: head.method.to_string(),
        fields: fields(&head.headers),
        body,
        trailers: fields(&trailers),
    });
    if answer.hint {
        let hint = http::Response::builder().status(103).header(HINT.0, HINT.1).body(()).unwrap();
        respond.send_informational(hint)?;
    }
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.fields {
        response = response.header(name, value);
    }
    let bare = matches!(answer.status, 204 | 304);
    if !bare && !answer.open && answer.trailers.is_empty() {
        response = response.header("content-length", answer.body.len());
    }
    let ends = bare || head_only;
    let mut send = respond.send_response(response.body(()).unwrap(), ends)?;
    if ends {
        return Ok(());
    }
    let mut rest = Bytes::from(answer.body);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let Some(capacity) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return Ok(()) };
        send.send_data(rest.split_to(capacity?.min(rest.len())), false)?;
    }
    if answer.trailers.is_empty() {
        return send.send_data(Bytes::new(), true);
    }
    let trailers = answer.trailers.iter().map(|(name, value)| {
        (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
    });
    send.send_trailers(trailers.collect())
}

fn fields(map: &http::HeaderMap) -> Fields {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

async fn serve_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        let Some(head) = until(&mut stream, &mut held, b"\r\n\r\n").await? else { return Ok(()) };
        let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fields = lines(rest);
        let (mut body, mut trailers) = (Vec::new(), Fields::new());
        if fields.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let size = until(&mut stream, &mut held, b"\r\n").await?.unwrap_or_default();
                let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
                if size == 0 {
                    break;
                }
                let piece = take(&mut stream, &mut held, size + 2).await?;
                body.extend_from_slice(&piece[..size]);
            }
            while let Some(line) = until(&mut stream, &mut held, b"\r\n").await?
                && line != "\r\n"
            {
                trailers.extend(lines(&line));
            }
        } else if let Some(length) = fields.get("content-length") {
            body = take(&mut stream, &mut held, length.parse().map_err(std::io::Error::other)?).await?;
        }
        let head_only = method == "HEAD";
        write_http1(&mut stream, answer(Request { path, method, fields, body, trailers }), head_only).await?;
        // TLS keeps what the socket did not take until somebody writes again, or flushes.
        stream.flush().await?;
    }
}

async fn write_http1(
    stream: &mut (impl AsyncWrite + Unpin),
    answer: Answer,
    head_only: bool,
) -> std::io::Result<()> {
    let mut head = String::new();
    if answer.hint {
        let _ = write!(head, "HTTP/1.1 103 Early Hints\r\n{}: {}\r\n\r\n", HINT.0, HINT.1);
    }
    let _ = write!(head, "HTTP/1.1 {} Whatever\r\n", answer.status);
    for (name, value) in &answer.fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let bare = matches!(answer.status, 204 | 304);
    let chunked = !bare && (answer.open || !answer.trailers.is_empty());
    if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !bare {
        let _ = write!(head, "content-length: {}\r\n", answer.body.len());
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if head_only || bare {
        return Ok(());
    }
    if !chunked {
        return stream.write_all(&answer.body).await;
    }
    for piece in answer.body.chunks(10_000) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
    }
    let trailers: String =
        answer.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await
}

fn lines(text: &str) -> Fields {
    let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// Everything up to and with `end`; nothing when the stream has ended.
async fn until(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
    end: &[u8],
) -> std::io::Result<Option<String>> {
    loop {
        if let Some(at) = held.windows(end.len()).position(|window| window == end) {
            let taken = held.drain(..at + end.len()).collect();
            return String::from_utf8(taken).map(Some).map_err(std::io::Error::other);
        }
        if stream.read_buf(held).await? == 0 {
            return Ok(None);
        }
    }
}

async fn take(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
    len: usize,
) -> std::io::Result<Vec<u8>> {
    while held.len() < len {
        if stream.read_buf(held).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(held.drain(..len).collect())
}
