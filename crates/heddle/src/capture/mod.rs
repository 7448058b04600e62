//! A network namespace for one program, in which everything it dials is captured: `heddle run --capture redirect`.
//!
//! Three processes, all of this binary. `heddle run` is the proxy, in the host's namespaces. The *holder* makes the
//! namespace and what belongs to it, then makes sockets there when asked and passes them over: those that the program's
//! connections and questions come to, and those that reach the program. The *entrant* enters the namespace and becomes the
//! program. There is no veth and no address translation towards the host: bytes cross between the namespaces in the proxy
//! alone. When the three have ended, the kernel takes the namespace away; nothing of it was ever in the host's.

mod entrant;
mod holder;
mod loopback;
mod refusal;
mod resolv;
mod rules;
mod sys;
mod wire;

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use heddle_proxy::{NameSockets, SocketFuture, WorkloadNetwork};
use socket2::Socket;
use tokio::sync::mpsc;

use self::wire::{Link, Reply, Request};
pub(crate) use self::{entrant::enter, holder::hold, refusal::Refusal};

/// The namespace's own address, besides loopback. Each namespace has the same; nobody else sees it.
const V4: Ipv4Addr = Ipv4Addr::new(169, 254, 101, 1);
/// A unique local address, for the same purpose.
const V6: Ipv6Addr = Ipv6Addr::new(0xfd68, 0x6564, 0x646c, 0x65, 0, 0, 0, 1);
/// Where redirected connections come to (DESIGN 7.2).
const OUTBOUND_PORT: u16 = 15001;
/// Where questions for names come to (DESIGN 7.2).
const NAMES_PORT: u16 = 15053;
/// Sockets that are ready for connections to the program.
const STOCK: usize = 16;

/// A network namespace that is ready for its program.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Holder,
    resolv_conf: PathBuf,
    user: bool,
    ipv6: bool,
    stock: Arc<tokio::sync::Mutex<mpsc::Receiver<io::Result<Socket>>>>,
}

/// The holder's process and the link to it. Dropping it ends the process.
#[derive(Debug)]
struct Holder {
    link: Arc<Mutex<Link>>,
    process: Child,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It keeps nothing that it would have to put in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Namespace {
    /// Makes a namespace for a workload of a mesh namespace; its files are kept in `scratch`, as long as it is.
    ///
    /// # Errors
    /// What failed, why, and what to do about it.
    pub(crate) fn open(scratch: &Path, namespace: &str, cluster_domain: &str) -> Result<Self, Refusal> {
        let refused = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| refusal(step, error, false)
        };
        let resolv_conf = scratch.join("resolv.conf");
        let host = fs::read_to_string("/etc/resolv.conf").map_err(refused("reading /etc/resolv.conf"))?;
        let text = resolv::text(&host, namespace, cluster_domain);
        fs::write(&resolv_conf, text)
            // Whoever the program becomes may read it, whatever the umask is here.
            .and_then(|()| fs::set_permissions(&resolv_conf, fs::Permissions::from_mode(0o644)))
            .map_err(refused("writing a resolv.conf for CMD"))?;
        let (link, other) = Link::pair().map_err(refused("making a pair of sockets"))?;
        let holder = Self::start(&resolv_conf, other).map_err(refused("starting a second process"))?;
        let holder = Holder { link: Arc::new(Mutex::new(link)), process: holder };
        let (user, ipv6) = holder.ready()?;
        let (sender, stock) = mpsc::channel(STOCK);
        let link = holder.link.clone();
        std::thread::Builder::new()
            .name("heddle-sockets".to_owned())
            .spawn(move || fill(&link, &sender))
            .map_err(refused("starting a thread"))?;
        Ok(Self { holder, resolv_conf, user, ipv6, stock: Arc::new(tokio::sync::Mutex::new(stock)) })
    }

    fn start(resolv_conf: &Path, link: OwnedFd) -> io::Result<Child> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("/proc/self/exe");
        command.arg("namespace-hold").arg("--resolv-conf").arg(resolv_conf);
        if host_reaches_ipv6() {
            command.arg("--ipv6");
        }
        // A group of its own: Ctrl-C is for the program, which may need its network to end well.
        command.process_group(0).stdin(Stdio::from(link)).stdout(Stdio::null()).spawn()
    }

    /// A command that runs `command` in the namespace, as a child of this process.
    pub(crate) fn command(&self, command: &[String]) -> Command {
        let mut entrant = Command::new("/proc/self/exe");
        entrant.arg("namespace-enter").arg("--resolv-conf").arg(&self.resolv_conf);
        entrant.arg("--holder").arg(self.holder.process.id().to_string());
        entrant.arg("--parent").arg(std::process::id().to_string());
        if self.user {
            entrant.arg("--user");
        }
        entrant.arg("--").args(command);
        entrant
    }

    /// The addresses that captured connections come to.
    pub(crate) fn outbound(&self) -> Vec<(Option<String>, SocketAddr)> {
        self.addresses(OUTBOUND_PORT).into_iter().map(|address| (None, address)).collect()
    }

    /// The address that questions for names come to.
    pub(crate) fn dns() -> SocketAddr {
        SocketAddr::new(V4.into(), NAMES_PORT)
    }

    fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let ips = [Some(IpAddr::V4(V4)), self.ipv6.then_some(IpAddr::V6(V6))];
        ips.into_iter().flatten().map(|ip| SocketAddr::new(ip, port)).collect()
    }
}

impl Holder {
    /// Waits until the namespace is ready. Says whether it has a user namespace, and whether IPv6 is captured.
    fn ready(&self) -> Result<(bool, bool), Refusal> {
        let step = "making a network namespace for CMD";
        let received = self.link.lock().unwrap_or_else(PoisonError::into_inner).receive::<Reply>();
        match received {
            Ok(Some((Reply::Ready { user, ipv6 }, _))) => Ok((user, ipv6)),
            Ok(Some((Reply::Failed { step, cause, denied }, _))) => Err(refusal(step, cause, denied)),
            Ok(Some(_)) => Err(refusal(step, "the process that makes it said something else", false)),
            Ok(None) => Err(refusal(step, "the process that makes it has ended", false)),
            Err(error) => Err(refusal(step, error, false)),
        }
    }
}

fn refusal(step: impl Into<String>, cause: impl std::fmt::Display, denied: bool) -> Refusal {
    let read = |path: &str| {
        let mut text = String::new();
        fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).ok().map(|_| text)
    };
    Refusal::new(step, cause, denied, read)
}

/// Whether this machine has a way to IPv6 addresses. Where it has none the program must not have one either: its
/// connections would seem to succeed, and it would not try IPv4. Nothing is sent: connecting a datagram socket only chooses
/// the way.
fn host_reaches_ipv6() -> bool {
    let documentation = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect(documentation)).is_ok()
}

fn ask(link: &Mutex<Link>, request: &Request) -> io::Result<Vec<OwnedFd>> {
    let link = link.lock().unwrap_or_else(PoisonError::into_inner);
    link.send(request, &[])?;
    match link.receive::<Reply>()? {
        Some((Reply::Sockets, sockets)) => Ok(sockets),
        Some((Reply::Refused { code }, _)) => Err(io::Error::from_raw_os_error(code)),
        Some((Reply::Ready { .. } | Reply::Failed { .. }, _)) => Err(io::ErrorKind::InvalidData.into()),
        None => Err(gone()),
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that makes sockets in CMD's network namespace has ended")
}

/// Keeps the stock full until nobody wants it any more.
fn fill(link: &Mutex<Link>, stock: &mpsc::Sender<io::Result<Socket>>) {
    loop {
        let made = ask(link, &Request::Streams { count: STOCK / 2 });
        let made = match made {
            Ok(sockets) => sockets.into_iter().map(|socket| Ok(Socket::from(socket))).collect(),
            Err(error) => vec![Err(error)],
        };
        for socket in made {
            if stock.blocking_send(socket).is_err() {
                return;
            }
        }
    }
}

impl WorkloadNetwork for Namespace {
    fn outbound(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
        let sockets = ask(&self.holder.link, &Request::Outbound { address, count })?;
        Ok(sockets.into_iter().map(Socket::from).collect())
    }

    fn names(&self, address: SocketAddr) -> io::Result<Vec<NameSockets>> {
        let addresses = self.addresses(address.port());
        let mut sockets = ask(&self.holder.link, &Request::Names { addresses })?.into_iter();
        let mut pairs = Vec::new();
        while let (Some(udp), Some(tcp)) = (sockets.next(), sockets.next()) {
            pairs.push((udp.into(), tcp.into()));
        }
        Ok(pairs)
    }

    fn stream(&self, to: SocketAddr) -> SocketFuture {
        let stock = self.stock.clone();
        Box::pin(async move {
            if !to.is_ipv4() {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "CMD is reached by IPv4 only"));
            }
            stock.lock().await.recv().await.unwrap_or_else(|| Err(gone()))
        })
    }
}
