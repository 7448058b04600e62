//! The request's body on its way to one endpoint after the other.

use std::task::{Context, Poll, ready};

use super::grpc_web;
use super::h1::parse::Malformed;
use super::head::Headers;
use super::stream::{Broken, Got, Side, Stream};

/// A request body. What a retry or a mirror may need again is kept, up to a limit.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    kept: Vec<u8>,
    trailers: Option<Box<Headers>>,
    /// Bytes that may be kept; 0 when nobody will need them again.
    limit: u32,
    /// How much of what is kept the current attempt has sent.
    sent: u32,
    /// Bytes taken from the client.
    pub(crate) bytes: u64,
    /// Something was passed on that is not kept.
    lost: bool,
    /// The client is waited for.
    starved: bool,
    ended: bool,
    finished: bool,
    done: bool,
    /// Reads what a client of gRPC-Web sends as text.
    pub(crate) web: Option<Box<grpc_web::Decoder>>,
}

impl RequestBody {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: u32::try_from(limit).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// The current attempt has all of it.
    pub(crate) fn done(&self) -> bool {
        self.done
    }

    /// The client has sent all of it.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Everything that the client has sent so far is passed on, and it was not all.
    pub(crate) fn starved(&self) -> bool {
        self.starved
    }

    /// Another attempt can have the same body.
    pub(crate) fn can_restart(&self) -> bool {
        !self.lost
    }

    /// Begins anew for another attempt.
    pub(crate) fn restart(&mut self) {
        debug_assert!(self.can_restart());
        self.sent = 0;
        self.finished = false;
        self.done = false;
    }

    /// The whole body, when it is complete and kept.
    pub(crate) fn copy(&self) -> Option<&[u8]> {
        (self.ended && !self.lost).then_some(&self.kept)
    }

    /// Takes a piece of base64: kept where there is room, else it waits to be sent.
    fn decode(&mut self, chunk: &[u8]) -> Result<usize, Broken> {
        let Some(web) = &mut self.web else { return Ok(0) };
        web.take(chunk).map_err(|_| Malformed::Base64)?;
        let out = web.out();
        if !self.lost && self.kept.len() + out.waiting().len() <= self.limit as usize {
            self.kept.extend_from_slice(out.waiting());
            out.clear();
        } else {
            self.lost = true;
        }
        Ok(chunk.len())
    }

    /// Passes on what there is; ready when the attempt has the whole body.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Side>> {
        self.starved = false;
        loop {
            if (self.sent as usize) < self.kept.len() {
                let len = ready!(to.poll_send(cx, &self.kept[self.sent as usize..])).map_err(Side::To)?;
                self.sent += len as u32;
                continue;
            }
            if let Some(web) = &mut self.web {
                ready!(web.out().poll_send(cx, to)).map_err(Side::To)?;
            }
            if self.ended {
                if !self.finished {
                    to.finish(self.trailers.as_deref()).map_err(Side::To)?;
                    self.finished = true;
                }
                ready!(to.poll_flush(cx)).map_err(Side::To)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            match from.poll_recv(cx) {
                Poll::Ready(Ok(Got::Data)) => {
                    let chunk = from.chunk();
                    if self.web.is_some() {
                        let len = self.decode(chunk).map_err(Side::From)?;
                        from.consume(len);
                        self.bytes += len as u64;
                        continue;
                    }
                    let len = if !self.lost && self.kept.len() + chunk.len() <= self.limit as usize {
                        self.kept.extend_from_slice(chunk);
                        chunk.len()
                    } else {
                        let sent = to.poll_send(cx, chunk);
                        self.lost = true;
                        ready!(sent).map_err(Side::To)?
                    };
                    from.consume(len);
                    self.bytes += len as u64;
                }
                Poll::Ready(Ok(Got::End)) => {
                    if self.web.as_ref().is_some_and(|web| web.end().is_err()) {
                        return Poll::Ready(Err(Side::From(Malformed::Base64.into())));
                    }
                    self.trailers = from.take_trailers().map(Box::new);
                    self.ended = true;
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(Side::From(broken))),
                Poll::Pending => {
                    let flushed = to.poll_flush(cx);
                    self.starved = flushed.is_ready();
                    if let Poll::Ready(Err(broken)) = flushed {
                        return Poll::Ready(Err(Side::To(broken)));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
