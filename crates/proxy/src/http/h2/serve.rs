//! The server side: the requests of one connection, side by side.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::drive::End;
use super::reason::Fault;
use super::session::Opened;
use super::settings::Own;
use super::{Conn, H2Stream, frame};
use crate::conn::alarm::{Alarm, earliest};
use crate::conn::detect::is_h2;
use crate::conn::registry::{Control, Wish};
use crate::conn::wire::Wire;
use crate::decide::Downstream;
use crate::http::client::Client;
use crate::http::exchange::Exchange;
use crate::http::h1::encode::Case;
use crate::http::h2::meter::Resets;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::serve::{DRAIN_IDLE, LINGER, lifetime, linger, record_malformed};
use crate::http::stream::{Stream, WireStream};
use crate::http::websocket;
use crate::overload::{HURRY, Stage};
use crate::snapshot::{Codec, HttpConnectionManager};
use crate::worker::{Heads, Worker};

/// Streams of a client where nothing says how many.
const STREAMS: u32 = 1024;

/// Serves HTTP/2 until the connection ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    mut wire: Wire,
    control: Rc<Control>,
) {
    let Some(http) = downstream.http() else { return };
    match Box::pin(is_h2(&mut wire, Codec::Auto, http.idle_timeout, &control)).await {
        Some(true) => wire.consume(frame::PREFACE.len()),
        // A wrong preface is a connection error (RFC 9113, 3.4); so closed that the peer can see it.
        Some(false) => {
            record_malformed(&worker, &downstream, 0);
            return Box::pin(linger(&mut WireStream::new(wire), &mut Alarm::default())).await;
        }
        None => return,
    }
    let conn = Conn::new(own(http));
    let mut serving = Serving {
        times: Times::new(http),
        active: Rc::default(),
        resets: Rc::default(),
        worker: &worker,
        downstream: &downstream,
        control: &control,
        conn: &conn,
        http,
    };
    let end = poll_fn(|cx| serving.poll(cx, &mut wire)).await;
    let Serving { resets, .. } = serving;
    let flood = conn.session.borrow().flood();
    if end == End::Fault && !worker.metrics.calms(flood, &resets) {
        record_malformed(&worker, &downstream, 0);
    }
    conn.session.borrow_mut().lost();
    if end != End::Cut {
        Box::pin(linger(&mut WireStream::new(wire), &mut Alarm::default())).await;
    }
}

/// What a client is told.
fn own(http: &HttpConnectionManager) -> Own {
    let settings = &http.http2;
    Own {
        server: true,
        stream_window: settings.stream_window.unwrap_or(1 << 20),
        connection_window: settings.connection_window.unwrap_or(4 << 20),
        streams: settings.max_concurrent_streams.unwrap_or(STREAMS),
        head_bytes: http.max_request_headers,
        head_fields: http.max_headers_count,
        connect: settings.allow_connect,
    }
}

/// When something is to happen by itself.
#[derive(Debug)]
struct Times {
    alarm: Alarm,
    /// Nothing was going on for too long.
    idle: Option<Instant>,
    /// It has lived long enough.
    old: Option<Instant>,
    /// Who was asked to leave has had the time to hear it.
    leave: Option<Instant>,
    /// Who broke a rule has had the time to read so.
    told: Option<Instant>,
    leaving: bool,
    shedding: bool,
    /// Streams that are slow are to be cut.
    hurrying: bool,
}

impl Times {
    fn new(http: &HttpConnectionManager) -> Self {
        let (leaving, shedding, hurrying) = (false, false, false);
        let (alarm, old) = (Alarm::default(), lifetime(http));
        Self { alarm, idle: None, old, leave: None, told: None, leaving, shedding, hurrying }
    }
}

/// One connection that is served.
struct Serving<'s> {
    times: Times,
    /// Requests under way.
    active: Rc<Cell<usize>>,
    resets: Rc<Resets>,
    worker: &'s Rc<Worker>,
    downstream: &'s Rc<Downstream>,
    control: &'s Rc<Control>,
    conn: &'s Rc<Conn>,
    http: &'s HttpConnectionManager,
}

impl Serving<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<End> {
        self.control.register(cx.waker());
        let hurrying = self.worker.stage.get() >= Stage::CutSlow;
        if std::mem::replace(&mut self.times.hurrying, hurrying) != hurrying && hurrying {
            // One that is silent looks at nothing by itself.
            self.conn.session.borrow_mut().streams.wake_all();
        }
        loop {
            match self.control.wish() {
                Wish::Serve => {}
                Wish::Drain => self.leave(),
                Wish::Cut => return Poll::Ready(End::Cut),
            }
            if self.resets.too_many() && self.conn.session.borrow().fault().is_none() {
                self.conn.session.borrow_mut().fail(Fault::CALM);
            }
            let heads = || Some(self.worker.take_heads());
            let ended = self.conn.poll_io(cx, wire, heads, |opened, heads| self.begin(opened, heads));
            if ended.is_ready() {
                return ended;
            }
            match self.poll_times(cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Asks the client to come again on another connection.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.times.leaving, true) {
            self.conn.session.borrow_mut().leave();
            self.times.leave = Some(Instant::now() + DRAIN_IDLE);
        }
    }

    /// Ready with an end, or with something that is to be written.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let times = &mut self.times;
        if self.conn.session.borrow().fault().is_some() {
            let told = *times.told.get_or_insert_with(|| Instant::now() + LINGER);
            return times.alarm.poll(cx, Some(told)).map(|()| Some(End::Fault));
        }
        let shedding = self.worker.stage.get() >= Stage::CloseIdle;
        if self.active.get() > 0 {
            times.idle = None;
        } else if times.idle.is_none() || times.shedding != shedding {
            let most = if shedding { Some(HURRY) } else { self.http.idle_timeout };
            times.idle = most.map(|most| Instant::now() + most);
        }
        times.shedding = shedding;
        let next = earliest(earliest(times.idle, times.old), times.leave);
        if times.alarm.poll(cx, next).is_pending() {
            return Poll::Pending;
        }
        if times.leave.is_some() && times.leave == next {
            times.leave = None;
            self.conn.session.borrow_mut().leave_for_good();
        } else if times.leaving && times.idle == next {
            // Asked to end once already, and silent since.
            return Poll::Ready(Some(End::Closed));
        } else {
            (times.idle, times.old) = (None, None);
            self.leave();
        }
        Poll::Ready(None)
    }

    /// Serves one request in a task of its own.
    fn begin(&self, opened: Opened, heads: Box<Heads>) {
        let request = Request {
            stream: H2Stream::new(self.conn, opened.key),
            opened,
            heads,
            worker: self.worker.clone(),
            downstream: self.downstream.clone(),
            control: self.control.clone(),
        };
        let (active, resets, conn) = (self.active.clone(), self.resets.clone(), self.conn.clone());
        active.set(active.get() + 1);
        tokio::task::spawn_local(async move {
            let early = request.serve().await;
            resets.closed(early);
            active.set(active.get() - 1);
            if active.get() == 0 || resets.too_many() {
                conn.poke();
            }
        });
    }
}

/// One request of a connection.
struct Request {
    stream: H2Stream,
    opened: Opened,
    heads: Box<Heads>,
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    control: Rc<Control>,
}

impl Request {
    /// True when the client broke it off soon after it began.
    async fn serve(self) -> bool {
        let Self { mut stream, opened, mut heads, worker, downstream, control } = self;
        if let Some(refused) = opened.refused {
            // HTTP/2 can carry it and we cannot. A client that is gone needs no answer.
            record_malformed(&worker, &downstream, refused.status());
            let _ = stream.send_head(&ResponseHead::new(refused.status()), true);
            stream.flush();
            worker.give_heads(heads);
            return false;
        }
        if !heads.request.protocol().is_empty() {
            websocket::as_upgrade(&mut heads.request);
        }
        let mut client = Client {
            stream: Stream::H2(stream),
            control,
            alarm: Alarm::default(),
            case: Case::Lower,
            method: heads.request.method,
            version: Version::Http2,
            keep_alive: true,
            expects_continue: expects_continue(&downstream, &heads.request),
            interim: false,
        };
        // Boxed: a task is moved several times before it first runs.
        let exchange = Exchange::new(&worker, &downstream, &mut client, &mut heads, opened.length);
        let early = Box::pin(exchange.run()).await;
        worker.give_heads(heads);
        early
    }
}

/// Whether a client waits for a `100 Continue` that is ours to give (RFC 9110, 10.1.1).
fn expects_continue(downstream: &Downstream, head: &RequestHead) -> bool {
    head.headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
        && downstream.http().is_some_and(|http| !http.proxy_100_continue)
}
