//! A wire over TLS: records are opened where they were read, and a head and its body leave in one record.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffers::{Buffers, LARGE, SMALL};
use super::wire::{Io, Wire};
use crate::tls::record::{self, BadRecord};
use crate::tls::session::{Broken, Opened, Session};

/// The largest read buffer: the longest head, and behind it one record.
const LARGEST: usize = LARGE + 20 * 1024;

/// The socket of a TLS connection, its keys, and what was sealed and not yet sent.
#[derive(Debug)]
pub(crate) struct Secure {
    tcp: TcpStream,
    session: Session,
    /// Where in the wire's read buffer sealed bytes stand; behind the text.
    raw_start: u32,
    raw_end: u32,
    sealed: Box<[u8]>,
    sealed_start: u32,
    sealed_end: u32,
    /// Session tickets (RFC 8446, 4.6.1), sealed: they leave with the first text, as BoringSSL's do, and cost no packet.
    tickets: Box<[u8]>,
    /// The last record, an alert, was sealed.
    ended: bool,
}

impl Secure {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    fn has_more(&self) -> bool {
        self.raw_start < self.raw_end
    }

    /// All text is consumed: where the sealed bytes begin, if there are any.
    pub(super) fn emptied(&mut self) -> Option<u32> {
        if self.has_more() {
            return Some(self.raw_start);
        }
        (self.raw_start, self.raw_end) = (0, 0);
        None
    }

    pub(super) fn has_sealed(&self) -> bool {
        self.sealed_start < self.sealed_end
    }

    /// Sends what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<io::Result<()>> {
        while self.has_sealed() {
            let waiting = &self.sealed[self.sealed_start as usize..self.sealed_end as usize];
            let len = ready!(Pin::new(&mut self.tcp).poll_write(cx, waiting))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed_start += len as u32;
        }
        if !self.sealed.is_empty() {
            (self.sealed_start, self.sealed_end) = (0, 0);
            buffers.give(std::mem::take(&mut self.sealed));
        }
        Poll::Ready(Ok(()))
    }

    /// Puts what goes first into an empty buffer. Returns its length.
    fn begin(&mut self) -> usize {
        let tickets = std::mem::take(&mut self.tickets);
        self.sealed[..tickets.len()].copy_from_slice(&tickets);
        tickets.len()
    }

    /// Seals as much of both as a buffer takes, where none waits. Returns the bytes taken.
    fn seal(&mut self, mut head: &[u8], mut body: &[u8], buffers: &Buffers) -> Result<usize, Broken> {
        let overhead = self.session.overhead();
        let total = head.len() + body.len();
        self.sealed = buffers.take(self.tickets.len() + total + overhead > SMALL);
        let (mut at, mut taken) = (self.begin(), 0);
        while taken < total && at + overhead < self.sealed.len() {
            let (len, of_both) = self.session.seal(head, body, &mut self.sealed[at..])?;
            let of_head = of_both.min(head.len());
            head = &head[of_head..];
            body = &body[of_both - of_head..];
            at += len;
            taken += of_both;
        }
        self.sealed_end = at as u32;
        Ok(taken)
    }

    /// Says that no more comes, once; then the socket, whose sending half may be shut.
    pub(super) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
    ) -> Poll<io::Result<&mut TcpStream>> {
        ready!(self.poll_send(cx, buffers))?;
        if !std::mem::replace(&mut self.ended, true) {
            self.sealed = buffers.take(false);
            let at = self.begin();
            self.sealed_end = (at + self.session.seal_end(&mut self.sealed[at..]).map_err(broken)?) as u32;
            ready!(self.poll_send(cx, buffers))?;
        }
        Poll::Ready(Ok(&mut self.tcp))
    }

    /// Says why nothing more is read or written, as far as the socket takes it at once: nobody waits for who broke the
    /// session.
    fn fail(&mut self, broken: &Broken, buffers: &Buffers) {
        let Some(alert) = broken.alert().filter(|_| !self.ended) else { return };
        self.ended = true;
        if self.poll_send(&mut Context::from_waker(Waker::noop()), buffers).is_ready() {
            self.sealed = buffers.take(false);
            let at = self.begin();
            if let Ok(len) = self.session.seal_alert(alert, &mut self.sealed[at..]) {
                self.sealed_end = (at + len) as u32;
                let _ = self.poll_send(&mut Context::from_waker(Waker::noop()), buffers);
            }
        }
    }
}

fn broken(broken: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}

impl Wire {
    /// The same connection with an established session; what was read and not consumed is its first records, and what the
    /// handshake has not sent are its tickets.
    pub(crate) fn secured(mut self, session: Session) -> Self {
        let Io::Plain(tcp) = self.io else { return self };
        self.output.drain(..self.sent as usize);
        self.sent = 0;
        let secure = Secure {
            tcp,
            session,
            raw_start: self.start,
            raw_end: self.end,
            sealed: Box::default(),
            sealed_start: 0,
            sealed_end: 0,
            tickets: std::mem::take(&mut self.output).into(),
            ended: false,
        };
        self.end = self.start;
        self.io = Io::Tls(Box::new(secure));
        self
    }

    /// What was read, to be decrypted in place by the handshake, and the output.
    pub(crate) fn halves(&mut self) -> (&mut [u8], &mut Vec<u8>) {
        (&mut self.input[self.start as usize..self.end as usize], &mut self.output)
    }

    /// Reads and opens until there is text, or the end.
    pub(super) fn poll_fill_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let before = self.end - self.start;
            self.open_records().map_err(|broken| self.failed(broken))?;
            let len = self.end - self.start - before;
            if len > 0 || self.eof {
                return Poll::Ready(Ok(len as usize));
            }
            let Io::Tls(secure) = &mut self.io else { return Poll::Ready(Ok(0)) };
            // Register for readiness first: who waits holds no buffer.
            if self.input.is_empty() {
                ready!(secure.tcp.poll_read_ready(cx))?;
            }
            if !self.make_room_tls().map_err(|bad| self.failed(bad.into()))? {
                return Poll::Ready(Ok(0));
            }
            let Io::Tls(secure) = &mut self.io else { return Poll::Ready(Ok(0)) };
            let mut space = ReadBuf::new(&mut self.input[secure.raw_end as usize..]);
            let outcome = Pin::new(&mut secure.tcp).poll_read(cx, &mut space);
            let len = space.filled().len();
            secure.raw_end += len as u32;
            match outcome {
                // Without close_notify nobody knows whether this is all (RFC 8446, 6.1).
                Poll::Ready(Ok(())) if len == 0 => {
                    self.eof = true;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.start == self.end {
                        self.emptied();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The session is over: the peer is told why.
    fn failed(&mut self, why: Broken) -> io::Error {
        if let Io::Tls(secure) = &mut self.io {
            secure.fail(&why, &self.buffers);
        }
        broken(why)
    }

    /// Opens every record that is whole, and joins their text to what is there.
    fn open_records(&mut self) -> Result<(), Broken> {
        let Io::Tls(secure) = &mut self.io else { return Ok(()) };
        while !self.eof {
            let raw = &mut self.input[secure.raw_start as usize..secure.raw_end as usize];
            let Some(len) = record::whole(raw)? else { break };
            let opened = secure.session.open(&mut raw[..len])?;
            let at = secure.raw_start;
            secure.raw_start += len as u32;
            match opened {
                Opened::Text(text) if self.start == self.end => {
                    (self.start, self.end) = (at + text.start as u32, at + text.end as u32);
                }
                Opened::Text(text) => {
                    let (start, end) = (at as usize + text.start, at as usize + text.end);
                    self.input.copy_within(start..end, self.end as usize);
                    self.end += (end - start) as u32;
                }
                Opened::Control => {}
                Opened::End => self.eof = true,
            }
        }
        if self.start == self.end {
            self.emptied();
        }
        if let Io::Tls(secure) = &mut self.io
            && !secure.has_more()
        {
            // The next record is read directly behind the text.
            (secure.raw_start, secure.raw_end) = (self.end, self.end);
        }
        Ok(())
    }

    /// Makes room for the rest of a record. False when there is more text than is kept.
    fn make_room_tls(&mut self) -> Result<bool, BadRecord> {
        let Io::Tls(secure) = &mut self.io else { return Ok(false) };
        if self.input.is_empty() {
            self.input = self.buffers.take(self.bulk);
            return Ok(true);
        }
        let raw = secure.raw_start as usize..secure.raw_end as usize;
        let need = record::announced(&self.input[raw.clone()])?.unwrap_or(record::HEADER);
        if raw.start + need <= self.input.len() && raw.end < self.input.len() {
            return Ok(true);
        }
        let text = self.start as usize..self.end as usize;
        let (len, held) = (text.len(), raw.len());
        if len + need > LARGEST || len >= LARGE {
            return Ok(false);
        }
        if len + need.max(held + 1) > self.input.len() {
            let mut larger = match len + need.max(held + 1) > LARGE {
                true => vec![0; LARGEST].into_boxed_slice(),
                false => self.buffers.take(true),
            };
            larger[..len].copy_from_slice(&self.input[text]);
            larger[len..len + held].copy_from_slice(&self.input[raw]);
            self.buffers.give(std::mem::replace(&mut self.input, larger));
        } else {
            self.input.copy_within(text, 0);
            self.input.copy_within(raw, len);
        }
        (self.start, self.end) = (0, len as u32);
        (secure.raw_start, secure.raw_end) = (len as u32, (len + held) as u32);
        Ok(true)
    }

    /// Seals and sends what waits and then as much of `body` as a buffer takes.
    pub(super) fn poll_write_tls(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.waiting();
            let Io::Tls(secure) = &mut self.io else { return Poll::Ready(Ok(0)) };
            ready!(secure.poll_send(cx, &self.buffers))?;
            if waiting + body.len() == 0 {
                return Poll::Ready(Ok(0));
            }
            // Nothing follows an alert.
            if secure.ended {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let head = &self.output[self.sent as usize..];
            let taken = secure.seal(head, body, &self.buffers).map_err(broken)?;
            // What the socket does not take now goes before the next.
            let sent = secure.poll_send(cx, &self.buffers);
            if waiting > 0 {
                self.wrote(taken.min(waiting))?;
            }
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            if taken > waiting || body.is_empty() {
                return Poll::Ready(Ok(taken.saturating_sub(waiting)));
            }
        }
    }

    pub(super) fn poll_flush_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.encoded() {
            ready!(self.poll_write_tls(cx, &[]))?;
        }
        let Io::Tls(secure) = &mut self.io else { return Poll::Ready(Ok(())) };
        secure.poll_send(cx, &self.buffers)
    }
}
