//! One attempt at one endpoint: a connection with the request's head on it, then its response.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::connect::{ConnectError, connect_over};
use super::pool::Lease;
use super::transport::{Speaks, Transport};
use super::{Busy, count, h2 as shared};
use crate::conn::wire::Wire;
use crate::decide::Downstream;
use crate::http::h1::encode::{self, Case};
use crate::http::h1::framing::Framing;
use crate::http::h1::parse::{self, Limits, Malformed, Message};
use crate::http::h2::H2Stream;
use crate::http::head::{Method, RequestHead, ResponseHead, Version};
use crate::http::stream::{Broken, Stream, WireStream};
use crate::http::websocket::{self, Switch};
use crate::policy::Permit;
use crate::snapshot::{Address, Breakers, Cluster, UpstreamProtocol};
use crate::worker::Worker;

/// Upstream's limits of a response head (Envoy: 60 KiB, 100 fields).
const LIMITS: Limits = Limits { bytes: 60 * 1024, fields: 100 };
/// The most interim responses to one request: each is work for us and for the client, and moves no deadline.
const MOST_INTERIM: u8 = 100;

/// The endpoint's side of an exchange.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    pub(crate) busy: Busy,
    lease: Option<Lease>,
    place: Option<shared::Place>,
    /// The connection carried other requests before.
    pub(crate) reused: bool,
    /// Bytes of a response have come.
    pub(crate) answered: bool,
    message: Message,
    method: Method,
    raw: bool,
    /// The request asks for another protocol: the endpoint may switch.
    switch: Option<Box<Switch>>,
    /// Interim responses so far.
    interim: u8,
}

/// A head that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// 1xx but for 101; more is to come.
    Interim,
    Final,
}

/// How a request is put on an upstream connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending<'c> {
    /// Length of the request's body, when known.
    pub(crate) length: Option<u64>,
    /// `Connection: upgrade` is passed on.
    pub(crate) upgrade: bool,
    /// A CONNECT that ends here: the endpoint gets the bytes of the tunnel and no request.
    pub(crate) raw: bool,
    /// Whom the connection is for, where the endpoint is to be told.
    pub(crate) client: Option<&'c Downstream>,
    /// The cluster's limits for requests of this priority.
    pub(crate) breakers: &'c Breakers,
}

impl Upstream {
    /// Takes or opens a connection and queues the request's head on it.
    pub(crate) async fn open(
        _permit: Permit,
        worker: &Worker,
        cluster: &Cluster,
        busy: Busy,
        head: &RequestHead,
        sending: &Sending<'_>,
    ) -> Result<Self, ConnectError> {
        let transport = match cluster.reached_plainly() {
            true => Transport::Plain,
            false => Transport::of(&worker.snapshot(), cluster, &busy.member, head.authority())?,
        };
        let speaks = match cluster.protocol {
            UpstreamProtocol::Http1 => Speaks::Http1,
            UpstreamProtocol::Http2 => Speaks::Http2,
            UpstreamProtocol::Downstream if head.version == Version::Http2 => Speaks::Http2,
            UpstreamProtocol::Downstream => Speaks::Http1,
            UpstreamProtocol::Auto => Speaks::Either,
        };
        let http2 = match speaks {
            Speaks::Either => {
                busy.member.speaks_h2.get() == Some(true)
                    && !(sending.upgrade && head.method == Method::Connect)
            }
            speaks => speaks == Speaks::Http2,
        };
        let idle = match sending.raw || http2 || busy.member.room.contended() {
            true => None,
            false => busy.member.take_idle(cluster, sending.client, &transport),
        };
        match idle {
            Some((wire, lease)) => Ok(Self::on_wire(worker, wire, lease, cluster, busy, head, sending)),
            // Boxed: most requests find a connection.
            None => {
                let over = (transport, speaks);
                Box::pin(Self::open_new(worker, cluster, busy, head, sending, over, http2)).await
            }
        }
    }

    /// The same where no idle connection was found.
    async fn open_new(
        worker: &Worker,
        cluster: &Cluster,
        busy: Busy,
        head: &RequestHead,
        sending: &Sending<'_>,
        (transport, speaks): (Transport, Speaks),
        http2: bool,
    ) -> Result<Self, ConnectError> {
        let over = (&transport, speaks);
        if sending.raw {
            return Self::open_raw(worker, cluster, busy, sending, &transport).await;
        }
        if !http2 {
            let connect = sending.upgrade && head.method == Method::Connect;
            let first = if connect { Speaks::Http1 } else { speaks };
            let made = Self::connection(worker, cluster, &busy, sending, (&transport, first)).await?;
            // Without one the endpoint prefers HTTP/2.
            if let Some((wire, lease)) = made {
                return Ok(Self::on_wire(worker, wire, lease, cluster, busy, head, sending));
            }
        }
        let end = sending.length == Some(0) && head.method != Method::Connect && !sending.upgrade;
        let request = (head, sending.upgrade, end);
        match shared::checkout(worker, cluster, &busy, sending.breakers, over, request).await {
            Ok(placed) => Ok(Self::on_stream(placed, busy, head, sending)),
            // What an endpoint does not take over HTTP/2 it may take over HTTP/1.1, if it speaks that, too.
            Err(ConnectError::NoUpgrade) if speaks == Speaks::Either => {
                let over = (&transport, Speaks::Http1);
                let made = Self::connection(worker, cluster, &busy, sending, over).await?;
                let (wire, lease) = made.ok_or(ConnectError::NoUpgrade)?;
                Ok(Self::on_wire(worker, wire, lease, cluster, busy, head, sending))
            }
            Err(error) => Err(error),
        }
    }

    /// Queues a request's head on a connection of HTTP/1.1.
    fn on_wire(
        worker: &Worker,
        wire: Wire,
        lease: Lease,
        cluster: &Cluster,
        busy: Busy,
        head: &RequestHead,
        sending: &Sending<'_>,
    ) -> Self {
        let mut stream = WireStream::new(wire);
        let case = if cluster.preserve_case { Case::Kept } else { Case::Lower };
        let framing = match sending.length {
            _ if sending.upgrade => Framing::Empty,
            Some(length) => Framing::length(length),
            None => Framing::Chunked,
        };
        let mut switch = None;
        if sending.upgrade {
            let key = websocket::missing_key(head, || worker.random());
            switch = Some(Box::new(Switch::new(head, key.as_deref())));
            let keyed = key.map(|key| websocket::with_key(head, &key));
            encode::request(stream.wire.output(), keyed.as_ref().unwrap_or(head), framing, case);
        } else {
            encode::request(stream.wire.output(), head, framing, case);
        }
        stream.begin(framing, case);
        Self {
            stream: Stream::Wire(stream),
            busy,
            reused: lease.reused(),
            lease: Some(lease),
            place: None,
            answered: false,
            message: Message::default(),
            method: head.method,
            raw: false,
            switch,
            interim: 0,
        }
    }

    /// A connection within the cluster's limits: a new one, else the next that comes free; nothing when the new one is of
    /// HTTP/2 and shared.
    async fn connection(
        worker: &Worker,
        cluster: &Cluster,
        busy: &Busy,
        sending: &Sending<'_>,
        (transport, speaks): (&Transport, Speaks),
    ) -> Result<Option<(Wire, Lease)>, ConnectError> {
        let (breakers, client) = (sending.breakers, sending.client);
        let _pending = busy.cluster.totals.pending(breakers)?;
        let (room, mut turn) = (&busy.member.room, !busy.member.room.contended());
        let counted = loop {
            if turn {
                if let Some(found) = busy.member.take_idle(cluster, client, transport) {
                    return Ok(Some(found));
                }
                if let Some(counted) = room.reserve(breakers.max_connections, true) {
                    break counted;
                }
                count(&busy.cluster.stats.upstream_cx_overflow);
            }
            room.wait().await;
            turn = true;
        };
        let (ends, over) = (client.and_then(Downstream::ends), (transport, speaks));
        let made = connect_over(&worker.buffers, cluster, busy.at(), counted, ends, over).await?;
        if speaks == Speaks::Either {
            let h2 = made.protocol.as_deref() == Some(b"h2");
            busy.member.speaks_h2.set(Some(h2));
            if h2 {
                shared::share(cluster, &busy.member, made, transport);
                return Ok(None);
            }
        }
        Ok(Some((made.wire, Lease::new(made.counted, cluster, client, transport))))
    }

    async fn open_raw(
        worker: &Worker,
        cluster: &Cluster,
        busy: Busy,
        sending: &Sending<'_>,
        transport: &Transport,
    ) -> Result<Self, ConnectError> {
        // A tunnel keeps its connection for as long as it likes: nobody is made to wait for it.
        let room = busy.member.room.reserve(sending.breakers.max_connections, false);
        let client = sending.client.and_then(Downstream::ends);
        let counted = room.ok_or(ConnectError::Overflow)?;
        let over = (transport, Speaks::Other);
        let made = connect_over(&worker.buffers, cluster, busy.at(), counted, client, over).await?;
        let stream = WireStream::new(made.wire);
        Ok(Self {
            stream: Stream::Wire(stream),
            busy,
            lease: Some(Lease::new(made.counted, cluster, sending.client, transport)),
            place: None,
            reused: false,
            answered: true,
            message: Message::default(),
            method: Method::Connect,
            raw: true,
            switch: None,
            interim: 0,
        })
    }

    /// The request was put on a stream of HTTP/2.
    fn on_stream(
        (stream, place, reused): (H2Stream, shared::Place, bool),
        busy: Busy,
        head: &RequestHead,
        sending: &Sending<'_>,
    ) -> Self {
        // A plain CONNECT is the same in both versions.
        let switching = sending.upgrade && head.method != Method::Connect;
        Self {
            stream: Stream::H2(stream),
            busy,
            reused,
            lease: None,
            place: Some(place),
            answered: false,
            message: Message::default(),
            method: head.method,
            raw: false,
            switch: switching.then(|| Box::new(Switch::new(head, None))),
            interim: 0,
        }
    }

    /// Ready with the next head.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<Heard, Broken>> {
        if self.raw {
            head.clear();
            head.status = 200;
            return Poll::Ready(Ok(Heard::Final));
        }
        match &mut self.stream {
            Stream::Wire(stream) => loop {
                if !stream.wire.data().is_empty()
                    && let Some(message) = parse::response(stream.wire.data(), head, self.method, LIMITS)?
                {
                    stream.wire.consume(message.len);
                    match head.status {
                        // Who is not asked to leave HTTP would answer others with what is no HTTP.
                        101 => match &self.switch {
                            Some(switch) => switch.http1(head)?,
                            None => return Poll::Ready(Err(Malformed::Switch.into())),
                        },
                        100..200 => {
                            return Poll::Ready(interim(&mut self.interim));
                        }
                        _ => {}
                    }
                    self.message = message;
                    stream.expect(message.framing);
                    return Poll::Ready(Ok(Heard::Final));
                }
                let had = stream.wire.data().len();
                let len = ready!(stream.wire.poll_fill(cx))?;
                if len == 0 {
                    let full = !stream.wire.eof();
                    return Poll::Ready(Err(match full {
                        true => Malformed::TooLarge.into(),
                        false if had > 0 => Malformed::Syntax.into(),
                        false => Broken::Truncated,
                    }));
                }
                self.answered = true;
            },
            Stream::H2(stream) => {
                let last = ready!(stream.poll_head(cx, head))?;
                match head.status {
                    // HTTP/2 has no such switch (RFC 9113, 8.6).
                    101 => Poll::Ready(Err(Malformed::Switch.into())),
                    _ if !last => Poll::Ready(interim(&mut self.interim)),
                    status => {
                        self.answered = true;
                        if let (Some(switch), 200..300) = (&self.switch, status) {
                            switch.http2(head)?;
                        }
                        Poll::Ready(Ok(Heard::Final))
                    }
                }
            }
        }
    }

    /// Length of the response's body, when known.
    pub(crate) fn response_length(&self, head: &ResponseHead) -> Option<u64> {
        match &self.stream {
            Stream::Wire(stream) => stream.remaining(),
            Stream::H2(stream) if stream.recv_done() => Some(0),
            Stream::H2(_) if self.method == Method::Head => None,
            Stream::H2(_) => head.headers.get("content-length").and_then(parse::decimal),
        }
    }

    /// Our end of the connection. The system is asked once.
    pub(crate) fn local_addr(&mut self) -> Option<Address> {
        match (&self.stream, &mut self.lease) {
            (Stream::Wire(stream), Some(lease)) => {
                lease.local = lease.local.or_else(|| stream.wire.local_addr());
                lease.local
            }
            (Stream::Wire(stream), None) => stream.wire.local_addr(),
            (Stream::H2(_), _) => self.place.as_ref()?.local_addr(),
        }
    }

    /// The endpoint agreed to leave HTTP.
    pub(crate) fn tunnel(&mut self) {
        if let Stream::Wire(stream) = &mut self.stream {
            stream.tunnel();
        }
    }

    /// Ends the attempt; a connection that stands cleanly between two messages is kept for the next.
    pub(crate) fn release(self, cluster: &Cluster) {
        let Self { stream, busy, lease, message, .. } = self;
        match (stream, lease) {
            (Stream::Wire(stream), Some(lease)) => {
                if message.keep_alive && stream.complete() && stream.wire.data().is_empty() {
                    if let Some(seconds) = message.stays_open {
                        busy.member.habit.said(Duration::from_secs(seconds.get().into()));
                    }
                    busy.member.give_back(cluster, stream.wire, lease);
                }
            }
            // What is not over is broken off.
            (Stream::H2(_), _) | (Stream::Wire(_), None) => {}
        }
    }
}

/// One more interim response.
fn interim(so_far: &mut u8) -> Result<Heard, Broken> {
    *so_far += 1;
    if *so_far > MOST_INTERIM { Err(Malformed::TooManyInterim.into()) } else { Ok(Heard::Interim) }
}
