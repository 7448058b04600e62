//! A socket that one worker accepts from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::SocketFlags;
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::snapshot::Address;

/// A listening socket.
pub(super) enum Listening {
    Tcp(TcpListener),
    /// A Unix socket, shared with the other workers, and where it is. The runtime is only asked when it is ready, for which
    /// all sockets are alike: its own listener would register each connection as what it is not used as.
    Pipe(UnixStream, Address),
}

impl Listening {
    /// The socket of an address: of port 0, the one that the system chose.
    pub(super) fn of(address: Address, socket: OwnedFd) -> io::Result<(Address, Self)> {
        match address {
            Address::Ip(_) => {
                let socket = std::net::TcpListener::from(socket);
                Ok((socket.local_addr()?.into(), Self::Tcp(TcpListener::from_std(socket)?)))
            }
            Address::Pipe(_) => Ok((address, Self::Pipe(UnixStream::from_std(socket.into())?, address))),
        }
    }

    /// The next connection and who is at its other end. The client of a Unix socket has no address: it is taken to be where
    /// the socket is, as Envoy does.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Address)> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, peer)| (stream, peer.into())),
            Self::Pipe(socket, address) => {
                let accepted = socket.async_io(Interest::READABLE, || accept_unix(socket)).await?;
                Ok((TcpStream::from_std(accepted)?, *address))
            }
        }
    }

    /// Takes no new connection from now on: who asks for one is not heard, and asks again, when the socket is closed. A
    /// closed socket would reset those that the system has accepted in the meantime. Whoever opened the file of a Unix
    /// socket before it was removed is in its queue already.
    pub(super) fn refuse(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => SockRef::from(socket).attach_filter(&no_syn()),
            Self::Pipe(..) => Ok(()),
        }
    }

    /// The next connection that waits, if one does: the system itself is asked, the runtime may not have heard of it yet.
    pub(super) fn next_waiting(&self) -> Option<(io::Result<TcpStream>, Address)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = SockRef::from(socket).accept().ok()?;
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into()));
                Some((stream, peer.as_socket()?.into()))
            }
            Self::Pipe(socket, address) => {
                let stream = accept_unix(socket).ok()?;
                Some((TcpStream::from_std(stream), *address))
            }
        }
    }
}

/// A filter of the kernel (classic BPF) that drops the segments with which a connection begins. It sees them from the TCP
/// header on, whose byte 13 has the flags (RFC 9293 section 3.1).
fn no_syn() -> [SockFilter; 4] {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let step = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ]
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Pipe(socket, _) => socket.as_fd(),
        }
    }
}

/// To the runtime all streams are alike.
fn accept_unix(socket: &UnixStream) -> io::Result<std::net::TcpStream> {
    Ok(rustix::net::accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?.into())
}

#[cfg(test)]
mod listening_test {
    use super::*;

    #[tokio::test]
    async fn who_comes_before_is_accepted_and_who_comes_after_is_refused_not_reset() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (_, socket) = Listening::of(Address::Ip(address), OwnedFd::from(socket)).unwrap();
        let before = TcpStream::connect(address).await.unwrap();
        socket.refuse().unwrap();
        let mut after = std::pin::pin!(TcpStream::connect(address));
        let unheard = tokio::time::timeout(std::time::Duration::from_millis(50), after.as_mut()).await;
        assert!(unheard.is_err(), "{unheard:?}");
        let (_, peer) = socket.next_waiting().expect("one waits");
        assert_eq!(peer, Address::Ip(before.local_addr().unwrap()));
        assert!(socket.next_waiting().is_none());
        drop(socket);
        assert_eq!(after.await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
