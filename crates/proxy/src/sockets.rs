//! Listening sockets: bound before configuration arrives, handed to the workers when a listener wants their address.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::Workers;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::WorkloadNetwork;
use crate::conn::registry::Leaving;
use crate::snapshot::{Listener, Name, Snapshot};
use crate::worker::run::Message;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

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
pub(crate) fn enough(
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

/// Whether `[::]` stands beside `0.0.0.0` on a machine whose kernel knows no IPv6.
fn other_family(address: SocketAddr, listener: &Listener, error: &io::Error) -> bool {
    let unknown = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].contains(&error.raw_os_error().unwrap_or(0));
    let also = |other: &SocketAddr| other.is_ipv4() && other.ip().is_unspecified();
    unknown && address.is_ipv6() && address.ip().is_unspecified() && listener.addresses.iter().any(also)
}

/// The address of the first of some sockets.
pub(crate) fn address_of(sockets: &[Socket]) -> Option<SocketAddr> {
    sockets.first()?.local_addr().ok()?.as_socket()
}

/// The address that this machine has in the network it would reach others by. Nothing is sent: connecting a datagram
/// socket only chooses the way.
pub(crate) fn machine_address() -> Option<IpAddr> {
    let documentation = SocketAddr::from(([192, 0, 2, 1], 9));
    let socket = std::net::UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).ok()?;
    socket.connect(documentation).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Socket options that a listener asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) transparent: bool,
    pub(crate) freebind: bool,
}

/// An address that is served now.
#[derive(Debug)]
struct Serving {
    listener: Arc<Listener>,
    name: Name,
}

/// An address that could not be opened.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) listener: Name,
    /// What failed, where, and what to do.
    pub(crate) reason: String,
}

/// All listening sockets of one data plane.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Bound and not listening: addresses that were announced.
    reserved: HashMap<SocketAddr, Vec<Socket>>,
    serving: HashMap<SocketAddr, Serving>,
    /// Listeners without a socket, as of the last generation.
    redirected: HashMap<Name, Arc<Listener>>,
    /// How long connections of listeners that changed or went may stay.
    drain_time: Option<Duration>,
    /// Addresses that could not be bound, and why; tried again with each generation and by [`Sockets::follow`].
    pub(crate) failed: BTreeMap<SocketAddr, Failed>,
    /// Ports that this process has opened: another socket on one of them may be its own.
    own_ports: HashSet<u16>,
    /// Where captured connections come from, if that is another network, and at which addresses there.
    captured: Option<(Arc<dyn WorkloadNetwork>, Vec<SocketAddr>)>,
    /// Listening sockets of a predecessor that no flag has claimed: for the listeners that want their addresses.
    offered: HashMap<SocketAddr, Vec<Socket>>,
    /// Nothing is opened or closed for the time being: another process is about to take over, or has not let go yet.
    held: bool,
    /// Nothing is opened any more.
    closed: bool,
}

impl Sockets {
    /// `outbound`: the addresses whose sockets `network` makes.
    pub(crate) fn in_network(&mut self, network: Arc<dyn WorkloadNetwork>, outbound: Vec<SocketAddr>) {
        self.captured = Some((network, outbound));
    }

    /// Keeps sockets for a listener that will come.
    pub(crate) fn reserve(&mut self, sockets: Vec<Socket>) {
        if let Some(address) = address_of(&sockets) {
            self.reserved.insert(address, sockets);
        }
    }

    /// Addresses that are served, with their listeners' names.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (SocketAddr, &Name)> {
        self.serving.iter().map(|(address, serving)| (*address, &serving.name))
    }

    /// Opens what the generation has and closes what it has not.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, workers: &Workers<Message>) {
        if self.closed || self.held {
            return;
        }
        let mut wanted: HashMap<SocketAddr, Arc<Listener>> = HashMap::new();
        for listener in snapshot.listeners.values().filter(|listener| listener.bind_to_port) {
            for address in &listener.addresses {
                wanted.insert(*address, listener.clone());
            }
        }
        let gone: Vec<SocketAddr> =
            self.serving.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
            if let Some(serving) = self.serving.remove(&address) {
                workers.tell_all(|_| Message::Refuse(address));
                self.drain(workers, &Leaving::Listener(serving.name));
            }
        }
        self.follow_redirected(snapshot, workers);
        self.failed.retain(|address, _| wanted.contains_key(address));
        for (address, listener) in wanted {
            let serving = self.serving.get(&address);
            if let Some(serving) = serving.filter(|serving| serving.name == listener.name) {
                // The same address: new connections are served by the new listener, and those that it would serve
                // otherwise are asked to come again. Routes that come by name change without this.
                if !Arc::ptr_eq(&serving.listener, &listener) {
                    self.drain(workers, &Leaving::Changed(listener.clone()));
                }
                if let Some(serving) = self.serving.get_mut(&address) {
                    serving.listener = listener;
                }
                continue;
            }
            match self.open(address, &listener, workers) {
                Ok(()) => {
                    if self.failed.remove(&address).is_some() {
                        tracing::warn!(listener = %listener.name, %address, "listening now");
                    }
                }
                // A machine without IPv6 has nobody who could come that way.
                Err(error) if other_family(address, &listener, &error) => {}
                Err(error) => {
                    let reason = heddle_runtime::cannot_listen(
                        address,
                        &format!("listener {}", listener.name),
                        &error,
                    );
                    if self.failed.get(&address).is_none_or(|failed| failed.reason != reason) {
                        tracing::error!("{reason}; the other listeners go on, and this one is tried again");
                    }
                    self.failed.insert(address, Failed { listener: listener.name.clone(), reason });
                }
            }
        }
    }

    /// Listeners that have no socket of their own: connections are handed to them by where they were going.
    fn follow_redirected(&mut self, snapshot: &Snapshot, workers: &Workers<Message>) {
        let behind = snapshot.listeners.values().filter(|listener| !listener.bind_to_port);
        let now: HashMap<Name, Arc<Listener>> =
            behind.map(|listener| (listener.name.clone(), listener.clone())).collect();
        for (name, before) in std::mem::take(&mut self.redirected) {
            match now.get(&name) {
                Some(listener) if Arc::ptr_eq(listener, &before) => {}
                Some(listener) => self.drain(workers, &Leaving::Changed(listener.clone())),
                None => self.drain(workers, &Leaving::Listener(name)),
            }
        }
        self.redirected = now;
    }

    fn drain(&self, workers: &Workers<Message>, leaving: &Leaving) {
        workers.tell_all(|_| Message::Drain(leaving.clone(), self.drain_time));
    }

    /// Why a listener could not listen if it came into force now: what failed, where, what to do.
    pub(crate) fn obstacle(&self, listener: &Listener) -> Option<String> {
        let addresses = listener.addresses.iter().filter(|_| listener.bind_to_port);
        addresses
            .filter(|address| {
                !self.reserved.contains_key(address) && !self.own_ports.contains(&address.port())
            })
            .find_map(|address| {
                let options = Options { transparent: listener.transparent, freebind: listener.freebind };
                let tried = ensure_free(*address).and_then(|()| bind(*address, 1, options));
                let what = format!("listener {}", listener.name);
                let failed = tried.err().filter(|error| !other_family(*address, listener, error));
                failed.map(|error| heddle_runtime::cannot_listen(*address, &what, &error))
            })
    }

    fn open(
        &mut self,
        address: SocketAddr,
        listener: &Arc<Listener>,
        workers: &Workers<Message>,
    ) -> io::Result<()> {
        let ready = self.reserved.remove(&address).or_else(|| self.offered.remove(&address));
        let sockets = match ready {
            Some(sockets) => {
                let options = Options { transparent: listener.transparent, freebind: listener.freebind };
                enough(sockets, address, workers.len(), options)
            }
            None => match &self.captured {
                Some((network, outbound)) if outbound.contains(&address) => {
                    network.outbound(address, workers.len())?
                }
                _ => {
                    let options = Options { transparent: listener.transparent, freebind: listener.freebind };
                    if !self.own_ports.contains(&address.port()) {
                        ensure_free(address)?;
                    }
                    bind(address, workers.len(), options)?
                }
            },
        };
        let backlog = listener.backlog.map_or(BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(BACKLOG));
        for socket in &sockets {
            SockRef::from(socket).listen(backlog)?;
        }
        if let Some(old) = self.serving.remove(&address) {
            workers.tell_all(|_| Message::Refuse(address));
            self.drain(workers, &Leaving::Listener(old.name));
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            // With more sockets than workers some worker accepts from several: nobody else would.
            let worker = index % workers.len().max(1);
            workers.tell(worker, Message::Accept { listener: listener.name.clone(), socket: socket.into() });
        }
        self.own_ports.insert(address.port());
        let serving = Serving { listener: listener.clone(), name: listener.name.clone() };
        self.serving.insert(address, serving);
        Ok(())
    }

    /// `None`: connections of listeners that changed or went may stay for ever.
    pub(crate) fn drain_after(&mut self, time: Option<Duration>) {
        self.drain_time = time;
    }

    /// Takes what a predecessor listens on; nothing happens to it before [`Sockets::go_on`].
    pub(crate) fn inherit(&mut self, sockets: HashMap<SocketAddr, Vec<Socket>>) {
        self.own_ports.extend(sockets.keys().chain(self.reserved.keys()).map(SocketAddr::port));
        self.offered = sockets;
        self.held = true;
    }

    /// Opens and closes nothing from now on.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// Follows the configuration again.
    pub(crate) fn go_on(&mut self, snapshot: &Snapshot, workers: &Workers<Message>) {
        self.held = false;
        self.follow(snapshot, workers);
    }

    /// The addresses whose sockets this process has; it closes those of its predecessor that no listener wants.
    pub(crate) fn taken(&mut self) -> Vec<SocketAddr> {
        self.offered.clear();
        self.serving.keys().chain(self.reserved.keys()).copied().collect()
    }

    /// Copies of what is bound and not accepted from.
    pub(crate) fn lend(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let all =
            self.reserved.iter().flat_map(|(address, sockets)| sockets.iter().map(move |s| (address, s)));
        all.map(|(address, socket)| Ok((*address, socket.try_clone()?.into()))).collect()
    }

    /// Leaves the sockets of these addresses to another process, and closes the others.
    pub(crate) fn leave_to(&mut self, taken: &[SocketAddr], workers: &Workers<Message>) {
        for address in taken {
            if self.serving.remove(address).is_some() {
                workers.tell_all(|_| Message::Leave(*address));
            }
        }
        self.close(workers);
    }

    /// Closes every listening socket, for good.
    pub(crate) fn close(&mut self, workers: &Workers<Message>) {
        self.closed = true;
        for address in self.serving.drain().map(|(address, _)| address) {
            workers.tell_all(|_| Message::Refuse(address));
        }
        self.reserved.clear();
    }
}
