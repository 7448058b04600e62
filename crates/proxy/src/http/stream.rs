//! One side of an exchange: a body comes out of it and a body goes into it, whatever the protocol.
//!
//! Client and endpoint, HTTP/1.1, HTTP/2 and tunnels are all a [`Stream`], and [`Flow`] is the one pump between two of them.

mod flow;
mod splice;
mod wire;

use std::io;
use std::task::{Context, Poll};

pub(crate) use self::flow::{Extra, Flow, Side, grpc_status};
pub(crate) use self::wire::WireStream;
use super::h1::parse::Malformed;
use super::h2::{H2Stream, Reason};
use super::head::Headers;

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
