//! Packets with descriptors beside them, between two processes of one user.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg,
    sendmsg, socket_with, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Descriptors in one packet at most (the kernel takes 253).
pub(super) const MOST: usize = 64;
/// The longest packet, in bytes.
const PACKET: usize = 64 * 1024;
/// Successors that may wait at the door.
const WAITING: i32 = 8;

/// One end of a connection. The sockets are of the kind that keeps packets apart; to the runtime all Unix sockets that are
/// connected are alike.
#[derive(Debug)]
pub(super) struct Link(UnixStream);

impl Link {
    fn of(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixStream::from_std(descriptor.into())?))
    }

    /// Connects to a door; an error of kind `NotFound` or `ConnectionRefused` says that nobody is there.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = open()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::of(socket)
    }

    /// Whether the other end belongs to this process' user, or to root.
    pub(super) fn is_ours(&self) -> io::Result<bool> {
        let theirs = sockopt::socket_peercred(&self.0)?.uid;
        Ok(theirs.is_root() || theirs == rustix::process::geteuid())
    }

    pub(super) async fn send<T: Serialize>(&self, message: &T, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            if !beside.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(beside)) {
                return Err(io::Error::other(format!("more than {MOST} descriptors at once")));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&text)], &mut rights, SendFlags::NOSIGNAL)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// The next message; `None` when the other end has gone.
    pub(super) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut text = vec![0; PACKET];
        let mut descriptors = Vec::new();
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
            let mut rights = RecvAncillaryBuffer::new(&mut space);
            let slices = &mut [IoSliceMut::new(&mut text)];
            let received = recvmsg(&self.0, slices, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
            for message in rights.drain() {
                if let RecvAncillaryMessage::ScmRights(list) = message {
                    descriptors.extend(list);
                }
            }
            Ok(received)
        };
        let received = self.0.async_io(Interest::READABLE, receive).await?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "not every descriptor arrived: raise the limit on open files (ulimit -n)",
            ));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&text[..received.bytes])?, descriptors)))
    }
}

/// The socket that a successor connects to.
#[derive(Debug)]
pub(crate) struct Door(UnixListener);

impl Door {
    /// Opens the door of a directory. A file that a dead process left behind is replaced.
    ///
    /// # Errors
    /// `AddrInUse` when another process has it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match Link::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        let socket = open()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Nobody can connect before it listens, and then only this user can.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listen(&socket, WAITING)?;
        Self::of(socket)
    }

    /// The door that a predecessor opened.
    pub(crate) fn of(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixListener::from_std(socket.into())?))
    }

    pub(super) async fn accept(&self) -> io::Result<Link> {
        Ok(Link(self.0.accept().await?.0))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

#[cfg(test)]
mod link_test {
    use super::*;

    #[tokio::test]
    async fn a_descriptor_arrives_beside_its_message() {
        let dir = std::env::temp_dir().join(format!("heddle-door-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("door");
        let door = Door::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Door::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // The probe of the second one waits at the door, and has gone.
        assert!(door.accept().await.unwrap().receive::<String>().await.unwrap().is_none());

        let near = Link::connect(&path).unwrap();
        let far = door.accept().await.unwrap();
        assert!(near.is_ours().unwrap() && far.is_ours().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        near.send(&"hello", &[listener.as_fd()]).await.unwrap();
        let (text, mut descriptors) = far.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("hello", 1));
        let same = std::net::TcpListener::from(descriptors.remove(0));
        assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
        drop(near);
        assert!(far.receive::<String>().await.unwrap().is_none());

        drop((door, far));
        Door::open(&path).expect("what a dead process left behind is no obstacle");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
