//! Listening sockets: bound before configuration arrives, handed to the workers when a listener wants their address.

mod pipe;
mod tcp;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::Workers;
use socket2::{SockRef, Socket};

use self::pipe::Pipe;
use self::tcp::enough;
pub(crate) use self::tcp::{Options, address_of, bind, ensure_free};
use crate::config::WorkloadNetwork;
use crate::conn::registry::Leaving;
use crate::snapshot::{Address, Listener, Name, Snapshot};
use crate::worker::run::Message;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a socket that is to be closed waits for those who have begun to connect: several round trips within a region.
/// Who begins in that time is refused a second later, when the client's system asks again.
const HANDSHAKES: Duration = Duration::from_millis(10);

/// Whether `[::]` stands beside `0.0.0.0` on a machine whose kernel knows no IPv6.
fn other_family(address: Address, listener: &Listener, error: &io::Error) -> bool {
    let Some(address) = address.socket() else { return false };
    let unknown = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].contains(&error.raw_os_error().unwrap_or(0));
    let also = |other: SocketAddr| other.is_ipv4() && other.ip().is_unspecified();
    let mut others = listener.addresses.iter().filter_map(|other| other.socket());
    unknown && address.is_ipv6() && address.ip().is_unspecified() && others.any(also)
}

/// Why a listener cannot listen, and what to do.
fn cannot_listen(address: Address, listener: &Listener, error: &io::Error) -> String {
    let what = format!("listener {}", listener.name);
    match address {
        Address::Ip(at) => heddle_runtime::cannot_listen(at, &what, error),
        Address::Pipe(path) => pipe::cannot_listen(path, &what, error),
    }
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

fn refuse(workers: &Workers<Message>, address: Address, handshakes: Duration, listener: &Arc<Listener>) {
    workers.tell_all(|_| Message::Refuse { address, handshakes, listener: listener.clone() });
}

/// An address that is served now.
#[derive(Debug)]
struct Serving {
    listener: Arc<Listener>,
    name: Name,
    /// Its Unix socket.
    pipe: Option<Pipe>,
}

impl Serving {
    /// Another version of its listener.
    fn follow(&mut self, address: Address, listener: Arc<Listener>) {
        let mode = listener.mode(address);
        if let Some(pipe) = self.pipe.as_ref().filter(|_| mode != self.listener.mode(address))
            && let Err(error) = pipe.set_mode(mode)
        {
            tracing::warn!(%address, %error, "the socket's mode cannot be changed");
        }
        self.listener = listener;
    }
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
    reserved: HashMap<Address, Vec<Socket>>,
    serving: HashMap<Address, Serving>,
    /// Listeners without a socket, as of the last generation.
    redirected: HashMap<Name, Arc<Listener>>,
    /// How long connections of listeners that changed or went may stay.
    drain_time: Option<Duration>,
    /// Addresses that could not be bound, and why; tried again with each generation and by [`Sockets::follow`].
    pub(crate) failed: BTreeMap<Address, Failed>,
    /// Ports that this process has opened: another socket on one of them may be its own.
    own_ports: HashSet<u16>,
    /// Where captured connections come from, if that is another network, and at which addresses there.
    captured: Option<(Arc<dyn WorkloadNetwork>, Vec<SocketAddr>)>,
    /// Listening sockets of a predecessor that no flag has claimed: for the listeners that want their addresses.
    offered: HashMap<Address, Vec<Socket>>,
    /// Nothing is opened or closed for the time being: another process is about to take over, or has not let go yet.
    held: bool,
    /// What was inherited is the predecessor's yet.
    borrowed: bool,
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
            self.reserved.insert(address.into(), sockets);
        }
    }

    /// Addresses that are served, with their listeners' names.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (Address, &Name)> {
        self.serving.iter().map(|(address, serving)| (*address, &serving.name))
    }

    /// Opens what the generation has and closes what it has not.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, workers: &Workers<Message>) {
        if self.closed || self.held {
            return;
        }
        let mut wanted: HashMap<Address, Arc<Listener>> = HashMap::new();
        for listener in snapshot.listeners.values().filter(|listener| listener.bind_to_port) {
            for address in &listener.addresses {
                wanted.insert(*address, listener.clone());
            }
        }
        let gone: Vec<Address> =
            self.serving.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
            if let Some(serving) = self.serving.remove(&address) {
                self.remove_file(&serving);
                refuse(workers, address, HANDSHAKES, &serving.listener);
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
                    serving.follow(address, listener);
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
                    let reason = cannot_listen(address, &listener, &error);
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
        addresses.filter(|address| !self.has(address)).find_map(|address| {
            let tried = match address {
                Address::Ip(at) => {
                    ensure_free(*at).and_then(|()| bind(*at, 1, Options::of(listener)).map(drop))
                }
                pipe => Pipe::open(*pipe, listener.mode(*pipe)).map(|opened| opened.remove()),
            };
            let failed = tried.err().filter(|error| !other_family(*address, listener, error));
            failed.map(|error| cannot_listen(*address, listener, &error))
        })
    }

    /// Whether this process has an address, or may have it.
    fn has(&self, address: &Address) -> bool {
        match address {
            Address::Ip(at) => self.reserved.contains_key(address) || self.own_ports.contains(&at.port()),
            Address::Pipe(_) => self.serving.contains_key(address) || self.offered.contains_key(address),
        }
    }

    /// The sockets of an address, one for each worker.
    fn sockets(&mut self, at: SocketAddr, listener: &Listener, count: usize) -> io::Result<Vec<Socket>> {
        let (address, options) = (Address::Ip(at), Options::of(listener));
        if let Some(ready) = self.reserved.remove(&address).or_else(|| self.offered.remove(&address)) {
            return Ok(enough(ready, at, count, options));
        }
        match &self.captured {
            Some((network, outbound)) if outbound.contains(&at) => network.outbound(at, count),
            _ => {
                if !self.own_ports.contains(&at.port()) {
                    ensure_free(at)?;
                }
                bind(at, count, options)
            }
        }
    }

    /// The Unix socket of a path: that of the listener which had it before, a predecessor's, or a new one.
    fn pipe(&mut self, address: Address, path: &'static str, listener: &Listener) -> io::Result<Pipe> {
        let before = self.serving.get(&address).and_then(|serving| serving.pipe.as_ref());
        let offered = self.offered.remove(&address).and_then(|all| all.into_iter().next());
        let pipe = match (before, offered) {
            (Some(before), _) => before.try_clone()?,
            (None, Some(socket)) => Pipe::of(socket, path),
            (None, None) => return Pipe::open(address, listener.mode(address)),
        };
        pipe.set_mode(listener.mode(address))?;
        Ok(pipe)
    }

    /// The file of a Unix socket goes with it, unless it is a predecessor's yet.
    fn remove_file(&self, serving: &Serving) {
        if let Some(pipe) = serving.pipe.as_ref().filter(|_| !self.borrowed) {
            pipe.remove();
        }
    }

    fn open(
        &mut self,
        address: Address,
        listener: &Arc<Listener>,
        workers: &Workers<Message>,
    ) -> io::Result<()> {
        let (sockets, pipe) = match address {
            Address::Ip(at) => (self.sockets(at, listener, workers.len())?, None),
            Address::Pipe(path) => {
                let pipe = self.pipe(address, path, listener)?;
                (pipe.copies(workers.len())?, Some(pipe))
            }
        };
        let backlog = listener.backlog.map_or(BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(BACKLOG));
        for socket in &sockets {
            SockRef::from(socket).listen(backlog)?;
        }
        if let Some(old) = self.serving.remove(&address) {
            // The new sockets get what the old ones do not hear.
            refuse(workers, address, Duration::ZERO, &old.listener);
            self.drain(workers, &Leaving::Listener(old.name));
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            // With more sockets than workers some worker accepts from several: nobody else would.
            let worker = index % workers.len().max(1);
            workers.tell(
                worker,
                Message::Accept { listener: listener.name.clone(), address, socket: socket.into() },
            );
        }
        self.own_ports.extend(address.port());
        let serving = Serving { listener: listener.clone(), name: listener.name.clone(), pipe };
        self.serving.insert(address, serving);
        Ok(())
    }

    /// `None`: connections of listeners that changed or went may stay for ever.
    pub(crate) fn drain_after(&mut self, time: Option<Duration>) {
        self.drain_time = time;
    }

    /// Takes what a predecessor listens on; nothing happens to it before [`Sockets::go_on`].
    pub(crate) fn inherit(&mut self, sockets: HashMap<Address, Vec<Socket>>) {
        self.own_ports.extend(sockets.keys().chain(self.reserved.keys()).filter_map(|at| at.port()));
        self.offered = sockets;
        (self.held, self.borrowed) = (true, true);
    }

    /// What the predecessor listened on is this process' own from now on.
    pub(crate) fn own(&mut self) {
        self.borrowed = false;
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
    pub(crate) fn taken(&mut self) -> Vec<Address> {
        self.offered.clear();
        self.serving.keys().chain(self.reserved.keys()).copied().collect()
    }

    /// Copies of what is bound and not accepted from.
    pub(crate) fn lend(&self) -> io::Result<Vec<(Address, OwnedFd)>> {
        let all =
            self.reserved.iter().flat_map(|(address, sockets)| sockets.iter().map(move |s| (address, s)));
        all.map(|(address, socket)| Ok((*address, socket.try_clone()?.into()))).collect()
    }

    /// Leaves the sockets of these addresses to another process, and closes the others.
    pub(crate) fn leave_to(&mut self, taken: &[Address], workers: &Workers<Message>) {
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
        for (address, serving) in std::mem::take(&mut self.serving) {
            self.remove_file(&serving);
            refuse(workers, address, HANDSHAKES, &serving.listener);
        }
        self.reserved.clear();
    }
}
