//! What `heddle run` and the holder of a namespace say to each other: one message a packet, sockets beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Sockets in one message at most.
const MOST: usize = 64;

/// What the holder is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// So many TCP sockets bound to one address with `SO_REUSEPORT`, not listening.
    Outbound { address: SocketAddr, count: usize },
    /// A UDP socket and a listening TCP socket of each address.
    Names { addresses: Vec<SocketAddr> },
    /// So many IPv4 TCP sockets, neither bound nor connected.
    Streams { count: usize },
}

/// What the holder says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Said once, without having been asked: the namespace is ready.
    Ready {
        /// It belongs to a user namespace of its own.
        user: bool,
        /// IPv6 is captured, too.
        ipv6: bool,
    },
    /// Said instead, before it ends.
    Failed { step: String, cause: String, denied: bool },
    /// The sockets are beside this message.
    Sockets,
    /// The system's error number.
    Refused { code: i32 },
}

/// One end of a pair of connected sockets.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// A link, and the other end to be given to a child.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(own), other))
    }

    /// The end that was given to this process as its standard input.
    pub(super) fn from_stdin() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub(super) fn send<T: Serialize>(&self, message: &T, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other(format!("more than {MOST} sockets at once")));
        }
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// The next message; `None` when the other end has gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut sockets = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors);
            }
        }
        Ok(Some((serde_json::from_slice(&text[..received.bytes])?, sockets)))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_socket_arrives_beside_its_message() {
        let (near, far) = Link::pair().unwrap();
        let far = Link(far);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        near.send(&Reply::Sockets, &[listener.as_fd()]).unwrap();
        let (reply, mut sockets) = far.receive::<Reply>().unwrap().unwrap();
        assert!(matches!(reply, Reply::Sockets));
        let same = std::net::TcpListener::from(sockets.remove(0));
        assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
        drop(near);
        assert!(far.receive::<Reply>().unwrap().is_none());
    }
}
