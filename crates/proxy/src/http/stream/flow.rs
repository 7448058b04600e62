//! The pump between two streams.

use std::task::{Context, Poll, ready};

use super::{Broken, Got, Stream, splice};
use crate::http::grpc_web;
use crate::http::head::Headers;
use crate::telemetry::Flags;

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
    pub(super) ended: bool,
    pub(super) way: splice::Way,
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
    let status = crate::http::h1::parse::decimal(headers.get("grpc-status")?)?;
    u16::try_from(status).ok()
}
