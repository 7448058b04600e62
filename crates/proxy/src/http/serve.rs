//! The server side of HTTP/1.1: requests of one connection, one after the other.

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
use super::stream::{Stream, WireStream};
use crate::access_log::{self, Entry, Notes};
use crate::conn::alarm::{Alarm, earliest};
use crate::conn::registry::{Control, Wish};
use crate::conn::wire::Wire;
use crate::decide::{self, Downstream};
use crate::overload::{HURRY, Stage};
use crate::snapshot::HttpConnectionManager;
use crate::telemetry::{Flags, Record};
use crate::worker::Worker;

/// How long an idle connection of a draining proxy is left open: long enough for a request that is on its way.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long a closing connection waits for its peer to read what was sent (Envoy `delayed_close_timeout`).
pub(crate) const LINGER: Duration = Duration::from_secs(1);
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
pub(crate) fn record_malformed(worker: &Worker, downstream: &Downstream, status: u16) {
    let mut record = Record::new(Instant::now(), downstream.listener.direction);
    record.code = status;
    record.flags.add(Flags::DOWNSTREAM_PROTOCOL_ERROR);
    let protocol_errors = &worker.metrics.downstream_protocol_error;
    protocol_errors.set(protocol_errors.get() + 1);
    let now = Instant::now();
    if let Some(logs) = downstream.http().map(|http| &http.access_log).filter(|logs| !logs.is_empty()) {
        let notes = Notes { details: "http1.codec_error".into(), ..Notes::default() };
        // What was sent was to be HTTP/1.1, if anything.
        let version = (status != 0).then_some(Version::Http11);
        let record = &record;
        let entry = Entry { downstream, request: None, response: None, record, notes: &notes, version, now };
        access_log::write(worker, logs, &entry);
    }
    record.finish(worker, now);
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
pub(crate) async fn linger(stream: &mut WireStream, alarm: &mut Alarm) {
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

/// When a connection has lived long enough (`max_connection_duration`).
pub(crate) fn lifetime(http: &HttpConnectionManager) -> Option<Instant> {
    http.max_connection_duration.map(|most| Instant::now() + most)
}
