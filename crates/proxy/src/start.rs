//! The composition root of the data plane: what exists, who knows whom, in which order it starts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heddle_runtime::{Drain, Readiness, Workers};
use heddle_xds::{Client, ClientConfig, Encoded};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::access_log::sink::Writers;
use crate::config::{Bound, Interception, ProxyConfig, WorkloadNetwork};
use crate::disk::Disk;
use crate::feed::Feed;
use crate::handover::{self, Door, Inherited};
use crate::overload::Overload;
use crate::resolve::Resolver;
use crate::run::{End, Lent, Plane, Proxy};
use crate::snapshot::SnapshotBuilder;
use crate::snapshot::disk::{StoredResource, decode};
use crate::sockets::{self, Options, Sockets};
use crate::worker::run::Message;
use crate::worker::{Published, Worker};

/// How long questions that were received are still answered once another process receives them.
const NAMES_LINGER: Duration = Duration::from_secs(10);

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// An address could not be bound.
    #[error("{}", heddle_runtime::cannot_listen(*address, what, error))]
    Bind {
        /// The flag that asked for it.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// A thread or an epoll instance was refused.
    #[error("cannot start workers: {0}; check the limits on threads and open files")]
    Workers(io::Error),
    /// An address off loopback without leave.
    #[error(
        "{what} would listen on {address}, which is not loopback, without TLS; pass --insecure if that is meant"
    )]
    Insecure {
        /// The flag that asked for it.
        what: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The running proxy could not be replaced.
    #[error("cannot take over from the proxy that runs with this data directory: {0}. It serves on")]
    Replace(String),
}

impl Proxy {
    /// Binds, starts the workers, puts the last good configuration in force and connects to the control plane. Where
    /// [`ProxyConfig::replace`] asks for it, the sockets and the configuration come from the proxy that runs, which drains
    /// once this returns. Must be called within a tokio runtime, which becomes the management runtime.
    ///
    /// # Errors
    /// When an address cannot be bound, a worker cannot be started, or a running proxy cannot be replaced: it then serves
    /// on as if nothing had happened.
    pub async fn start(mut config: ProxyConfig) -> Result<Self, ProxyError> {
        if config.name.is_empty() {
            config.name = host_name();
        }
        let files = heddle_runtime::raise_open_files();
        let mut inherited = match &config.data_dir {
            Some(dir) if config.replace => {
                handover::take(dir, &config.version).await.map_err(ProxyError::Replace)?
            }
            _ => None,
        };
        let (end, ended) = watch::channel(None);
        let mut open = Opening::default();
        open.listeners(&config, inherited.as_mut())?;
        let admin = open.admin(&config, inherited.as_mut())?;
        let server = open.names(&config, inherited.as_mut()).await?;
        let door = open.door(&config, inherited.as_mut());
        let Opening { mut sockets, bound, lent } = open;
        if let Some(inherited) = &mut inherited {
            sockets.inherit(inherited.others());
        }
        let overload = Arc::new(Overload::of(&config, files));
        let count = config.worker_count();
        let published = Arc::new(Published::new(overload.clone(), count));
        let workers =
            start_workers(count, &published, config.workload.as_ref()).map_err(ProxyError::Workers)?;
        let published_logs = published.logs.clone();
        let readiness = Readiness::default();
        let configured = readiness.gate("configuration from the control plane or from disk");
        // A workload in a network of its own can ask nobody else.
        let named = config.workload.is_some().then(|| readiness.gate("names from the control plane"));
        let healthy = readiness.gate("/healthcheck/ok");
        healthy.open();
        let sockets = Arc::new(Mutex::new(sockets));

        let mut builder = SnapshotBuilder::new();
        let disk = config.data_dir.as_ref().map(|dir| Disk::new(dir.join("proxy-config.bin")));
        let mut client = ClientConfig::new(config.xds.clone(), config.node(&bound));
        match inherited.as_mut().and_then(|inherited| inherited.configuration.take()) {
            Some(file) => restore(decode(&file), &mut builder, &mut client),
            None => disk.iter().for_each(|disk| restore(disk.load(), &mut builder, &mut client)),
        }
        let (names, tables) = server.as_ref().map(|_| mpsc::unbounded_channel()).unzip();
        let (asks, asked) = mpsc::channel(8);
        let (handle, updates) = Client::connect(client);
        let xds = handle.status();
        let feed = Feed {
            builder,
            published: published.clone(),
            workers: workers.clone(),
            sockets: sockets.clone(),
            asks: asked,
            disk,
            configured,
            named,
            names,
            resolver: Resolver::default(),
            owed: Vec::new(),
            unopened: Default::default(),
        };
        let feed = tokio::spawn(feed.run(handle, updates));
        let before = inherited.as_ref().map(|inherited| inherited.welcome.clone());
        let plane = Arc::new(Plane {
            config,
            bound,
            workers,
            published,
            sockets,
            asks,
            readiness,
            healthy,
            drain: Drain::default(),
            started: Instant::now(),
            xds,
            end,
            successor: Mutex::default(),
            epoch: before.as_ref().map_or(0, |before| before.epoch + 1),
            before: before.map_or(Duration::ZERO, |before| Duration::from_secs(before.uptime)),
            lent: Mutex::new(lent),
        });
        let mut proxy = Self { plane, tasks: Vec::new(), feed, shared: Vec::new() };
        proxy.tasks.push(tokio::spawn(reopen_logs(published_logs)));
        proxy.tasks.push(tokio::spawn(overload.watch(proxy.plane.workers.clone())));
        if let Some(inherited) = inherited
            && let Err(reason) = proxy.plane.take_over(inherited).await
        {
            proxy.stop().await;
            return Err(ProxyError::Replace(reason));
        }
        // What is shared with a predecessor is served from here on.
        if let (Some(server), Some(tables)) = (server, tables) {
            proxy.shared.push(serve_names(server, &proxy.plane.config, tables, ended));
        }
        if let Some(listener) = admin {
            proxy.shared.push(tokio::spawn(crate::admin::serve(listener, proxy.plane.clone())));
        }
        if let Some(door) = door {
            proxy.tasks.push(tokio::spawn(handover::serve(door, proxy.plane.clone())));
        }
        Ok(proxy)
    }
}

/// What is bound so far.
#[derive(Default)]
struct Opening {
    sockets: Sockets,
    bound: Bound,
    lent: Vec<(Lent, std::os::fd::OwnedFd)>,
}

impl Opening {
    fn listeners(
        &mut self,
        config: &ProxyConfig,
        mut inherited: Option<&mut Inherited>,
    ) -> Result<(), ProxyError> {
        let count = config.worker_count();
        self.sockets.drain_after(config.drain_time);
        for (of, address) in &config.outbound {
            let what = "--outbound";
            // What the kernel redirects may arrive anywhere; what is dialled must come from this machine.
            let dialled = config.interception == Interception::None && config.workload.is_none();
            if dialled && !address.ip().is_loopback() && !config.insecure {
                return Err(ProxyError::Insecure { what, address: *address });
            }
            let options =
                Options { transparent: config.interception == Interception::Tproxy, freebind: false };
            let address = inherited.as_ref().map_or(*address, |before| {
                let same =
                    |bound: &Bound| bound.outbound.iter().find(|(known, _)| known == of).map(|(_, at)| *at);
                before.chosen(*address, same)
            });
            let made = match (&config.workload, inherited.as_mut().and_then(|i| i.listeners(address))) {
                (_, Some(inherited)) => Ok(inherited),
                (Some(network), None) => network.outbound(address, count),
                (None, None) => {
                    sockets::ensure_free(address).and_then(|()| sockets::bind(address, count, options))
                }
            };
            let made = made.map_err(|error| ProxyError::Bind { what, address, error })?;
            self.bound.outbound.extend(sockets::address_of(&made).map(|address| (of.clone(), address)));
            self.sockets.reserve(made);
        }
        if let Some(network) = &config.workload {
            let addresses = self.bound.outbound.iter().map(|(_, address)| *address);
            self.sockets.in_network(network.clone(), addresses.collect());
        }
        for (port, address) in &config.inbound {
            let address = inherited.as_ref().map_or(*address, |before| {
                let same =
                    |bound: &Bound| bound.inbound.iter().find(|(known, _)| known == port).map(|(_, at)| *at);
                before.chosen(*address, same)
            });
            let made = match inherited.as_mut().and_then(|i| i.listeners(address)) {
                Some(inherited) => Ok(inherited),
                None => sockets::ensure_free(address)
                    .and_then(|()| sockets::bind(address, count, Options::default())),
            };
            let made = made.map_err(|error| ProxyError::Bind { what: "--inbound", address, error })?;
            self.bound.inbound.extend(sockets::address_of(&made).map(|address| (*port, address)));
            self.sockets.reserve(made);
        }
        Ok(())
    }

    fn admin(
        &mut self,
        config: &ProxyConfig,
        inherited: Option<&mut Inherited>,
    ) -> Result<Option<tokio::net::TcpListener>, ProxyError> {
        let Some(address) = config.admin else { return Ok(None) };
        if !address.ip().is_loopback() && !config.insecure {
            return Err(ProxyError::Insecure { what: "--admin", address });
        }
        let (address, before) = match inherited {
            Some(inherited) => {
                let address = inherited.chosen(address, |bound| bound.admin);
                (address, inherited.admin(address))
            }
            None => (address, None),
        };
        let made = before.map_or_else(|| std::net::TcpListener::bind(address), Ok).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            self.bound.admin = Some(address);
            self.lent.push((Lent::Admin(address), listener.as_fd().try_clone_to_owned()?));
            tokio::net::TcpListener::from_std(listener)
        });
        made.map(Some).map_err(|error| ProxyError::Bind { what: "--admin", address, error })
    }

    async fn names(
        &mut self,
        config: &ProxyConfig,
        inherited: Option<&mut Inherited>,
    ) -> Result<Option<heddle_dns::Server>, ProxyError> {
        let Some(address) = config.dns else { return Ok(None) };
        let (address, before) = match inherited {
            Some(inherited) => {
                let address = inherited.chosen(address, |bound| bound.dns);
                (address, inherited.names(address))
            }
            None => (address, None),
        };
        let made = match (before, &config.workload) {
            (Some(sockets), _) => heddle_dns::Server::of(sockets),
            (None, Some(network)) => network.names(address).and_then(heddle_dns::Server::of),
            (None, None) => heddle_dns::Server::bind(address).await,
        };
        let made = made.and_then(|server| {
            self.bound.dns = server.local_addr().ok();
            for udp in &server.udp {
                self.lent.push((Lent::NamesUdp(udp.local_addr()?), udp.as_fd().try_clone_to_owned()?));
            }
            for tcp in &server.tcp {
                self.lent.push((Lent::NamesTcp(tcp.local_addr()?), tcp.as_fd().try_clone_to_owned()?));
            }
            Ok(server)
        });
        made.map(Some).map_err(|error| ProxyError::Bind { what: "--dns", address, error })
    }

    /// The socket that a successor asks at. A proxy without one serves as well, and says that it cannot be replaced.
    fn door(&mut self, config: &ProxyConfig, inherited: Option<&mut Inherited>) -> Option<Door> {
        let path = config.door().filter(|_| config.replaceable)?;
        let door = match inherited.and_then(Inherited::door) {
            Some(door) => door,
            None => Door::open(&path),
        };
        let lent = door.and_then(|door| Ok((door.as_fd().try_clone_to_owned()?, door)));
        match lent {
            Ok((copy, door)) => {
                self.lent.push((Lent::Door, copy));
                Some(door)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(
                    "{}: another proxy runs with this data directory, and this one cannot be replaced while it serves: give each a --data-dir of its own, or --replace to take over",
                    path.display()
                );
                None
            }
            Err(error) => {
                tracing::warn!("{}: {error}; this proxy cannot be replaced while it serves", path.display());
                None
            }
        }
    }
}

fn start_workers(
    count: usize,
    published: &Arc<Published>,
    network: Option<&Arc<dyn WorkloadNetwork>>,
) -> io::Result<Arc<Workers<Message>>> {
    let (published, network) = (published.clone(), network.cloned());
    let seed = seed();
    let workers = Workers::start("heddle-worker", count, move |index, messages, peers| {
        let (published, network) = (published.clone(), network.clone());
        async move {
            let seed = seed.wrapping_mul(index as u64 * 2 + 1);
            let worker = Rc::new(Worker::new(published, index, network, seed));
            crate::worker::run::run(worker, messages, peers).await;
        }
    })?;
    Ok(Arc::new(workers))
}

/// Starts with what was kept: what cannot be used any more is left out.
fn restore(
    kept: Result<Vec<StoredResource>, String>,
    builder: &mut SnapshotBuilder,
    client: &mut ClientConfig,
) {
    let kept = match kept {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, "the configuration that was kept cannot be read; starting without it");
            return;
        }
    };
    for StoredResource { kind, name, body } in kept {
        if builder.apply(kind, &name, &body).is_ok() {
            // Versions are hashes of the content, so what is held can be presented without having been told.
            let known = Encoded::from_bytes(kind, name, body);
            client.initial.push((kind, known.name.clone(), known.version.clone()));
        }
    }
}

/// Answers DNS with the newest table of names, and forwards the rest, until another process does.
fn serve_names(
    server: heddle_dns::Server,
    config: &ProxyConfig,
    tables: mpsc::UnboundedReceiver<bytes::Bytes>,
    mut ended: watch::Receiver<Option<End>>,
) -> JoinHandle<()> {
    let saved = config.data_dir.as_ref().map(|dir| dir.join("names.bin"));
    let own = server.local_addr().into_iter().collect();
    let settings = heddle_dns::ServerConfig {
        forwarder: Some(Arc::new(heddle_dns::Forwarder::new("/etc/resolv.conf", own))),
        cluster_domain: config.cluster_domain.clone(),
        linger: NAMES_LINGER,
        ..heddle_dns::ServerConfig::default()
    };
    let replaced = async move {
        if ended.wait_for(|end| *end == Some(End::Replaced)).await.is_err() {
            // The process is ending, and this task with it.
            std::future::pending::<()>().await;
        }
    };
    tokio::spawn(heddle_dns::follow(server, tables, saved, settings, replaced))
}

/// SIGUSR1 says that the files of access logs were moved away, as it does to Envoy and nginx.
async fn reopen_logs(logs: Arc<Writers>) {
    match signal(SignalKind::user_defined1()) {
        Ok(mut asked) => {
            while asked.recv().await.is_some() {
                logs.reopen();
            }
        }
        Err(error) => tracing::warn!(%error, "SIGUSR1 cannot be heard; POST /reopen_logs does the same"),
    }
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "heddle".to_owned(), |name| name.trim().to_owned())
}

/// Different for each start.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
