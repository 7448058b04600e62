//! HTTP/2: a stream of a connection that the `h2` crate drives.

pub mod hpack;
pub(crate) mod serve;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::Headers;
use super::stream::{Broken, Got};
use crate::conn::wire::Wire;

/// One stream, either side.
#[derive(Debug)]
pub(crate) struct H2Stream {
    /// The response that an upstream stream waits for.
    pub(crate) response: Option<h2::client::ResponseFuture>,
    recv: Option<RecvStream>,
    data: Bytes,
    trailers: Option<Headers>,
    send: Option<SendStream<Bytes>>,
}

impl H2Stream {
    pub(crate) fn new(recv: Option<RecvStream>, send: Option<SendStream<Bytes>>) -> Self {
        Self { response: None, recv, data: Bytes::new(), trailers: None, send }
    }

    pub(crate) fn set_send(&mut self, send: Option<SendStream<Bytes>>) {
        self.send = send;
    }

    pub(crate) fn set_recv(&mut self, recv: RecvStream) {
        self.recv = Some(recv);
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Got, Broken>> {
        loop {
            if !self.data.is_empty() {
                return Poll::Ready(Ok(Got::Data));
            }
            let Some(recv) = &mut self.recv else {
                return Poll::Ready(Ok(Got::End));
            };
            match ready!(recv.poll_data(cx)) {
                Some(Ok(data)) => self.data = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => {
                    let trailers = ready!(recv.poll_trailers(cx)).map_err(broken)?;
                    self.trailers = trailers.map(|map| fields(&map));
                    self.recv = None;
                }
            }
        }
    }

    pub(crate) fn chunk(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn shared(&self) -> Option<&Bytes> {
        Some(&self.data)
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.data.advance(len);
        if let Some(recv) = &mut self.recv {
            let _ = recv.flow_control().release_capacity(len);
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }

    pub(crate) fn recv_done(&self) -> bool {
        self.data.is_empty()
            && self.trailers.is_none()
            && self.recv.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        shared: Option<&Bytes>,
    ) -> Poll<Result<usize, Broken>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(Ok(data.len()));
        };
        send.reserve_capacity(data.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(Broken::Truncated)),
            }
        }
        let len = data.len().min(send.capacity());
        let part = match shared {
            Some(bytes) => bytes.slice(..len),
            None => Bytes::copy_from_slice(&data[..len]),
        };
        send.send_data(part, false).map_err(broken)?;
        Poll::Ready(Ok(len))
    }

    pub(crate) fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        let Some(mut send) = self.send.take() else {
            return Ok(());
        };
        match trailers {
            Some(trailers) => send.send_trailers(map(trailers)),
            None => send.send_data(Bytes::new(), true),
        }
        .map_err(broken)
    }

    /// Breaks the stream off.
    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        if let Some(mut send) = self.send.take() {
            send.send_reset(reason);
        }
        self.recv = None;
    }

    /// Ready when the peer has broken the stream off.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(|_| ()),
            None => Poll::Pending,
        }
    }
}

pub(crate) fn broken(error: h2::Error) -> Broken {
    match error.reason() {
        Some(reason) => Broken::Reset(reason),
        None if error.is_io() => error.into_io().map_or(Broken::Truncated, Broken::Io),
        None => Broken::H2(error),
    }
}

/// Copies fields out of the `http` crate's form.
pub(crate) fn fields(map: &http::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        headers.append(name.as_str(), value.as_bytes());
    }
    headers
}

/// Copies fields into the `http` crate's form; what HTTP/2 cannot carry is left out.
pub(crate) fn map(headers: &Headers) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}

/// A connection of which something was read already.
#[derive(Debug)]
pub(crate) struct Replayed {
    wire: Wire,
}

impl Replayed {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire }
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(tcp) = self.wire.plain() {
            return tcp.poll_read(cx, buf);
        }
        if self.wire.data().is_empty() && ready!(self.wire.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let len = self.wire.data().len().min(buf.remaining());
        buf.put_slice(&self.wire.data()[..len]);
        self.wire.consume(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(tcp) = self.wire.plain() {
            return tcp.poll_write_vectored(cx, bufs);
        }
        // Joined, so that frames share a record.
        ready!(self.wire.poll_flush(cx))?;
        let last = bufs.iter().rposition(|buf| !buf.is_empty()).unwrap_or(0);
        let (before, last) = (&bufs[..last], bufs.get(last).map_or(&[][..], |buf| buf));
        for buf in before {
            self.wire.output().extend_from_slice(buf);
        }
        let joined = self.wire.waiting();
        match self.wire.poll_write(cx, last) {
            Poll::Ready(Ok(len)) => Poll::Ready(Ok(joined + len)),
            Poll::Pending if joined > 0 => Poll::Ready(Ok(joined)),
            other => other,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
