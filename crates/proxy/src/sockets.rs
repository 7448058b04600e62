//! Listening sockets: bound before configuration arrives, handed to the workers when a listener wants their address.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_runtime::Workers;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::WorkloadNetwork;
use crate::conn::registry::Wish;
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
            socket.set_ip_transparent_v4(true)?;
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
    /// Addresses that could not be bound, and why; tried again with each generation and by [`Sockets::follow`].
    pub(crate) failed: BTreeMap<SocketAddr, Failed>,
    /// Ports that this process has opened: another socket on one of them may be its own.
    own_ports: HashSet<u16>,
    /// Where captured connections come from, if that is another network, and at which addresses there.
    captured: Option<(Arc<dyn WorkloadNetwork>, Vec<SocketAddr>)>,
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
        if self.closed {
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
                workers.tell_all(|_| Message::Wish(Wish::Drain, Some(serving.name.clone())));
            }
        }
        self.failed.retain(|address, _| wanted.contains_key(address));
        for (address, listener) in wanted {
            let serving = self.serving.get(&address);
            if let Some(serving) = serving.filter(|serving| serving.name == listener.name) {
                // The same address: new connections are served by the new listener, those of the old one are asked
                // to come again. Routes that come by name change without this.
                if !Arc::ptr_eq(&serving.listener, &listener) {
                    workers.tell_all(|_| Message::Wish(Wish::Drain, Some(listener.name.clone())));
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
                tried.err().map(|error| heddle_runtime::cannot_listen(*address, &what, &error))
            })
    }

    fn open(
        &mut self,
        address: SocketAddr,
        listener: &Arc<Listener>,
        workers: &Workers<Message>,
    ) -> io::Result<()> {
        let reserved = self.reserved.remove(&address);
        let sockets = match reserved {
            Some(sockets) => sockets,
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
            workers.tell_all(|_| Message::Wish(Wish::Drain, Some(old.name.clone())));
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            workers.tell(index, Message::Accept { listener: listener.name.clone(), socket: socket.into() });
        }
        self.own_ports.insert(address.port());
        let serving = Serving { listener: listener.clone(), name: listener.name.clone() };
        self.serving.insert(address, serving);
        Ok(())
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
