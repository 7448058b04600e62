//! HTTP/1.1 on one connection, and what becomes of it when it leaves HTTP.

use std::task::{Context, Poll, ready};

use super::{Broken, Got};
use crate::conn::wire::Wire;
use crate::http::h1::encode::{self, Case};
use crate::http::h1::framing::{Decoder, Found, Framing};
use crate::http::head::Headers;

/// How the outgoing body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoder {
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
    pub(super) recv: Decoder,
    pub(super) ready: u32,
    pub(super) send: Encoder,
    /// The sending half is shut when the body ends.
    pub(super) close_behind: bool,
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

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Got, Broken>> {
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

    pub(super) fn chunk(&self) -> &[u8] {
        &self.wire.data()[..self.ready as usize]
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.wire.consume(len);
        self.recv.took(len);
        self.ready -= len as u32;
    }

    pub(super) fn take_trailers(&mut self) -> Option<Headers> {
        match &mut self.recv {
            Decoder::Chunked(chunks) => {
                let trailers = std::mem::take(&mut chunks.trailers);
                self.recv = Decoder::Done;
                (!trailers.is_empty()).then_some(trailers)
            }
            _ => None,
        }
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Broken>> {
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

    pub(super) fn finish(&mut self, trailers: Option<&Headers>) {
        if let Encoder::Chunked(case) = self.send {
            encode::last_chunk(self.wire.output(), trailers, case);
        }
        // A length still owed leaves the connection unusable: `complete` says so.
        if !matches!(self.send, Encoder::Length(_)) {
            self.send = Encoder::Done;
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
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
