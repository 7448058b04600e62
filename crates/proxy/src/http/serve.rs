//! The server side of HTTP/1.1: requests of one connection, one after the other.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
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
use crate::conn::detect::is_h2;
use crate::conn::registry::{Registered, Wish};
use crate::conn::wire::Wire;
use crate::decide::{self, Downstream};
use crate::overload::{HURRY, Stage};
use crate::snapshot::{Codec, HttpConnectionManager};
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

/// A connection of HTTP/1.1, and all that it holds between two requests: [`Serving`](crate::conn::serving::Serving) has it
/// rest, and serve when something has come. One whose client has sent nothing yet may turn out to speak HTTP/2.
#[derive(Debug)]
pub(crate) struct Connection {
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    /// Lent to the request under way.
    wire: Option<Wire>,
    alarm: Alarm,
    /// When it has rested for as long as it may.
    deadline: Option<Instant>,
    /// When it has lived for as long as it may. Boxed: nearly no connection has one.
    old: Option<Box<Instant>>,
    served: u32,
    draining: bool,
    shedding: bool,
    /// HTTP/2 is possible still.
    undecided: bool,
    /// Ends behind all else.
    registered: Registered,
}

impl Connection {
    /// `undecided`: what is spoken is to be seen from the first bytes.
    pub(crate) fn new(
        worker: Rc<Worker>,
        downstream: Rc<Downstream>,
        wire: Wire,
        registered: Registered,
        undecided: bool,
    ) -> Box<Self> {
        let old = downstream.http().and_then(lifetime).map(Box::new);
        Box::new(Self {
            worker,
            downstream,
            wire: Some(wire),
            alarm: Alarm::default(),
            deadline: None,
            old,
            served: 0,
            draining: false,
            shedding: false,
            undecided,
            registered,
        })
    }

    /// Waits for the first byte of a request, holding no buffers: false when none will come.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (Some(wire), Some(http)) = (&mut self.wire, self.downstream.http()) else {
            return Poll::Ready(false);
        };
        if !wire.data().is_empty() {
            return Poll::Ready(true);
        }
        if let Poll::Ready(outcome) = wire.poll_fill(cx) {
            return Poll::Ready(outcome.is_ok_and(|len| len > 0));
        }
        let control = self.registered.control();
        control.register(cx.waker());
        if control.wish() == Wish::Cut {
            return Poll::Ready(false);
        }
        let draining = control.wish() == Wish::Drain;
        let shedding = self.worker.stage.get() >= Stage::CloseIdle;
        if self.deadline.is_none() || draining != self.draining || shedding != self.shedding {
            (self.draining, self.shedding) = (draining, shedding);
            let most = match (draining, shedding) {
                (true, _) => Some(DRAIN_IDLE),
                // A new connection has a moment for its first request.
                (_, true) if self.served == 0 => Some(HURRY),
                (_, true) => Some(Duration::ZERO),
                _ => http.idle_timeout,
            };
            self.deadline = most.map(|most| Instant::now() + most);
        }
        let old = self.old.as_deref().copied();
        self.alarm.poll(cx, earliest(self.deadline, old)).map(|()| false)
    }

    /// Serves what has come; returns the connection when it may rest again.
    pub(crate) async fn serve(mut self: Box<Self>) -> Option<Box<Self>> {
        if std::mem::take(&mut self.undecided) && Box::pin(self.is_h2()).await? {
            let Self { worker, downstream, wire, registered, .. } = *self;
            let control = registered.control().clone();
            Box::pin(super::h2::serve::serve(worker, downstream, wire?, control)).await;
            return None;
        }
        while self.request().await {
            // Perhaps more than one came at once.
            if let Some(wire) = &mut self.wire
                && wire.data().is_empty()
            {
                wire.rest();
                self.deadline = None;
                return Some(self);
            }
        }
        self.ended().await
    }

    /// Ends the connection.
    pub(crate) async fn ended(self: Box<Self>) -> Option<Box<Self>> {
        Box::pin(self.close()).await;
        None
    }

    async fn close(mut self: Box<Self>) {
        if let Some(wire) = self.wire.take() {
            linger(&mut WireStream::new(wire), &mut self.alarm).await;
        }
    }

    /// Whether the first bytes are those of HTTP/2; nothing when they do not come.
    async fn is_h2(&mut self) -> Option<bool> {
        let idle = self.downstream.http()?.idle_timeout;
        is_h2(self.wire.as_mut()?, Codec::Auto, idle, self.registered.control()).await
    }

    /// Serves one request, whose first byte is there; false when it was the last.
    async fn request(&mut self) -> bool {
        let (worker, downstream) = (&self.worker, &*self.downstream);
        let (Some(wire), Some(http)) = (self.wire.take(), downstream.http()) else { return false };
        let limits =
            Limits { bytes: http.max_request_headers as usize, fields: http.max_headers_count as usize };
        let mut client = Client {
            stream: Stream::Wire(WireStream::new(wire)),
            control: self.registered.control().clone(),
            alarm: std::mem::take(&mut self.alarm),
            case: if http.preserve_case { Case::Kept } else { Case::Lower },
            method: super::head::Method::Get,
            version: Version::Http11,
            keep_alive: false,
            expects_continue: false,
            interim: false,
        };
        let mut heads = worker.take_heads();
        match read_head(worker, &mut client, &mut heads.request, limits, http).await {
            Next::Request(_) if heads.request.version == Version::Http10 && !http.accept_http_10 => {
                Box::pin(refuse(worker, downstream, &mut client, 426)).await;
            }
            Next::Request(message) => {
                self.served += 1;
                let most = http.max_requests_per_connection;
                let last = worker.stage.get() >= Stage::CloseIdle
                    || (most != 0 && self.served >= most)
                    || self.old.as_deref().is_some_and(|old| Instant::now() >= *old);
                let length = client.begin(&message, &mut heads.request, http, last);
                heads.request.scheme = downstream.scheme;
                Exchange::new(worker, downstream, &mut client, &mut heads, length).run().await;
            }
            Next::Malformed(malformed) => {
                Box::pin(refuse(worker, downstream, &mut client, malformed.status())).await;
            }
            Next::Late => Box::pin(refuse(worker, downstream, &mut client, 408)).await,
            Next::Closed => {}
        }
        worker.give_heads(heads);
        let Client { stream: Stream::Wire(stream), alarm, keep_alive, .. } = client else { return false };
        let goes_on = keep_alive && stream.complete();
        (self.wire, self.alarm) = (Some(stream.wire), alarm);
        goes_on
    }
}

impl Client {
    /// Takes over what the head of a request says of the connection; the length of the body, when known.
    fn begin(
        &mut self,
        message: &Message,
        head: &mut RequestHead,
        http: &HttpConnectionManager,
        last: bool,
    ) -> Option<u64> {
        if head.version == Version::Http10 && head.authority().is_empty() {
            head.set_authority(http.default_host_for_http_10.as_bytes());
        }
        let leaves = message.leaves_http && leave_http(message, head);
        // What stands behind a request to leave HTTP was perhaps not meant as HTTP: it is read by the other side or by nobody.
        self.keep_alive = message.keep_alive && !leaves && !last;
        self.method = head.method;
        self.version = head.version;
        self.expects_continue = message.expects_continue && !http.proxy_100_continue;
        match &mut self.stream {
            Stream::Wire(stream) => {
                stream.expect(message.framing);
                stream.remaining()
            }
            Stream::H2(_) => None,
        }
    }
}

/// Whether a request asks to leave HTTP. One with content of its own stays: the content would be the other protocol's first
/// bytes to some and a body to others, and an upgrade may be ignored (RFC 9110, 7.8).
fn leave_http(message: &Message, head: &mut RequestHead) -> bool {
    if message.framing != Framing::Empty {
        head.headers.remove("upgrade");
    }
    decide::requested_upgrade(head).is_some_and(|kind| !kind.eq_ignore_ascii_case(b"h2c"))
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
