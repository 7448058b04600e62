//! Bytes from one socket to another through a pipe: the kernel passes pages on, nobody copies them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffers::Buffers;
use super::wire::{Io, Wire};

/// Bytes that a pipe is asked to hold; the system may grant less.
const SIZE: usize = 512 * 1024;
/// The most pipes that one worker uses at a time. Connections beyond it copy.
const MOST: usize = 64;
/// How many unused pipes a worker keeps.
const KEPT: usize = 16;

/// One worker's pipes. A pipe is lent only while bytes are on their way through it.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    unused: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use, and how many bytes are in it. Dropped empty it goes back, otherwise its bytes are lost with it.
#[derive(Debug)]
pub(crate) struct Lent {
    pipe: Option<Pipe>,
    held: u32,
    filled: u32,
    home: Rc<Buffers>,
}

#[cfg(test)]
impl Pipes {
    /// How many pipes are in use, and how many are kept.
    pub(crate) fn state(&self) -> (usize, usize) {
        (self.lent.get(), self.unused.borrow().len())
    }
}

impl Lent {
    /// A pipe, or none when too many are in use or the system has none.
    pub(crate) fn new(home: &Rc<Buffers>) -> Option<Self> {
        let pipes = &home.pipes;
        if pipes.lent.get() >= MOST {
            return None;
        }
        let kept = pipes.unused.borrow_mut().pop();
        let pipe = kept.or_else(|| {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // A smaller one works as well: an unprivileged user may own so many pages only.
            let _ = rustix::pipe::fcntl_setpipe_size(&write, SIZE);
            Some(Pipe { read, write })
        })?;
        pipes.lent.set(pipes.lent.get() + 1);
        Some(Self { pipe: Some(pipe), held: 0, filled: 0, home: home.clone() })
    }

    /// Bytes that came in and did not go out yet.
    pub(crate) fn held(&self) -> usize {
        self.held as usize
    }

    /// Bytes that came in last.
    pub(crate) fn filled(&self) -> usize {
        self.filled as usize
    }

    /// Takes up to `most` bytes from a socket into the empty pipe; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.held == 0, "what the socket has not and what the pipe cannot take look alike");
        loop {
            ready!(from.poll_read_ready(cx))?;
            let len = most.min(SIZE);
            let moved = from.try_io(Interest::READABLE, || match &self.pipe {
                Some(pipe) => splice(from, &pipe.write, len),
                None => Ok(0),
            });
            match moved {
                Ok(len) => {
                    (self.held, self.filled) = (len as u32, len as u32);
                    return Poll::Ready(Ok(len));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives of what is held as much as the socket takes.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || match &self.pipe {
                Some(pipe) => splice(&pipe.read, to, self.held()),
                None => Ok(0),
            });
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(len) => {
                    self.held -= len as u32;
                    return Poll::Ready(Ok(len));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes back what is held, to be sent in another way.
    pub(crate) fn empty_into(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let start = bytes.len();
        bytes.resize(start + self.held(), 0);
        let mut at = start;
        while at < bytes.len() {
            let len = rustix::io::read(&pipe.read, &mut bytes[at..])?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += len;
        }
        self.held = 0;
        Ok(())
    }
}

impl Wire {
    /// What is sent and received are the socket's own bytes.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.io, Io::Plain(_))
    }

    /// A pipe for what goes past the buffers.
    pub(crate) fn lend_pipe(&self) -> Option<Lent> {
        Lent::new(&self.buffers)
    }

    /// Takes up to `most` bytes past the buffer; 0 is the end of the stream.
    pub(crate) fn poll_past(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Lent,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.data().is_empty());
        match &self.io {
            Io::Plain(tcp) => pipe.poll_fill(cx, tcp, most),
            Io::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Sends what is in a pipe.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Lent) -> Poll<io::Result<usize>> {
        debug_assert!(self.flushed());
        match &self.io {
            Io::Plain(tcp) => pipe.poll_drain(cx, tcp),
            Io::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    #[cfg(test)]
    pub(crate) fn set_append(&self) {
        let Io::Plain(tcp) = &self.io else { return };
        let flags = rustix::fs::fcntl_getfl(tcp).unwrap();
        rustix::fs::fcntl_setfl(tcp, flags | rustix::fs::OFlags::APPEND).unwrap();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let pipes = &self.home.pipes;
        pipes.lent.set(pipes.lent.get() - 1);
        let mut unused = pipes.unused.borrow_mut();
        if self.held == 0 && unused.len() < KEPT {
            unused.extend(self.pipe.take());
        }
    }
}

fn splice(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, len: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::pipe::splice(from, None, to, None, len, flags)?)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// These sockets cannot be spliced; they can be read and written all the same.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
