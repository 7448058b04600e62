//! The downstream side of an exchange.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::h1::encode::{self, Case};
use super::h1::framing::Framing;
use super::h2::Reason;
use super::head::{Method, ResponseHead, Version};
use super::stream::{Broken, Stream};
use crate::conn::alarm::Alarm;
use crate::conn::registry::{Control, Wish};

/// What says something of a connection or of a body, which an interim response does not have.
const INTERIM_LEFT_OUT: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "trailer",
    "upgrade",
];

/// Who sent the request and waits for its response.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) control: Rc<Control>,
    pub(crate) alarm: Alarm,
    /// How names of fields are written on HTTP/1.1.
    pub(crate) case: Case,
    /// What the request's head said.
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// An interim response waits to be written.
    pub(crate) interim: bool,
}

impl Client {
    /// Ready when the client has gone away, so that nobody waits for the response any more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Stream::Wire(stream) => {
                if stream.wire.eof() {
                    return Poll::Ready(());
                }
                // Bytes of the next request may wait; until they are read the end cannot be seen.
                if !stream.wire.data().is_empty() {
                    return Poll::Pending;
                }
                match stream.wire.poll_fill(cx) {
                    Poll::Ready(Ok(len)) if len > 0 => Poll::Pending,
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            }
            Stream::H2(stream) => stream.poll_reset(cx),
        }
    }

    /// Answers `Expect: 100-continue` before the body is read, as Envoy does.
    pub(crate) fn send_continue(&mut self) {
        if !std::mem::take(&mut self.expects_continue) {
            return;
        }
        match &mut self.stream {
            Stream::Wire(stream) => {
                stream.wire.output().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.interim = true;
            }
            Stream::H2(_) => self.send_interim(&mut ResponseHead::new(100)),
        }
    }

    /// Queues an interim response (RFC 9110, 15.2). HTTP/1.0 has none.
    pub(crate) fn send_interim(&mut self, head: &mut ResponseHead) {
        for name in INTERIM_LEFT_OUT {
            head.headers.remove(name);
        }
        match &mut self.stream {
            Stream::Wire(_) if self.version == Version::Http10 => {}
            Stream::Wire(stream) => {
                encode::response(stream.wire.output(), head, Framing::Empty, false, self.case);
                self.interim = true;
            }
            Stream::H2(stream) => {
                // Whoever does not take it can do without.
                let _ = stream.send_head(head, false);
                self.interim = true;
            }
        }
    }

    /// Writes interim responses that wait.
    pub(crate) fn poll_interim(&mut self, cx: &mut Context<'_>) {
        if self.interim && self.stream.poll_flush(cx).is_ready() {
            self.interim = false;
        }
    }

    /// Queues the response's head. `length` is that of the body, when known.
    pub(crate) fn send_head(&mut self, head: &mut ResponseHead, length: Option<u64>) -> Result<(), Broken> {
        match &mut self.stream {
            Stream::Wire(stream) => {
                if self.control.wish() >= Wish::Drain {
                    self.keep_alive = false;
                }
                let bodiless = self.method == Method::Head || matches!(head.status, 204 | 304 | 100..200);
                let framing = match length {
                    _ if bodiless => Framing::Empty,
                    Some(length) => Framing::length(length),
                    None if self.version == Version::Http10 => Framing::UntilClose,
                    None => Framing::Chunked,
                };
                if framing == Framing::Chunked || framing == Framing::UntilClose {
                    head.headers.remove("content-length");
                }
                if framing == Framing::UntilClose {
                    self.keep_alive = false;
                }
                if !self.keep_alive {
                    head.headers.set("connection", b"close");
                } else if self.version == Version::Http10 {
                    head.headers.set("connection", b"keep-alive");
                }
                if self.method == Method::Head
                    && !matches!(head.status, 204 | 304 | 100..200)
                    && !head.headers.contains("content-length")
                {
                    // The body that a GET would get has no known length, says Envoy too.
                    head.headers.set("transfer-encoding", b"chunked");
                }
                encode::response(stream.wire.output(), head, framing, !bodiless, self.case);
                stream.begin(framing, self.case);
                Ok(())
            }
            Stream::H2(stream) => stream.send_head(head, length == Some(0)),
        }
    }

    /// Queues the head of a `101 Switching Protocols` or of a successful CONNECT and turns the stream into a tunnel.
    pub(crate) fn send_tunnel_head(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        self.keep_alive = false;
        match &mut self.stream {
            Stream::Wire(stream) => {
                encode::response(stream.wire.output(), head, Framing::UntilClose, false, self.case);
                stream.tunnel();
                Ok(())
            }
            Stream::H2(stream) => {
                // Always 200: what is a switch of protocols in HTTP/1.1 is a success of CONNECT here.
                let mut head = head.clone();
                head.status = 200;
                head.headers.remove("content-length");
                stream.send_head(&head, false)
            }
        }
    }

    /// Breaks the response off so that the client can tell.
    pub(crate) fn abort(&mut self) {
        self.keep_alive = false;
        if let Stream::H2(stream) = &mut self.stream {
            stream.reset(Reason::INTERNAL_ERROR);
        }
    }
}
