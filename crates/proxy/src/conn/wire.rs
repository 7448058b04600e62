//! A byte stream with the buffers that are in use on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffers::{Buffers, LARGE};
use super::secure::Secure;
use crate::snapshot::Address;

/// A head and a body that are copied into one piece: cheaper than to have the system gather the two.
const SMALL: usize = 4096;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Io {
    Plain(TcpStream),
    /// An established TLS session.
    Tls(Box<Secure>),
}

/// One connection. A connection at rest holds no buffer.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(super) io: Io,
    pub(super) buffers: Rc<Buffers>,
    pub(super) input: Box<[u8]>,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) output: Vec<u8>,
    pub(super) sent: u32,
    pub(super) bulk: bool,
    pub(super) eof: bool,
    shut: bool,
}

impl Wire {
    pub(crate) fn new(io: TcpStream, buffers: Rc<Buffers>) -> Self {
        Self {
            io: Io::Plain(io),
            buffers,
            input: Box::default(),
            start: 0,
            end: 0,
            output: Vec::new(),
            sent: 0,
            bulk: false,
            eof: false,
            shut: false,
        }
    }

    /// Our end. That of a Unix socket which connected has no name.
    pub(crate) fn local_addr(&self) -> Option<Address> {
        let address = match &self.io {
            Io::Plain(io) => io.local_addr(),
            Io::Tls(secure) => secure.local_addr(),
        };
        match address {
            Ok(address) => Some(address.into()),
            // What is not of the Internet has no address of its kind.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(Address::Pipe("")),
            Err(_) => None,
        }
    }

    /// What was read and not yet consumed.
    pub(crate) fn data(&self) -> &[u8] {
        &self.input[self.start as usize..self.end as usize]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.data().len());
        self.start += len as u32;
        if self.start >= self.end {
            self.emptied();
        }
    }

    /// Nothing that was read is left.
    pub(super) fn emptied(&mut self) {
        if let Io::Tls(secure) = &mut self.io
            && let Some(at) = secure.emptied()
        {
            (self.start, self.end) = (at, at);
            return;
        }
        (self.start, self.end) = (0, 0);
        self.release();
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }

    /// The plain stream; nothing of what was read or is to be written may stand in between.
    fn tcp(&mut self) -> Option<&mut TcpStream> {
        match &mut self.io {
            Io::Plain(tcp) => Some(tcp),
            Io::Tls(_) => None,
        }
    }

    /// True when the peer will send no more.
    pub(crate) fn eof(&self) -> bool {
        self.eof
    }

    /// Much is coming: read in large pieces.
    pub(crate) fn set_bulk(&mut self, bulk: bool) {
        self.bulk = bulk;
    }

    pub(super) fn release(&mut self) {
        if !self.input.is_empty() {
            self.buffers.give(std::mem::take(&mut self.input));
        }
    }

    /// Reads once more, behind what is already there. `Ok(0)` is the end of the stream, or a buffer that is full.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        let Io::Plain(io) = &mut self.io else { return self.poll_fill_tls(cx) };
        // Register for readiness first: who waits holds no buffer.
        if self.input.is_empty() {
            ready!(io.poll_read_ready(cx))?;
        }
        self.make_room();
        if self.end as usize == self.input.len() {
            return Poll::Ready(Ok(0));
        }
        let Io::Plain(io) = &mut self.io else { return Poll::Pending };
        let mut space = ReadBuf::new(&mut self.input[self.end as usize..]);
        let outcome = Pin::new(io).poll_read(cx, &mut space);
        let len = space.filled().len();
        match outcome {
            Poll::Ready(Ok(())) if len == 0 => self.eof = true,
            Poll::Ready(Ok(())) => {
                self.end += len as u32;
                return Poll::Ready(Ok(len));
            }
            _ => {}
        }
        if self.start == self.end {
            self.release();
        }
        outcome.map_ok(|()| 0)
    }

    fn make_room(&mut self) {
        if self.input.is_empty() {
            self.input = self.buffers.take(self.bulk);
        } else if self.end as usize == self.input.len() {
            let (start, len) = (self.start as usize, self.data().len());
            if start > 0 {
                self.input.copy_within(start.., 0);
            } else if self.input.len() < LARGE {
                let mut larger = self.buffers.take(true);
                larger[..len].copy_from_slice(&self.input);
                self.buffers.give(std::mem::replace(&mut self.input, larger));
            }
            self.start = 0;
            self.end = len as u32;
        }
    }

    /// The bytes that wait to be written; heads are encoded into it.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = self.buffers.take_head();
        }
        &mut self.output
    }

    /// True when everything was handed to the system.
    pub(crate) fn flushed(&self) -> bool {
        self.encoded() && !matches!(&self.io, Io::Tls(secure) if secure.has_sealed())
    }

    /// True when no byte of the output waits for the next layer.
    pub(super) fn encoded(&self) -> bool {
        self.output.len() == self.sent as usize
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.output.len() - self.sent as usize
    }

    /// Writes what waits.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.encoded() {
            let Io::Plain(io) = &mut self.io else { break };
            let waiting = &self.output[self.sent as usize..];
            let len = ready!(Pin::new(io).poll_write(cx, waiting))?;
            self.wrote(len)?;
        }
        if self.is_tls() { self.poll_flush_tls(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Writes what waits and then of `body` as much as the system takes: one system call for both.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_tls() {
            return self.poll_write_tls(cx, body);
        }
        while !self.encoded() {
            let waiting = self.waiting();
            let len = ready!(self.poll_write_both(cx, body))?;
            self.wrote(len.min(waiting))?;
            if len > waiting {
                return Poll::Ready(Ok(len - waiting));
            }
        }
        match self.tcp() {
            Some(io) => Pin::new(io).poll_write(cx, body),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Hands what waits and the body to the system, which takes a part of it.
    fn poll_write_both(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<usize>> {
        let head = &self.output[self.sent as usize..];
        let Io::Plain(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        let io = Pin::new(io);
        let both = head.len() + body.len();
        if both > SMALL {
            return io.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]);
        }
        let mut piece = self.buffers.take(false);
        piece[..head.len()].copy_from_slice(head);
        piece[head.len()..both].copy_from_slice(body);
        let taken = io.poll_write(cx, &piece[..both]);
        self.buffers.give(piece);
        taken
    }

    pub(super) fn wrote(&mut self, len: usize) -> io::Result<()> {
        if len == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += len as u32;
        if self.encoded() {
            self.sent = 0;
            self.output.clear();
            if self.output.capacity() > LARGE {
                self.output = Vec::new();
            }
        }
        Ok(())
    }

    /// Gives back the write buffer; for a connection that begins to wait.
    pub(crate) fn rest(&mut self) {
        self.bulk = false;
        if self.encoded() && self.output.capacity() > 0 {
            self.sent = 0;
            self.buffers.give_head(std::mem::take(&mut self.output));
        }
    }

    /// Says to the peer that no more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        if !self.shut {
            let io = match &mut self.io {
                Io::Plain(io) => io,
                Io::Tls(secure) => ready!(secure.poll_end(cx, &self.buffers))?,
            };
            ready!(Pin::new(io).poll_shutdown(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// True when nothing has come and the peer has not gone since the last message: the connection can carry another.
    /// Costs no system call unless something happened.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if self.eof || !self.data().is_empty() || !self.flushed() {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let Io::Plain(io) = &mut self.io else {
            // What concerns the session alone, as a ticket, disturbs nobody.
            return self.poll_fill_tls(&mut cx).is_pending();
        };
        match io.poll_read_ready(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                let mut byte = [0];
                matches!(io.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Poll::Ready(Err(_)) => false,
        }
    }
}

#[cfg(test)]
mod wire_test {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Whatever the system takes at a time, the peer gets every byte once and in order.
    #[tokio::test]
    async fn heads_and_bodies_arrive_whole_through_a_narrow_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        socket2::SockRef::from(&near).set_send_buffer_size(4096).unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let message = |n: usize| (format!("head {n};"), vec![b'a' + (n % 26) as u8; n * 37 % 3000]);
        let expected: Vec<u8> =
            (0..2000).flat_map(|n| [message(n).0.into_bytes(), message(n).1].concat()).collect();
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut wire = Wire::new(near, Rc::default());
        for n in 0..2000 {
            let (head, body) = message(n);
            wire.output().extend_from_slice(head.as_bytes());
            let mut left = &body[..];
            while !left.is_empty() {
                let len = poll_fn(|cx| wire.poll_write(cx, left)).await.unwrap();
                left = &left[len..];
            }
            poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        }
        drop(wire);
        assert!(reading.await.unwrap() == expected);
    }
}
