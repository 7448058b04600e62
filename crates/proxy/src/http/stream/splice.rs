//! A flow between two plain connections, without copying.

use std::task::{Context, Poll, ready};

use super::wire::Encoder;
use super::{Flow, Side, Stream, WireStream};
use crate::conn::splice::{self, Lent};
use crate::http::h1::framing::Decoder;

/// Bytes that a flow copies before a pipe is worth its while.
const SOME: u64 = 64 * 1024;
/// A piece that says that more is on its way.
const LARGE: usize = 8 * 1024;
/// A piece that says that no more is on its way: copying is cheaper.
const SMALL: usize = 4 * 1024;

/// How a flow passes bytes on.
#[derive(Debug, Default)]
pub(super) enum Way {
    #[default]
    Copy,
    /// Through a pipe, lent while there is something in it.
    Splice(Option<Lent>),
    /// Something is in the way of splicing.
    CopyOnly,
}

impl WireStream {
    /// Bytes that may be taken past the buffer; `None` where a body's bytes have to be looked at.
    fn spliceable(&self) -> Option<u64> {
        match self.recv {
            Decoder::UntilClose => Some(u64::MAX),
            Decoder::Length(left) => Some(left),
            Decoder::Done | Decoder::Chunked(_) => None,
        }
    }

    /// `len` bytes of the outgoing body went past the buffer.
    fn sent_past(&mut self, len: u64) {
        if let Encoder::Length(owed) = &mut self.send {
            *owed = owed.saturating_sub(len);
            if *owed == 0 {
                self.send = Encoder::Done;
            }
        }
    }

    /// How many bytes may be sent past the buffer.
    fn takes(&self) -> u64 {
        match self.send {
            Encoder::UntilClose => u64::MAX,
            Encoder::Length(owed) => owed,
            Encoder::Done | Encoder::Chunked(_) => 0,
        }
    }
}

impl Flow {
    /// A piece was copied: a large one after others begins to splice.
    pub(super) fn copied(&mut self, len: usize) {
        if len >= LARGE && self.bytes >= SOME && matches!(self.way, Way::Copy) {
            self.way = Way::Splice(None);
        }
    }

    /// Passes on what there is through a pipe. Ready when copying has to go on: at the end, or where a pipe does not help.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Side>> {
        let (Stream::Wire(from), Stream::Wire(to)) = (from, to) else { return Poll::Ready(Ok(())) };
        while let Way::Splice(lent) = &mut self.way {
            if let Some(pipe) = lent.as_mut().filter(|pipe| pipe.held() > 0) {
                let drained = to.wire.poll_drain(cx, pipe);
                self.stuck = drained.is_pending();
                let len = match ready!(drained) {
                    Ok(len) => len,
                    Err(error) if splice::is_refused(&error) => {
                        let held = pipe.held();
                        pipe.empty_into(to.wire.output()).map_err(|error| Side::To(error.into()))?;
                        self.way = Way::CopyOnly;
                        held
                    }
                    Err(error) => return Poll::Ready(Err(Side::To(error.into()))),
                };
                to.sent_past(len as u64);
                self.bytes += len as u64;
                self.moved = true;
                if let Way::Splice(Some(pipe)) = &self.way
                    && pipe.held() == 0
                    && pipe.filled() < SMALL
                {
                    self.way = Way::Copy;
                }
                continue;
            }
            let most = from.spliceable().unwrap_or(0).min(to.takes());
            if most == 0 || from.wire.eof() || !from.wire.data().is_empty() {
                self.way = Way::Copy;
                break;
            }
            let flushed = to.wire.poll_flush(cx);
            self.stuck = flushed.is_pending();
            ready!(flushed).map_err(|error| Side::To(error.into()))?;
            if !from.wire.is_plain() || !to.wire.is_plain() {
                self.way = Way::CopyOnly;
                break;
            }
            let Some(pipe) = lent.take().or_else(|| from.wire.lend_pipe()) else {
                self.way = Way::Copy;
                break;
            };
            let pipe = lent.insert(pipe);
            match from.wire.poll_past(cx, pipe, usize::try_from(most).unwrap_or(usize::MAX)) {
                Poll::Ready(Ok(0)) => self.way = Way::Copy,
                Poll::Ready(Ok(len)) => from.recv.took(len),
                Poll::Ready(Err(error)) if splice::is_refused(&error) => self.way = Way::CopyOnly,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::From(error.into()))),
                Poll::Pending => {
                    // Who waits holds no pipe.
                    *lent = None;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "splice_test.rs"]
mod splice_test;
