//! The side of the process that takes over.

use std::collections::HashMap;
use std::io::{self, Read as _, Seek as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::link::{Door, Link};
use super::{Answer, DOOR, GREETING, Handed, Hello, Kind, PROTOCOL, READY_WITHIN, Ready, Welcome};
use crate::config::{Bound, NameSockets};
use crate::run::Plane;
use crate::snapshot::Address;

/// How often readiness is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What a running proxy gave to this process, which is not this process' own before [`Inherited::ready`].
#[derive(Debug)]
pub(crate) struct Inherited {
    link: Link,
    pub(crate) welcome: Welcome,
    listeners: HashMap<Address, Vec<Socket>>,
    /// All addresses in `listeners`, claimed or not.
    addresses: Vec<Address>,
    admin: Vec<(SocketAddr, TcpListener)>,
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    door: Option<OwnedFd>,
    /// The configuration in force, if there was one.
    pub(crate) configuration: Option<Vec<u8>>,
}

/// Asks the proxy that runs with this data directory to hand over; `None` when there is none.
///
/// # Errors
/// Its refusal, or why it cannot be asked.
pub(crate) async fn take(dir: &Path, version: &str) -> Result<Option<Inherited>, String> {
    let path = dir.join(DOOR);
    let link = match Link::connect(&path) {
        Ok(link) => link,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let asked = tokio::time::timeout(GREETING, ask(link, version)).await;
    match asked {
        Ok(Ok(inherited)) => inherited.map(Some),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not hand over within {GREETING:?}")),
    }
}

async fn ask(link: Link, version: &str) -> io::Result<Result<Inherited, String>> {
    if !link.is_ours()? {
        return Ok(Err("it belongs to another user".to_owned()));
    }
    let hello = Hello { protocol: PROTOCOL, version: version.to_owned(), pid: std::process::id() };
    link.send(&hello, &[]).await?;
    let welcome = match next(&link).await? {
        (Answer::Welcome(welcome), _) => welcome,
        (Answer::Refused { reason, .. }, _) => return Ok(Err(reason)),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut inherited = Inherited {
        link,
        welcome,
        listeners: HashMap::new(),
        addresses: Vec::new(),
        admin: Vec::new(),
        udp: Vec::new(),
        tcp: Vec::new(),
        door: None,
        configuration: None,
    };
    loop {
        match next(&inherited.link).await? {
            (Answer::Sockets(described), descriptors) => {
                if described.len() != descriptors.len() {
                    return Err(io::Error::other("not every descriptor arrived"));
                }
                for (handed, descriptor) in described.iter().zip(descriptors) {
                    inherited.add(handed, descriptor)?;
                }
            }
            (Answer::Done, _) => {
                inherited.addresses = inherited.listeners.keys().copied().collect();
                return Ok(Ok(inherited));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

async fn next(link: &Link) -> io::Result<(Answer, Vec<OwnedFd>)> {
    link.receive().await?.ok_or_else(|| io::Error::other("it closed the connection"))
}

impl Inherited {
    fn add(&mut self, handed: &Handed, descriptor: OwnedFd) -> io::Result<()> {
        match (handed.kind, handed.address) {
            (Kind::Listener, Some(address)) => {
                self.listeners.entry(address).or_default().push(Socket::from(descriptor));
            }
            (Kind::Admin, Some(Address::Ip(address))) => self.admin.push((address, descriptor.into())),
            (Kind::NamesUdp, Some(Address::Ip(address))) => self.udp.push((address, descriptor.into())),
            (Kind::NamesTcp, Some(Address::Ip(address))) => self.tcp.push((address, descriptor.into())),
            (Kind::Door, _) => self.door = Some(descriptor),
            (Kind::Configuration, _) => {
                let mut file = std::fs::File::from(descriptor);
                let mut bytes = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                self.configuration = Some(bytes);
            }
            (kind, _) => return Err(io::Error::other(format!("{kind:?} without an address of its kind"))),
        }
        Ok(())
    }

    /// The address that stands for one of this process' flags: itself, or the port that the predecessor chose for port 0.
    pub(crate) fn chosen(
        &self,
        address: SocketAddr,
        of: impl FnOnce(&Bound) -> Option<SocketAddr>,
    ) -> SocketAddr {
        let before = of(&self.welcome.bound).filter(|before| before.ip() == address.ip());
        before.filter(|_| address.port() == 0).unwrap_or(address)
    }

    /// The sockets of one address.
    pub(crate) fn listeners(&mut self, address: SocketAddr) -> Option<Vec<Socket>> {
        self.listeners.remove(&address.into())
    }

    /// The sockets that no flag of this process claimed.
    pub(crate) fn others(&mut self) -> HashMap<Address, Vec<Socket>> {
        std::mem::take(&mut self.listeners)
    }

    pub(crate) fn admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.admin.iter().position(|(known, _)| *known == address)?;
        Some(self.admin.swap_remove(at).1)
    }

    /// The sockets for questions, if they are at this address.
    pub(crate) fn names(&mut self, address: SocketAddr) -> Option<Vec<NameSockets>> {
        if !self.udp.iter().any(|(known, _)| *known == address) || self.udp.len() != self.tcp.len() {
            return None;
        }
        let (udp, tcp) = (std::mem::take(&mut self.udp), std::mem::take(&mut self.tcp));
        Some(udp.into_iter().map(|(_, udp)| udp).zip(tcp.into_iter().map(|(_, tcp)| tcp)).collect())
    }

    pub(crate) fn door(&mut self) -> Option<io::Result<Door>> {
        self.door.take().map(Door::of)
    }

    /// Tells the predecessor that this process accepts, and returns when that one does so no more.
    ///
    /// # Errors
    /// When it is still there and has changed its mind.
    pub(crate) async fn ready(self, taken: Vec<Address>) -> Result<(), String> {
        let told = async {
            self.link.send(&Ready { taken }, &[]).await?;
            match next(&self.link).await? {
                (Answer::Yours, _) => Ok(()),
                _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        };
        let told = tokio::time::timeout(GREETING, told).await;
        let error = match told {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {GREETING:?}"),
        };
        // Who has died meanwhile accepts no more either.
        if lives(self.welcome.pid) { Err(error) } else { Ok(()) }
    }
}

impl Plane {
    /// Becomes the proxy in place of another: waits until this process is ready, accepts, and says so.
    pub(crate) async fn take_over(&self, inherited: Inherited) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        // Without a predecessor there is nobody to wait for.
        while !self.readiness.waiting_for().is_empty() && lives(inherited.welcome.pid) {
            if Instant::now() > deadline {
                let missing = self.readiness.waiting_for().join(", ");
                return Err(format!(
                    "this process was not ready within {READY_WITHIN:?}, and waits for {missing}"
                ));
            }
            tokio::time::sleep(POLL).await;
        }
        let snapshot = self.published.load();
        let taken = {
            let mut sockets = self.lock_sockets();
            sockets.go_on(&snapshot, &self.workers);
            let lost = sockets.failed.iter().find(|(address, _)| inherited.addresses.contains(address));
            if let Some((_, failed)) = lost {
                return Err(failed.reason.clone());
            }
            sockets.taken()
        };
        self.settled().await;
        if !inherited.welcome.healthy {
            self.healthy.close();
        }
        inherited.ready(taken).await?;
        self.lock_sockets().own();
        Ok(())
    }
}

/// Whether a process runs: one that has ended and was not waited for does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state stands in parentheses, and may contain some.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
