//! The process that a namespace is made by: it makes the sockets that must live there, as long as it is asked to.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    V4, V6, loopback, resolv, rules,
    sys::{self, Namespaces},
    wire::{Link, Reply, Request},
};
use crate::cli::HoldArgs;

/// What could not be done, and the system's answer.
type Failure = (String, io::Error);

/// Makes the namespace, and then sockets in it until the other end of the link has gone.
///
/// # Errors
/// When this was not started by `heddle run`.
pub(crate) fn hold(args: &HoldArgs) -> Result<u8, String> {
    let link = Link::from_stdin().map_err(|e| format!("the link to heddle run: {e}"))?;
    let ready = prepare(args);
    let said = match &ready {
        Ok((user, ipv6)) => link.send(&Reply::Ready { user: *user, ipv6: *ipv6 }, &[]),
        Err((step, error)) => {
            let (step, cause) = (step.clone(), error.to_string());
            let denied = matches!(
                error.raw_os_error(),
                Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::ENOSYS | libc::EINVAL)
            );
            link.send(&Reply::Failed { step, cause, denied }, &[])
        }
    };
    said.map_err(|e| format!("the link to heddle run: {e}; this command is heddle's own, use `heddle run`"))?;
    if ready.is_err() {
        return Ok(1);
    }
    while let Ok(Some((request, _))) = link.receive::<Request>() {
        let (reply, sockets) = match answer(&request) {
            Ok(sockets) => (Reply::Sockets, sockets),
            Err(error) => (Reply::Refused { code: error.raw_os_error().unwrap_or(libc::EINVAL) }, Vec::new()),
        };
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        if link.send(&reply, &sockets).is_err() {
            break;
        }
    }
    Ok(0)
}

/// Makes the namespaces and what must be in them. Says whether there is a user namespace, and whether IPv6 is captured.
fn prepare(args: &HoldArgs) -> Result<(bool, bool), Failure> {
    let nft = rules::find().ok_or_else(|| {
        ("looking for nft".to_owned(), io::Error::new(io::ErrorKind::NotFound, "it is not on the path"))
    })?;
    let user = enter()?;
    // A rehearsal of what is done for the program itself: if it cannot be done, that is known before.
    resolv::cover(&args.resolv_conf)?;
    let step = |what: &str| {
        let what = what.to_owned();
        move |error| (what, error)
    };
    loopback::up().map_err(step("bringing up the loopback interface"))?;
    let addressed = |ip: IpAddr| loopback::add_address(ip).and_then(|()| loopback::route_everything(ip));
    addressed(V4.into()).map_err(step("giving the loopback interface an address and a route"))?;
    let ipv6 = match args.ipv6.then(|| addressed(V6.into())) {
        Some(Ok(())) => true,
        // This kernel has no IPv6, or forbids it: there is nothing to capture.
        Some(Err(error)) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EACCES)) => false,
        Some(Err(error)) => {
            return Err(("giving the loopback interface an IPv6 address and a route".to_owned(), error));
        }
        None => false,
    };
    rules::apply(&nft, ipv6).map_err(step("redirecting connections"))?;
    Ok((user, ipv6))
}

/// New namespaces, by privilege or else with a user namespace; true for the latter.
fn enter() -> Result<bool, Failure> {
    match sys::unshare(Namespaces::NetworkAndMounts) {
        Ok(()) => return Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        Err(error) => return Err(("making a network namespace".to_owned(), error)),
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(Namespaces::UserNetworkAndMounts)
        .map_err(|e| ("making a user namespace, not being root".to_owned(), e))?;
    // Everybody stays who they are.
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        let path = Path::new("/proc/self").join(file);
        std::fs::write(&path, text).map_err(|e| (format!("writing {}", path.display()), e))?;
    }
    Ok(true)
}

fn answer(request: &Request) -> io::Result<Vec<OwnedFd>> {
    match request {
        Request::Outbound { address, count } => (0..*count).map(|_| outbound(*address)).collect(),
        Request::Names { addresses } => {
            let mut sockets = Vec::new();
            for address in addresses {
                sockets.push(UdpSocket::bind(address)?.into());
                sockets.push(TcpListener::bind(address)?.into());
            }
            Ok(sockets)
        }
        Request::Streams { count } => (0..*count).map(|_| stream()).collect(),
    }
}

fn outbound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Inherited by accepted connections.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn stream() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
