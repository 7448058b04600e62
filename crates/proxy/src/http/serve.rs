//! The server side: requests of one connection, one after the other (HTTP/1.1) or side by side (HTTP/2).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::client::Client;
use super::exchange::Exchange;
use super::h1::encode::{self, Case};
use super::h1::framing::Framing;
use super::h1::parse::{self, Limits, Malformed, Message};
use super::head::{RequestHead, ResponseHead, Version};
use super::meter::{Metered, Resets};
use super::stream::{Stream, WireStream};
use super::translate;
use crate::conn::alarm::{Alarm, earliest};
use crate::conn::open::is_h2;
use crate::conn::registry::{Control, Wish};
use crate::conn::wire::Wire;
use crate::decide::{self, Downstream};
use crate::overload::{HURRY, Stage};
use crate::snapshot::{Codec, HttpConnectionManager};
use crate::telemetry::{Flags, Record};
use crate::worker::Worker;

/// How long an idle connection of a draining proxy is left open: long enough for a request that is on its way.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long a closing connection waits for its peer to read what was sent (Envoy `delayed_close_timeout`).
const LINGER: Duration = Duration::from_secs(1);
/// The most that is read from a closing connection.
const LINGER_BYTES: usize = 256 * 1024;

/// Why no request came.
enum Next {
    Request(Message),
    Malformed(Malformed),
    /// The peer has closed, or was idle for too long.
    Closed,
    /// A request was begun and not finished in time.
    Late,
}

/// Serves HTTP/1.1 until the connection ends.
pub(crate) async fn h1(worker: Rc<Worker>, downstream: &Downstream, wire: Wire, control: Rc<Control>) {
    let Some(http) = downstream.http() else { return };
    let limits = Limits { bytes: http.max_request_headers as usize, fields: http.max_headers_count as usize };
    let case = if http.preserve_case { Case::Kept } else { Case::Lower };
    let mut client = Client {
        stream: Stream::Wire(WireStream::new(wire)),
        control,
        alarm: Alarm::default(),
        case,
        respond: None,
        method: super::head::Method::Get,
        version: Version::Http11,
        keep_alive: true,
        expects_continue: false,
        interim: false,
    };
    let (mut served, old) = (0_u32, lifetime(http));
    loop {
        let Some(mut heads) = wait(&worker, &mut client, http, old, served).await else { break };
        let next = read_head(&worker, &mut client, &mut heads.request, limits, http).await;
        let message = match next {
            Next::Request(message) => message,
            Next::Malformed(malformed) => {
                Box::pin(refuse(&worker, downstream, &mut client, malformed.status())).await;
                break;
            }
            Next::Late => {
                Box::pin(refuse(&worker, downstream, &mut client, 408)).await;
                break;
            }
            Next::Closed => break,
        };
        if heads.request.version == Version::Http10 {
            if !http.accept_http_10 {
                Box::pin(refuse(&worker, downstream, &mut client, 426)).await;
                break;
            }
            if heads.request.authority().is_empty() {
                heads.request.set_authority(http.default_host_for_http_10.as_bytes());
            }
        }
        served += 1;
        let leaves = message.leaves_http && leave_http(&message, &mut heads.request);
        // What stands behind a request to leave HTTP was perhaps not meant as HTTP: it is read by the other side or by nobody.
        client.keep_alive = message.keep_alive
            && !leaves
            && worker.stage.get() < Stage::CloseIdle
            && (http.max_requests_per_connection == 0 || served < http.max_requests_per_connection)
            && old.is_none_or(|old| Instant::now() < old);
        client.method = heads.request.method;
        client.version = heads.request.version;
        client.expects_continue = message.expects_continue && !http.proxy_100_continue;
        let length = match &mut client.stream {
            Stream::Wire(stream) => {
                stream.expect(message.framing);
                stream.remaining()
            }
            Stream::H2(_) => None,
        };
        heads.request.scheme = downstream.scheme;
        // Boxed: what a request needs is not carried by a connection that waits.
        Box::pin(Exchange::new(&worker, downstream, &mut client, &mut heads, length).run()).await;
        worker.give_heads(heads);
        let Stream::Wire(stream) = &mut client.stream else { break };
        if !client.keep_alive || !stream.complete() {
            break;
        }
    }
    let Stream::Wire(stream) = &mut client.stream else { return };
    Box::pin(linger(stream, &mut client.alarm)).await;
}

/// Whether a request asks to leave HTTP. One with content of its own stays: the content would be the other protocol's first
/// bytes to some and a body to others, and an upgrade may be ignored (RFC 9110, 7.8).
fn leave_http(message: &Message, head: &mut RequestHead) -> bool {
    if message.framing != Framing::Empty {
        head.headers.remove("upgrade");
    }
    decide::requested_upgrade(head).is_some_and(|kind| !kind.eq_ignore_ascii_case(b"h2c"))
}

/// Waits for the first byte of a request. The connection holds no buffers meanwhile.
async fn wait(
    worker: &Worker,
    client: &mut Client,
    http: &HttpConnectionManager,
    old: Option<Instant>,
    served: u32,
) -> Option<Box<crate::worker::Heads>> {
    let Stream::Wire(stream) = &mut client.stream else { return None };
    if stream.wire.data().is_empty() {
        stream.wire.rest();
        let (control, alarm) = (&client.control, &mut client.alarm);
        let mut deadline = None;
        let (mut draining, mut shedding) = (false, false);
        let open = poll_fn(|cx| {
            match stream.wire.poll_fill(cx) {
                Poll::Ready(Ok(len)) if len > 0 => return Poll::Ready(true),
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {}
            }
            control.register(cx.waker());
            if control.wish() == Wish::Cut {
                return Poll::Ready(false);
            }
            let now_draining = control.wish() == Wish::Drain;
            let now_shedding = worker.stage.get() >= Stage::CloseIdle;
            if deadline.is_none() || now_draining != draining || now_shedding != shedding {
                (draining, shedding) = (now_draining, now_shedding);
                let most = match (draining, shedding) {
                    (true, _) => Some(DRAIN_IDLE),
                    // A new connection has a moment for its first request.
                    (_, true) if served == 0 => Some(HURRY),
                    (_, true) => Some(Duration::ZERO),
                    _ => http.idle_timeout,
                };
                deadline = most.map(|most| Instant::now() + most);
            }
            alarm.poll(cx, earliest(deadline, old)).map(|()| false)
        })
        .await;
        if !open {
            return None;
        }
    }
    Some(worker.take_heads())
}

/// Reads the rest of a request's head.
async fn read_head(
    worker: &Worker,
    client: &mut Client,
    head: &mut RequestHead,
    limits: Limits,
    http: &HttpConnectionManager,
) -> Next {
    let Stream::Wire(stream) = &mut client.stream else { return Next::Closed };
    let (alarm, control, mut hurried) = (&mut client.alarm, &client.control, false);
    // As Envoy: a stream begins with its first byte, and may not be idle for longer than any other.
    let most = [http.request_headers_timeout, http.stream_idle_timeout].into_iter().flatten().min();
    let mut deadline = None;
    let mut parsed_to = 0;
    poll_fn(|cx| {
        loop {
            // Empty lines before a request are ignored (RFC 9112, 2.2).
            while stream.wire.data().starts_with(b"\r\n") {
                stream.wire.consume(2);
                parsed_to = 0;
            }
            let data = stream.wire.data();
            // A head that came in many pieces is parsed again only when its end may have come.
            let fresh = &data[parsed_to.min(data.len())..];
            if parsed_to == 0 || ends_head(fresh) || data.len() > limits.bytes {
                match parse::request(data, head, limits) {
                    Ok(Some(message)) => {
                        stream.wire.consume(message.len);
                        return Poll::Ready(Next::Request(message));
                    }
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Next::Malformed(malformed)),
                }
            }
            parsed_to = data.len().saturating_sub(3);
            match stream.wire.poll_fill(cx) {
                Poll::Ready(Ok(0)) if !stream.wire.eof() => {
                    return Poll::Ready(Next::Malformed(Malformed::TooLarge));
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if deadline.is_none() {
                        deadline = most.map(|most| Instant::now() + most);
                    }
                    if worker.stage.get() >= Stage::CutSlow && !std::mem::replace(&mut hurried, true) {
                        deadline = earliest(deadline, Some(Instant::now() + HURRY));
                    }
                    control.register(cx.waker());
                    return alarm.poll(cx, deadline).map(|()| Next::Late);
                }
            }
        }
    })
    .await
}

/// A line end directly behind a line end.
fn ends_head(data: &[u8]) -> bool {
    data.windows(2).any(|pair| pair == b"\n\n") || data.windows(3).any(|three| three == b"\n\r\n")
}

/// Records what is no request; status 0 where none was answered.
fn record_malformed(worker: &Worker, downstream: &Downstream, status: u16) {
    let mut record = Record::new(Instant::now(), downstream.listener.direction);
    record.code = status;
    record.flags.add(Flags::DOWNSTREAM_PROTOCOL_ERROR);
    let protocol_errors = &worker.metrics.downstream_protocol_error;
    protocol_errors.set(protocol_errors.get() + 1);
    record.finish(worker, Instant::now());
}

/// Answers what is no request, and records it.
async fn refuse(worker: &Worker, downstream: &Downstream, client: &mut Client, status: u16) {
    record_malformed(worker, downstream, status);
    client.keep_alive = false;
    if let Stream::Wire(stream) = &mut client.stream {
        let mut head = ResponseHead::new(status).with("connection", "close").with("content-length", "0");
        worker.date.with(SystemTime::now(), |date| head.headers.append("date", date));
        decide::finish_response(downstream, &RequestHead::default(), true, &mut head);
        encode::response(stream.wire.output(), &head, Framing::Empty, true, Case::Lower);
        let _ = poll_fn(|cx| stream.wire.poll_flush(cx)).await;
    }
}

/// Closes so that what was sent last arrives: a close with unread bytes would reset the connection.
async fn linger(stream: &mut WireStream, alarm: &mut Alarm) {
    if stream.wire.eof() {
        return;
    }
    let until = Instant::now() + LINGER;
    let mut left = LINGER_BYTES;
    stream.tunnel();
    poll_fn(|cx| {
        if alarm.poll(cx, Some(until)).is_ready() {
            return Poll::Ready(());
        }
        match stream.wire.poll_shutdown(cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            match stream.wire.poll_fill(cx) {
                Poll::Ready(Ok(len)) if len > 0 && left > len => {
                    left -= len;
                    let all = stream.wire.data().len();
                    stream.wire.consume(all);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Serves HTTP/2 until the connection ends.
pub(crate) async fn h2(worker: Rc<Worker>, downstream: Rc<Downstream>, mut wire: Wire, control: Rc<Control>) {
    let Some(http) = downstream.http() else { return };
    match Box::pin(is_h2(&mut wire, Codec::Auto, http.idle_timeout, &control)).await {
        Some(true) => {}
        // A wrong preface is a connection error (RFC 9113, 3.4); so closed that the peer can see it.
        Some(false) => {
            record_malformed(&worker, &downstream, 0);
            return Box::pin(linger(&mut WireStream::new(wire), &mut Alarm::default())).await;
        }
        None => return,
    }
    let settings = &http.http2;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams.unwrap_or(1024))
        .initial_window_size(settings.stream_window.unwrap_or(1 << 20))
        .initial_connection_window_size(settings.connection_window.unwrap_or(4 << 20))
        .max_header_list_size(http.max_request_headers)
        .max_send_buffer_size(256 * 1024)
        .enable_connect_protocol();
    let io = Metered::new(super::h2::Replayed::new(wire), true);
    let flooded = io.flooded();
    let handshake = builder.handshake::<_, bytes::Bytes>(io);
    let handshake = tokio::time::timeout(http.idle_timeout.unwrap_or(Duration::MAX), handshake);
    let mut connection = match handshake.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            if error.is_library() {
                record_malformed(&worker, &downstream, 0);
            }
            return;
        }
        Err(_) => return,
    };
    let (mut alarm, active) = (Alarm::default(), Rc::new(std::cell::Cell::new(0_usize)));
    let (mut draining, mut deadline, mut calmed) = (false, None, false);
    let mut shedding = false;
    let (resets, mut old) = (Rc::<Resets>::default(), lifetime(http));
    loop {
        let accepted = poll_fn(|cx| {
            control.register(cx.waker());
            if control.wish() >= Wish::Drain && !std::mem::replace(&mut draining, true) {
                connection.graceful_shutdown();
            }
            if control.wish() == Wish::Cut {
                return Poll::Ready(None);
            }
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
            if !calmed && worker.metrics.calms(flooded.get(), &resets) {
                calmed = true;
                deadline = Some(Instant::now() + LINGER);
                connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                // Says so, if the peer takes it.
                if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                    return Poll::Ready(accepted.filter(Result::is_err));
                }
            }
            if calmed {
                return alarm.poll(cx, deadline).map(|()| None);
            }
            let now_shedding = worker.stage.get() >= Stage::CloseIdle;
            if active.get() > 0 {
                deadline = None;
            } else if deadline.is_none() || shedding != now_shedding {
                let most = if now_shedding { Some(HURRY) } else { http.idle_timeout };
                deadline = most.map(|most| Instant::now() + most);
            }
            shedding = now_shedding;
            if alarm.poll(cx, earliest(deadline, old)).is_ready() {
                // Asked to end once already, and silent since.
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) && draining {
                    return Poll::Ready(None);
                }
                connection.graceful_shutdown();
                (draining, deadline, old) = (true, None, None);
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        let (request, respond) = match accepted {
            Some(Ok(accepted)) => accepted,
            // The peer broke the protocol, and was told how by GOAWAY.
            Some(Err(error)) if error.is_library() => {
                record_malformed(&worker, &downstream, 0);
                break;
            }
            Some(Err(_)) | None => break,
        };
        let (worker, downstream, control) = (worker.clone(), downstream.clone(), control.clone());
        let (active, resets) = (active.clone(), resets.clone());
        active.set(active.get() + 1);
        tokio::task::spawn_local(async move {
            let early = h2_request(&worker, &downstream, control, request, respond).await;
            resets.closed(early);
            active.set(active.get() - 1);
        });
    }
}

/// Serves one request of an HTTP/2 connection; true when the client broke it off soon after it began.
async fn h2_request(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    control: Rc<Control>,
    request: http::Request<h2::RecvStream>,
    respond: h2::server::SendResponse<bytes::Bytes>,
) -> bool {
    let (parts, body) = request.into_parts();
    let most = downstream.http().map_or(0, |http| http.max_headers_count as usize);
    if let Err(malformed) = translate::check(&parts, most) {
        h2_refuse(worker, downstream, respond, malformed.status());
        return false;
    }
    let length = if body.is_end_stream() {
        Some(0)
    } else {
        parts.headers.get("content-length").and_then(|value| parse::decimal(value.as_bytes()))
    };
    let mut heads = worker.take_heads();
    translate::from_h2(&parts, &mut heads.request);
    let mut client = Client {
        stream: Stream::H2(super::h2::H2Stream::new((length != Some(0)).then_some(body), None)),
        control,
        alarm: Alarm::default(),
        case: Case::Lower,
        respond: Some(respond),
        method: heads.request.method,
        version: Version::Http2,
        keep_alive: true,
        expects_continue: false,
        interim: false,
    };
    // Boxed: a task is moved several times before it first runs.
    let early = Box::pin(Exchange::new(worker, downstream, &mut client, &mut heads, length).run()).await;
    worker.give_heads(heads);
    early
}

/// Answers a request that HTTP/2 can carry and we cannot.
fn h2_refuse(
    worker: &Worker,
    downstream: &Downstream,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    status: u16,
) {
    record_malformed(worker, downstream, status);
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    // A client that is gone needs no answer.
    let _ = respond.send_response(response, true);
}

/// When a connection has lived long enough (`max_connection_duration`).
fn lifetime(http: &HttpConnectionManager) -> Option<Instant> {
    http.max_connection_duration.map(|most| Instant::now() + most)
}
