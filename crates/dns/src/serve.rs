//! The sockets: UDP and TCP on one port of each address, bounded in everything an asker can make us hold.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    ForwardError, Forwarder, Names, Outside, Reply, Transport,
    reply::{Chase, fit, refusal, reply},
    server_failure,
};

/// TCP connections at most, of each address; more wait in the listener's backlog.
const CONNECTIONS: usize = 128;
/// A TCP asker that sends nothing, or does not read, for so long is let go (RFC 7766 asks for seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Forwarded UDP questions held at most; the same bound the forwarder has.
const FORWARDS: usize = 1024;

/// The namespace of whoever asks from this address; `None`: the table's own.
pub type AskerNamespace = dyn Fn(IpAddr) -> Option<Arc<str>> + Send + Sync;

/// The sockets of a server, bound but not yet served.
pub struct Server {
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

impl Server {
    /// Binds UDP and TCP to one port; port 0 finds one that both have free.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { 16 } else { 1 };
        loop {
            attempts -= 1;
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => return Ok(Self { udp: vec![udp], tcp: vec![tcp] }),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Takes sockets that were bound elsewhere, in another network namespace for instance; the TCP ones listen.
    pub fn of(sockets: Vec<(std::net::UdpSocket, std::net::TcpListener)>) -> io::Result<Self> {
        let (mut all_udp, mut all_tcp) = (Vec::new(), Vec::new());
        for (udp, tcp) in sockets {
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            all_udp.push(UdpSocket::from_std(udp)?);
            all_tcp.push(TcpListener::from_std(tcp)?);
        }
        Ok(Self { udp: all_udp, tcp: all_tcp })
    }

    /// The first address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// How to serve.
pub struct ServerConfig {
    /// The resolvers for everything else; `None`: everything else is REFUSED, as a server that strangers
    /// can reach should.
    pub forwarder: Option<Arc<Forwarder>>,
    /// Default: the namespace in the table.
    pub asker: Option<Arc<AskerNamespace>>,
    /// Whether resolvers may be asked for unknown names of the cluster domain. `None`: when their
    /// resolv.conf searches it.
    pub outside: Option<Outside>,
    /// Default `cluster.local`.
    pub cluster_domain: String,
    pub counters: Arc<Counters>,
    /// How long what was asked before the shutdown may still be answered. Default: not at all.
    pub linger: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            forwarder: None,
            asker: None,
            outside: None,
            cluster_domain: "cluster.local".to_owned(),
            counters: Arc::default(),
            linger: Duration::ZERO,
        }
    }
}

/// What was asked and what became of it. `istio_dns_requests_total` and its kin.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub answered: AtomicU64,
    pub upstream_requests: AtomicU64,
    pub upstream_failures: AtomicU64,
    pub dropped: AtomicU64,
}

struct Shared {
    names: watch::Receiver<Arc<Names>>,
    config: ServerConfig,
    /// Seeds the shuffles: a counter is enough, it need not be secret.
    turn: AtomicU64,
}

/// Serves until `shutdown` resolves, then receives no more and answers what it has for [`ServerConfig::linger`]. The newest names are used from one question to the next.
pub async fn serve(
    server: Server,
    names: watch::Receiver<Arc<Names>>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) {
    let linger = config.linger;
    let shared = Arc::new(Shared { names, config, turn: AtomicU64::new(0) });
    let (stop, stopped) = watch::channel(());
    // What was spawned ends with the set.
    let mut serving = tokio::task::JoinSet::new();
    for socket in server.udp {
        serving.spawn(serve_udp(Arc::new(socket), shared.clone(), stopped.clone()));
    }
    for listener in server.tcp {
        serving.spawn(serve_tcp(listener, shared.clone(), stopped.clone()));
    }
    shutdown.await;
    drop(stop);
    let rest = async { while serving.join_next().await.is_some() {} };
    let _ = timeout(linger, rest).await;
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let forwards = Arc::new(Semaphore::new(FORWARDS));
    let mut tasks = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // Finished forwards are taken away as they come; they end with the server, too.
        while tasks.try_join_next().is_some() {}
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = stopped.changed() => break,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            // An earlier answer met a closed port; that asker is gone, the socket is not.
            Err(error) => {
                debug!(%error, "DNS socket");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let packet = &buffer[..length];
        match shared.reply(packet, peer, Transport::Udp).await {
            Reply::Drop => {}
            Reply::Packet(answer) => send(&socket, &answer, peer).await,
            ahead => match forwards.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (socket, shared, packet) = (socket.clone(), shared.clone(), packet.to_vec());
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Some(answer) = shared.ahead(ahead, &packet, Transport::Udp).await {
                            send(&socket, &answer, peer).await;
                        }
                    });
                }
                Err(_) => {
                    shared.config.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = server_failure(packet) {
                        send(&socket, &answer, peer).await;
                    }
                }
            },
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        debug!(%peer, %error, "DNS answer not sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.changed() => break,
        };
        let Ok(place) = place else { return };
        match accepted {
            Ok((stream, peer)) => {
                let shared = shared.clone();
                tasks.spawn(async move {
                    let _place = place;
                    if let Err(error) = serve_connection(stream, peer, &shared).await {
                        debug!(%peer, %error, "DNS connection");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: give the others time to end.
                warn!(%error, "DNS connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Another process may accept from the same socket.
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn serve_connection(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    loop {
        let packet = match timeout(IDLE, read_packet(&mut stream)).await {
            Ok(Ok(Some(packet))) => packet,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        let answer = match shared.reply(&packet, peer, Transport::Tcp).await {
            Reply::Drop => return Ok(()),
            Reply::Packet(answer) => Some(answer),
            ahead => shared.ahead(ahead, &packet, Transport::Tcp).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// The next message; `None` when the asker has closed between messages.
async fn read_packet(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}

impl Shared {
    async fn reply(&self, packet: &[u8], peer: SocketAddr, transport: Transport) -> Reply {
        let counters = &self.config.counters;
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let names = self.names.borrow().clone();
        let asker = self.config.asker.as_ref().and_then(|asker| asker(peer.ip()));
        let asker = asker.or_else(|| names.namespace().cloned());
        let random = self.turn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let outside = self.outside().await;
        let reply = reply(packet, &names, asker.as_deref(), outside, transport, random);
        let counter = match reply {
            Reply::Packet(_) => &counters.answered,
            Reply::Forward | Reply::Chase(_) => &counters.upstream_requests,
            Reply::Drop => &counters.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        reply
    }

    async fn outside(&self) -> Outside {
        if let Some(outside) = self.config.outside {
            return outside;
        }
        let Some(forwarder) = &self.config.forwarder else { return Outside::Absent };
        match forwarder.conf().await {
            Ok(conf) if conf.knows(&self.config.cluster_domain) => Outside::Forward,
            _ => Outside::Absent,
        }
    }

    /// What needs the resolvers.
    async fn ahead(&self, reply: Reply, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match reply {
            Reply::Chase(chase) => self.chase(&chase).await,
            _ => self.forward(packet, transport).await,
        }
    }

    /// The aliases with what the resolvers have for the last of them.
    async fn chase(&self, chase: &Chase) -> Option<Vec<u8>> {
        let Some(forwarder) = &self.config.forwarder else { return chase.finish(None) };
        match forwarder.forward(&chase.question).await {
            Ok(told) => chase.finish(Some(&told)),
            Err((_, error)) => {
                self.config.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
                debug!(%error, "DNS question not forwarded");
                chase.finish(None)
            }
        }
    }

    /// The resolvers' answer, cut to size, or SERVFAIL.
    async fn forward(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let failed = |error: ForwardError| {
            self.config.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
            debug!(%error, "DNS question not forwarded");
        };
        let Some(forwarder) = &self.config.forwarder else { return refusal(packet) };
        match forwarder.forward(packet).await {
            Ok(answer) => fit(packet, answer, transport),
            Err((answer, error)) => {
                failed(error);
                answer
            }
        }
    }
}
