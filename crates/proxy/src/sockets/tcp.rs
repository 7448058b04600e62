//! TCP sockets that are listened on: one for each worker, with `SO_REUSEPORT`.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::snapshot::Listener;

/// Socket options that a listener asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) transparent: bool,
    pub(crate) freebind: bool,
}

impl Options {
    pub(super) fn of(listener: &Listener) -> Self {
        Self { transparent: listener.transparent, freebind: listener.freebind }
    }
}

/// Binds `count` sockets to one address; with port 0 all get the port that the first was given.
pub(crate) fn bind(address: SocketAddr, count: usize, options: Options) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    let mut address = address;
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if options.transparent {
            // By this name for IPv6, too. Without the right to it the error would read as one of the port.
            socket.set_ip_transparent_v4(true).map_err(|error| {
                io::Error::other(format!("IP_TRANSPARENT: {error}; TPROXY takes CAP_NET_ADMIN"))
            })?;
        }
        if options.freebind {
            socket.set_freebind_v4(true)?;
        }
        // Inherited by accepted connections: saves a call for each.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        if address.port() == 0
            && let Some(actual) = socket.local_addr()?.as_socket()
        {
            address = actual;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// One socket for each worker at least. Where the system refuses more, workers share those that there are.
pub(super) fn enough(
    mut sockets: Vec<Socket>,
    address: SocketAddr,
    count: usize,
    options: Options,
) -> Vec<Socket> {
    let (there, missing) = (sockets.len(), count.saturating_sub(sockets.len()));
    if missing == 0 {
        return sockets;
    }
    match bind(address, missing, options) {
        Ok(more) => sockets.extend(more),
        Err(error) => {
            tracing::warn!(%address, %error, "cannot open a socket for each worker; some share one");
            let shared: Vec<_> = (0..missing)
                .filter_map(|index| sockets.get(index % there.max(1))?.try_clone().ok())
                .collect();
            sockets.extend(shared);
        }
    }
    sockets
}

/// Fails where another process listens already: with `SO_REUSEPORT` the kernel would share its connections out
/// between that one and us, without a word.
pub(crate) fn ensure_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections that are still closing do not matter, who listens does.
    probe.set_reuse_address(true)?;
    if address.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    match probe.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // What else is wrong with it, the bind that counts will say.
        _ => Ok(()),
    }
}

/// The address of the first of some sockets.
pub(crate) fn address_of(sockets: &[Socket]) -> Option<SocketAddr> {
    sockets.first()?.local_addr().ok()?.as_socket()
}
