//! Unix sockets that are listened on. There is one for all workers: the system has no sharing out between several of one path.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use socket2::Socket;

use crate::snapshot::Address;

/// A socket that is listened on, and the file that stands for it.
#[derive(Debug)]
pub(super) struct Pipe {
    socket: Socket,
    path: &'static str,
    /// Device and number of its file: another process may have put its own in the place.
    file: Option<(u64, u64)>,
}

impl Pipe {
    /// Opens the socket of a path, in place of what a dead process left there.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there, `AlreadyExists` when what is there is no socket.
    pub(super) fn open(address: Address, mode: Option<u32>) -> io::Result<Self> {
        let (Address::Pipe(path), Some(at)) = (address, address.unix()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let at = at?;
        if is_file(path) {
            make_room(path, &at)?;
        }
        let socket = stream()?;
        rustix::net::bind(&socket, &at)?;
        let pipe = Self::of(socket.into(), path);
        // Nobody can connect before it listens.
        if let Err(error) = pipe.set_mode(mode) {
            pipe.remove();
            return Err(error);
        }
        Ok(pipe)
    }

    /// The socket of a path that was opened before.
    pub(super) fn of(socket: Socket, path: &'static str) -> Self {
        let file = is_file(path).then(|| identity(path)).flatten();
        Self { socket, path, file }
    }

    /// `pipe.mode`: who may connect.
    pub(super) fn set_mode(&self, mode: Option<u32>) -> io::Result<()> {
        match mode {
            Some(mode) if self.file.is_some() => {
                std::fs::set_permissions(self.path, std::fs::Permissions::from_mode(mode))
            }
            _ => Ok(()),
        }
    }

    /// One copy for each worker.
    pub(super) fn copies(&self, count: usize) -> io::Result<Vec<Socket>> {
        (0..count).map(|_| self.socket.try_clone()).collect()
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, path: self.path, file: self.file })
    }

    /// Takes the file away, if it is still this socket's.
    pub(super) fn remove(&self) {
        if self.file.is_some() && self.file == identity(self.path) {
            // Whoever finds it left behind replaces it.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Why nothing can listen at an address, and what to do.
pub(super) fn cannot_listen(path: &str, what: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there, which `ss -lxp` shows: stop that one, or give another path"
        }
        io::ErrorKind::AlreadyExists => "move it away, or give another path",
        io::ErrorKind::NotFound => "make its directory",
        io::ErrorKind::PermissionDenied => "let the proxy's user write into its directory",
        _ => "give another path",
    };
    format!("cannot listen on {path} ({what}): {error}; {advice}")
}

/// Removes the file of a socket that nobody listens on.
fn make_room(path: &str, at: &rustix::net::SocketAddrUnix) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"));
        }
        Ok(_) => {}
    }
    match rustix::net::connect(&stream()?, at) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        // Its queue is full, or it is a socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

fn is_file(path: &str) -> bool {
    path.starts_with('/')
}

fn identity(path: &str) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn stream() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod pipe_test {
    use super::*;

    #[test]
    fn only_what_is_dead_is_replaced_and_only_ones_own_is_removed() {
        let path = std::env::temp_dir().join(format!("heddle-pipe-{}.sock", std::process::id()));
        let address = Address::pipe(path.to_str().unwrap()).unwrap();
        let refused = || Pipe::open(address, None).unwrap_err().kind();
        std::fs::write(&path, "kept").unwrap();
        assert_eq!(refused(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        std::fs::remove_file(&path).unwrap();

        let first = Pipe::open(address, Some(0o600)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        first.socket.listen(1).unwrap();
        assert_eq!(refused(), io::ErrorKind::AddrInUse);
        let other = first.try_clone().unwrap();
        drop(first.socket);
        assert_eq!(refused(), io::ErrorKind::AddrInUse, "the other has it still");
        let Pipe { socket, path: same, file } = other;
        drop(socket);

        let second = Pipe::open(address, None).unwrap();
        // What the first left behind is the second's by now.
        Pipe { socket: second.socket.try_clone().unwrap(), path: same, file: file.map(|(dev, _)| (dev, 0)) }
            .remove();
        assert!(path.exists());
        second.remove();
        assert!(!path.exists());
    }
}
