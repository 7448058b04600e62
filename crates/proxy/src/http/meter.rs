//! What an HTTP/2 peer may ask of us without giving anything: SETTINGS and PING to answer, windows, priorities, resets
//! and empty frames.
//!
//! The `h2` crate keeps its memory bounded under such floods, but answers for as long as they last. The meter stands
//! between it and the connection, reads the heads of the frames that pass in both directions, and says when it is enough.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Frames that carry nothing and may come in one burst.
const BURST: u32 = 2000;
/// How many of them each frame with fields or data, in either direction, makes good.
const EARNED: u32 = 8;
/// How many become free in a second, whatever else happens: keep-alives of idle connections.
const PER_SECOND: u32 = 100;
/// `PRI * HTTP/2.0` and what follows it, which a client sends before its first frame.
const PREFACE: u32 = 24;

/// The kind of frame that there were too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// SETTINGS, PING, RST_STREAM, unknown frames.
    Control,
    WindowUpdate,
    Priority,
    /// DATA or fields without content.
    Empty,
}

impl Flood {
    /// Envoy's names, in the order of the variants.
    pub(crate) const NAMES: [&str; 4] = [
        "outbound_control_flood",
        "inbound_window_update_frames_flood",
        "inbound_priority_frames_flood",
        "inbound_empty_frames_flood",
    ];
}

/// Streams of one connection that its client broke off early (CVE-2023-44487).
#[derive(Debug, Default)]
pub(crate) struct Resets {
    closed: Cell<u32>,
    early: Cell<u32>,
}

impl Resets {
    /// Envoy's `overload.premature_reset_total_stream_count`.
    const STREAMS: u32 = 500;
    /// A stream that lived longer was no attack (Envoy's `overload.premature_reset_min_stream_lifetime_seconds`).
    pub(crate) const EARLY: Duration = Duration::from_secs(1);

    /// A stream has ended. `early`: its client broke it off within [`Resets::EARLY`].
    pub(crate) fn closed(&self, early: bool) {
        self.closed.set(self.closed.get().saturating_add(1));
        self.early.set(self.early.get().saturating_add(u32::from(early)));
    }

    /// More than half of all streams, of at least [`Resets::STREAMS`].
    pub(crate) fn too_many(&self) -> bool {
        self.early.get() > self.closed.get().max(Self::STREAMS) / 2
    }
}

/// Cuts frames out of a stream of bytes that comes in pieces.
#[derive(Debug)]
struct Frames {
    head: [u8; 9],
    have: u8,
    /// Bytes that are no head of a frame.
    skip: u32,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8, u8, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let len = bytes.len().min(self.skip as usize);
                self.skip -= len as u32;
                bytes = &bytes[len..];
                continue;
            }
            let have = usize::from(self.have);
            let len = bytes.len().min(9 - have);
            self.head[have..have + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            self.have += len as u8;
            if self.have == 9 {
                let [a, b, c, kind, flags, ..] = self.head;
                (self.have, self.skip) = (0, u32::from_be_bytes([0, a, b, c]));
                frame(kind, flags, self.skip);
            }
        }
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    incoming: Frames,
    outgoing: Frames,
    left: u32,
    refilled: Option<Instant>,
}

impl Meter {
    /// `server`: the peer is a client, and begins with the preface.
    pub(crate) fn new(server: bool) -> Self {
        let frames =
            |preface: bool| Frames { head: [0; 9], have: 0, skip: if preface { PREFACE } else { 0 } };
        Self { incoming: frames(server), outgoing: frames(!server), left: BURST, refilled: None }
    }

    /// Bytes that came. `now` is asked for rarely.
    pub(crate) fn came(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Option<Flood> {
        let (left, refilled) = (&mut self.left, &mut self.refilled);
        let mut flood = None;
        self.incoming.feed(bytes, |kind, flags, len| {
            let cost = match kind {
                // With END_STREAM, or content, it moves something.
                0x0 | 0x1 if len > 0 || flags & 0x1 != 0 => None,
                0x0 | 0x1 => Some(Flood::Empty),
                0x9 if len > 0 => return,
                0x9 => Some(Flood::Empty),
                0x2 => Some(Flood::Priority),
                0x8 => Some(Flood::WindowUpdate),
                _ => Some(Flood::Control),
            };
            let Some(cost) = cost else {
                *left = (*left + EARNED).min(BURST);
                return;
            };
            if *left == 0 {
                let now = now();
                // What was not used since the last time is free again.
                let since = refilled.replace(now).map_or(Duration::ZERO, |then| now.duration_since(then));
                let free = since.as_millis().saturating_mul(u128::from(PER_SECOND)) / 1000;
                *left = u32::try_from(free).unwrap_or(BURST).min(BURST);
            }
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => flood = flood.or(Some(cost)),
            }
        });
        flood
    }

    /// Bytes that were sent.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let left = &mut self.left;
        self.outgoing.feed(bytes, |kind, _, _| {
            if kind <= 0x1 {
                *left = (*left + EARNED).min(BURST);
            }
        });
    }
}

/// A connection under a meter. After a flood nothing more is read.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    io: T,
    meter: Meter,
    flooded: Rc<Cell<Option<Flood>>>,
    server: bool,
}

impl<T> Metered<T> {
    pub(crate) fn new(io: T, server: bool) -> Self {
        Self { io, meter: Meter::new(server), flooded: Rc::default(), server }
    }

    /// Where it is said that there was too much.
    pub(crate) fn flooded(&self) -> Rc<Cell<Option<Flood>>> {
        self.flooded.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flooded.get().is_some() {
            // A client is still told why; a server is left.
            let left = || io::Error::new(io::ErrorKind::InvalidData, "too many frames that carry nothing");
            return if self.server { Poll::Pending } else { Poll::Ready(Err(left())) };
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let flood = self.meter.came(&buf.filled()[before..], Instant::now);
        if flood.is_some() {
            self.flooded.set(flood);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.meter.sent(&buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = len;
        for buf in bufs {
            let part = buf.len().min(left);
            self.meter.sent(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "meter_test.rs"]
mod meter_test;
