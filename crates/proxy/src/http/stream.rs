//! One side of an exchange: a body comes out of it and a body goes into it, whatever the protocol.
//!
//! Client and endpoint, HTTP/1.1, HTTP/2 and tunnels are all a [`Stream`], and [`Flow`] is the one pump between two of them.

mod splice;

use std::io;
use std::task::{Context, Poll, ready};

use super::grpc_web;
use super::h1::encode::{self, Case};
use super::h1::framing::{Decoder, Found, Framing};
use super::h1::parse::Malformed;
use super::h2::{H2Stream, Reason};
use super::head::Headers;
use crate::conn::wire::Wire;
use crate::telemetry::Flags;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the connection ended within a message")]
    Truncated,
    /// By the peer.
    #[error("stream reset: {0}")]
    Reset(Reason),
    /// By us, because the peer broke a rule of HTTP/2.
    #[error("a rule of HTTP/2 was broken: {0}")]
    Protocol(Reason),
    /// Nothing was sent: the peer's SETTINGS have no ENABLE_CONNECT_PROTOCOL (RFC 8441, 3).
    #[error("extended CONNECT was not offered")]
    NotOffered,
}

/// What a side has for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// [`Stream::chunk`] is not empty.
    Data,
    /// The body is complete; trailers may be taken.
    End,
}

/// One side of an exchange.
#[derive(Debug)]
pub(crate) enum Stream {
    /// HTTP/1.1, or a tunnel.
    Wire(WireStream),
    /// A stream of an HTTP/2 connection.
    H2(H2Stream),
}

impl Stream {
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Got, Broken>> {
        match self {
            Self::Wire(stream) => stream.poll_recv(cx),
            Self::H2(stream) => stream.poll_recv(cx),
        }
    }

    /// The bytes of the body at hand; valid after [`Got::Data`].
    pub(crate) fn chunk(&self) -> &[u8] {
        match self {
            Self::Wire(stream) => stream.chunk(),
            Self::H2(stream) => stream.chunk(),
        }
    }

    /// `len` bytes of the chunk were used.
    pub(crate) fn consume(&mut self, len: usize) {
        match self {
            Self::Wire(stream) => stream.consume(len),
            Self::H2(stream) => stream.consume(len),
        }
    }

    /// The trailers behind a complete body.
    pub(crate) fn take_trailers(&mut self) -> Option<Headers> {
        match self {
            Self::Wire(stream) => stream.take_trailers(),
            Self::H2(stream) => stream.take_trailers(),
        }
    }

    /// True when the incoming body is known to be complete.
    pub(crate) fn recv_done(&self) -> bool {
        match self {
            Self::Wire(stream) => stream.recv.is_done(),
            Self::H2(stream) => stream.recv_done(),
        }
    }

    /// Sends of `data` as much as fits now.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Broken>> {
        match self {
            Self::Wire(stream) => stream.poll_send(cx, data),
            Self::H2(stream) => stream.poll_send(cx, data),
        }
    }

    /// Ends the outgoing body.
    pub(crate) fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        match self {
            Self::Wire(stream) => {
                stream.finish(trailers);
                Ok(())
            }
            Self::H2(stream) => stream.finish(trailers),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Wire(stream) => stream.poll_flush(cx),
            Self::H2(stream) => {
                stream.flush();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ready when the peer of a tunnel is gone for both directions. HTTP/1.1 says no more than that one has ended.
    pub(crate) fn poll_left(&mut self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Wire(_) => Poll::Pending,
            Self::H2(stream) => stream.poll_left(cx),
        }
    }
}

/// How the outgoing body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoder {
    #[default]
    Done,
    /// So many bytes are owed.
    Length(u64),
    Chunked(Case),
    /// Closing the connection, or its sending half, ends it.
    UntilClose,
}

/// How much may wait to be written before more is taken from the other side.
const WATERMARK: usize = 64 * 1024;

/// HTTP/1.1 on one connection, message after message.
#[derive(Debug)]
pub(crate) struct WireStream {
    pub(crate) wire: Wire,
    recv: Decoder,
    ready: u32,
    send: Encoder,
    /// The sending half is shut when the body ends.
    close_behind: bool,
}

impl WireStream {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, recv: Decoder::Done, ready: 0, send: Encoder::Done, close_behind: false }
    }

    /// What comes next is a body of this framing.
    pub(crate) fn expect(&mut self, framing: Framing) {
        self.recv = Decoder::new(framing);
        self.ready = 0;
        let large = match framing {
            Framing::Length(length) => length > crate::conn::buffers::SMALL as u64,
            Framing::Chunked | Framing::UntilClose | Framing::Empty => false,
        };
        self.wire.set_bulk(large);
    }

    /// What is sent next is a body of this framing, behind the head that was encoded into the output.
    pub(crate) fn begin(&mut self, framing: Framing, case: Case) {
        self.send = match framing {
            Framing::Empty => Encoder::Done,
            Framing::Length(length) => Encoder::Length(length),
            Framing::Chunked => Encoder::Chunked(case),
            Framing::UntilClose => Encoder::UntilClose,
        };
        self.close_behind = framing == Framing::UntilClose;
    }

    /// From now on bytes are passed as they come, until either side ends.
    pub(crate) fn tunnel(&mut self) {
        self.expect(Framing::UntilClose);
        self.begin(Framing::UntilClose, Case::Kept);
        self.wire.set_bulk(true);
    }

    /// Bytes of the incoming body that are still to come, when known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.recv.remaining()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Got, Broken>> {
        loop {
            match self.recv.look(self.wire.data())? {
                Found::Data { skip, len } => {
                    self.wire.consume(skip);
                    self.ready = len as u32;
                    return Poll::Ready(Ok(Got::Data));
                }
                Found::End { skip } => {
                    self.wire.consume(skip);
                    return Poll::Ready(Ok(Got::End));
                }
                Found::More { skip } => self.wire.consume(skip),
            }
            let had = self.wire.data().len();
            let len = ready!(self.wire.poll_fill(cx))?;
            if len > 0 {
                // A full read says that there is more: take larger pieces.
                if len == crate::conn::buffers::SMALL {
                    self.wire.set_bulk(true);
                }
                continue;
            }
            return Poll::Ready(if self.wire.eof() && had == 0 && self.recv.may_end() {
                self.recv = Decoder::Done;
                Ok(Got::End)
            } else {
                Err(Broken::Truncated)
            });
        }
    }

    fn chunk(&self) -> &[u8] {
        &self.wire.data()[..self.ready as usize]
    }

    fn consume(&mut self, len: usize) {
        self.wire.consume(len);
        self.recv.took(len);
        self.ready -= len as u32;
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        match &mut self.recv {
            Decoder::Chunked(chunks) => {
                let trailers = std::mem::take(&mut chunks.trailers);
                self.recv = Decoder::Done;
                (!trailers.is_empty()).then_some(trailers)
            }
            _ => None,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Broken>> {
        match &mut self.send {
            // More than was announced: what is too much is dropped, the peer must not read it as another message.
            Encoder::Done => Poll::Ready(Ok(data.len())),
            Encoder::Length(owed) => {
                let part = data.len().min(usize::try_from(*owed).unwrap_or(usize::MAX));
                let len = ready!(self.wire.poll_write(cx, &data[..part]))?;
                *owed -= len as u64;
                if *owed == 0 {
                    self.send = Encoder::Done;
                }
                Poll::Ready(Ok(len))
            }
            Encoder::UntilClose => Poll::Ready(Ok(ready!(self.wire.poll_write(cx, data))?)),
            Encoder::Chunked(_) => {
                if self.wire.waiting() >= WATERMARK {
                    ready!(self.wire.poll_flush(cx))?;
                }
                encode::chunk(self.wire.output(), data);
                Poll::Ready(Ok(data.len()))
            }
        }
    }

    fn finish(&mut self, trailers: Option<&Headers>) {
        if let Encoder::Chunked(case) = self.send {
            encode::last_chunk(self.wire.output(), trailers, case);
        }
        // A length still owed leaves the connection unusable: `complete` says so.
        if !matches!(self.send, Encoder::Length(_)) {
            self.send = Encoder::Done;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.wire.poll_flush(cx))?;
        if self.close_behind && self.send == Encoder::Done {
            ready!(self.wire.poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// True when both bodies are complete and written: the connection stands between two messages.
    pub(crate) fn complete(&self) -> bool {
        self.recv.is_done() && self.send == Encoder::Done && self.wire.flushed() && !self.close_behind
    }
}

/// One direction of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Bytes of the body passed so far.
    pub(crate) bytes: u64,
    /// Something moved since this was last cleared.
    pub(crate) moved: bool,
    /// The body and what ends it were passed and flushed.
    pub(crate) done: bool,
    /// `grpc-status` of the trailers.
    pub(crate) grpc_status: Option<u16>,
    /// The receiver is waited for: there are bytes that it does not take.
    pub(crate) stuck: bool,
    /// What few responses need.
    pub(crate) extra: Option<Box<Extra>>,
    ended: bool,
    way: splice::Way,
}

/// What else becomes of a response.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// The trailers that came, for an access log.
    pub(crate) trailers: Option<Headers>,
    /// Writes what comes for a client of gRPC-Web.
    pub(crate) web: Option<grpc_web::Encoder>,
}

impl Flow {
    fn web(&mut self) -> Option<&mut grpc_web::Encoder> {
        self.extra.as_mut()?.web.as_mut()
    }
}

/// The side that broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Side {
    #[error("sender: {0}")]
    From(Broken),
    #[error("receiver: {0}")]
    To(Broken),
}

impl Side {
    /// Who broke a response off.
    pub(crate) fn terminated(&self) -> Flags {
        match self {
            Self::From(_) => Flags::UPSTREAM_TERMINATED,
            Self::To(_) => Flags::DOWNSTREAM_TERMINATED,
        }
    }
}

impl Flow {
    /// Passes on what there is; ready when the whole body was passed.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Side>> {
        while !self.ended {
            if matches!(self.way, splice::Way::Splice(_)) {
                ready!(self.poll_splice(cx, from, to))?;
            }
            if let Some(web) = self.web() {
                let (sent, ended) = (web.out().poll_send(cx, to), web.ended);
                self.stuck = sent.is_pending();
                ready!(sent).map_err(Side::To)?;
                if ended {
                    to.finish(None).map_err(Side::To)?;
                    self.ended = true;
                    break;
                }
            }
            match from.poll_recv(cx) {
                Poll::Ready(Ok(Got::Data)) => {
                    if let Some(web) = self.web() {
                        let len = web.take(from.chunk());
                        from.consume(len);
                        self.bytes += len as u64;
                        self.moved = true;
                        continue;
                    }
                    let sent = to.poll_send(cx, from.chunk());
                    self.stuck = sent.is_pending();
                    let len = ready!(sent).map_err(Side::To)?;
                    from.consume(len);
                    self.bytes += len as u64;
                    self.moved = true;
                    self.copied(len);
                }
                Poll::Ready(Ok(Got::End)) => {
                    let trailers = from.take_trailers();
                    self.grpc_status = trailers.as_ref().and_then(grpc_status);
                    match self.web() {
                        Some(web) => web.end(trailers.as_ref()),
                        None => {
                            to.finish(trailers.as_ref()).map_err(Side::To)?;
                            self.ended = true;
                        }
                    }
                    if let Some(extra) = &mut self.extra {
                        extra.trailers = trailers;
                    }
                    self.moved = true;
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(Side::From(broken))),
                Poll::Pending => {
                    // Nothing more for now: what waits goes out.
                    let flushed = to.poll_flush(cx);
                    self.stuck = flushed.is_pending();
                    if let Poll::Ready(Err(broken)) = flushed {
                        return Poll::Ready(Err(Side::To(broken)));
                    }
                    return Poll::Pending;
                }
            }
        }
        let flushed = to.poll_flush(cx);
        self.stuck = flushed.is_pending();
        ready!(flushed).map_err(Side::To)?;
        self.done = true;
        Poll::Ready(Ok(()))
    }
}

/// `grpc-status` of a response's head or trailers.
pub(crate) fn grpc_status(headers: &Headers) -> Option<u16> {
    let status = super::h1::parse::decimal(headers.get("grpc-status")?)?;
    u16::try_from(status).ok()
}
