//! The composition root of the data plane: what exists, who knows whom, in which order it starts and ends.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heddle_runtime::{Drain, Gate, Phase, Readiness, Workers};
use heddle_xds::{Client, ClientConfig, Encoded};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Bound, ProxyConfig, WorkloadNetwork};
use crate::conn::registry::Wish;
use crate::disk::Disk;
use crate::feed::{Ask, Dump, Feed};
use crate::resolve::Resolver;
use crate::snapshot::disk::StoredResource;
use crate::snapshot::{Snapshot, SnapshotBuilder};
use crate::sockets::{self, Options, Sockets};
use crate::telemetry::collect::Collected;
use crate::worker::run::Message;
use crate::worker::{Published, Worker};

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
}

/// What parts of a running data plane share.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) config: ProxyConfig,
    pub(crate) bound: Bound,
    pub(crate) workers: Arc<Workers<Message>>,
    pub(crate) published: Arc<Published>,
    pub(crate) sockets: Arc<Mutex<Sockets>>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) readiness: Readiness,
    /// Closed by `/healthcheck/fail`.
    pub(crate) healthy: Gate,
    pub(crate) drain: Drain,
    pub(crate) started: Instant,
    pub(crate) xds: tokio::sync::watch::Receiver<heddle_xds::Status>,
}

/// A running data plane.
#[derive(Debug)]
pub struct Proxy {
    plane: Arc<Plane>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Binds, starts the workers, puts the last good configuration in force and connects to the control plane. Must be
    /// called within a tokio runtime, which becomes the management runtime.
    ///
    /// # Errors
    /// When an address cannot be bound or a worker cannot be started.
    pub async fn start(mut config: ProxyConfig) -> Result<Self, ProxyError> {
        if config.name.is_empty() {
            config.name = host_name();
        }
        heddle_runtime::raise_open_files();
        let count = config.worker_count();
        let mut sockets = Sockets::default();
        let mut bound = Bound::default();
        for (of, address) in &config.outbound {
            let address = *address;
            let options = Options {
                transparent: config.interception == crate::config::Interception::Tproxy,
                freebind: false,
            };
            // What the kernel redirects may arrive anywhere; what is dialled must come from this machine.
            let dialled =
                config.interception == crate::config::Interception::None && config.workload.is_none();
            if dialled && !address.ip().is_loopback() && !config.insecure {
                return Err(ProxyError::Insecure { what: "--outbound", address });
            }
            let made = match &config.workload {
                Some(network) => network.outbound(address, count),
                None => sockets::ensure_free(address).and_then(|()| sockets::bind(address, count, options)),
            };
            let made = made.map_err(|error| ProxyError::Bind { what: "--outbound", address, error })?;
            bound.outbound.extend(sockets::address_of(&made).map(|address| (of.clone(), address)));
            sockets.reserve(made);
        }
        if let Some(network) = &config.workload {
            let addresses = bound.outbound.iter().map(|(_, address)| *address);
            sockets.in_network(network.clone(), addresses.collect());
        }
        for (port, address) in &config.inbound {
            let (address, what) = (*address, "--inbound");
            let made = sockets::ensure_free(address)
                .and_then(|()| sockets::bind(address, count, Options::default()))
                .map_err(|error| ProxyError::Bind { what, address, error })?;
            if let Some(address) = sockets::address_of(&made) {
                bound.inbound.push((*port, address));
            }
            sockets.reserve(made);
        }
        let admin = match config.admin {
            Some(address) if !address.ip().is_loopback() && !config.insecure => {
                return Err(ProxyError::Insecure { what: "--admin", address });
            }
            Some(address) => {
                let listener = tokio::net::TcpListener::bind(address)
                    .await
                    .map_err(|error| ProxyError::Bind { what: "--admin", address, error })?;
                bound.admin = listener.local_addr().ok();
                Some(listener)
            }
            None => None,
        };
        let (mut names, mut tasks) = (None, Vec::new());
        if let Some(address) = config.dns {
            let server = match &config.workload {
                Some(network) => network.names(address).and_then(heddle_dns::Server::of),
                None => heddle_dns::Server::bind(address).await,
            };
            let server = server.map_err(|error| ProxyError::Bind { what: "--dns", address, error })?;
            bound.dns = server.local_addr().ok();
            names = Some(serve_names(server, &config, &mut tasks));
        }
        let published = Arc::new(Published::default());
        let workers =
            start_workers(count, &published, config.workload.as_ref()).map_err(ProxyError::Workers)?;
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
        if let Some(disk) = &disk {
            restore(disk, &mut builder, &mut client);
        }
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
        tasks.push(tokio::spawn(feed.run(handle, updates)));
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
        });
        if let Some(listener) = admin {
            tasks.push(tokio::spawn(crate::admin::serve(listener, plane.clone())));
        }
        Ok(Self { plane, tasks })
    }

    /// The addresses it really listens on.
    pub fn bound(&self) -> &Bound {
        &self.plane.bound
    }

    /// What readiness waits for; empty when ready.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.plane.readiness.waiting_for()
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.plane.published.load()
    }

    /// Drains: connections are asked to end while new ones are still taken. When none is open, the listening sockets
    /// are closed, and who came at the last moment is still served. Returns after `most` at the latest.
    pub async fn drain(&self, most: Duration) {
        let end = tokio::time::Instant::now() + most;
        self.plane.drain_connections(most).await;
        self.plane.close_sockets();
        self.plane.drain_connections(end.saturating_duration_since(tokio::time::Instant::now())).await;
    }

    /// Waits until `/quitquitquit` was asked for.
    pub async fn quit_asked(&self) {
        self.plane.drain.signal().reached(Phase::Closing).await;
    }

    /// Closes the listening sockets, cuts what is still open and ends the workers.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.plane.stop().await;
    }
}

impl Plane {
    pub(crate) async fn drain_connections(&self, most: Duration) {
        self.drain.advance(Phase::Draining);
        self.workers.tell_all(|_| Message::Wish(Wish::Drain, None));
        let empty = async {
            while self.collect().await.iter().any(|counts| counts.connections > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // Those that were opened meanwhile are asked, too.
                self.workers.tell_all(|_| Message::Wish(Wish::Drain, None));
            }
        };
        let _ = tokio::time::timeout(most, empty).await;
    }

    /// The accepted resources; nothing when the feed has ended.
    pub(crate) async fn dump(&self) -> Dump {
        let (ask, answer) = tokio::sync::oneshot::channel();
        if self.asks.send(ask).await.is_err() {
            return Dump::default();
        }
        answer.await.unwrap_or_default()
    }

    /// Every worker's counts.
    pub(crate) async fn collect(&self) -> Vec<Collected> {
        let mut answers = Vec::with_capacity(self.workers.len());
        self.workers.tell_all(|_| {
            let (reply, answer) = tokio::sync::oneshot::channel();
            answers.push(answer);
            Message::Collect(reply)
        });
        let mut counts = Vec::with_capacity(answers.len());
        for answer in answers {
            if let Ok(Ok(collected)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                counts.push(collected);
            }
        }
        counts
    }

    fn close_sockets(&self) {
        self.drain.advance(Phase::Closing);
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).close(&self.workers);
    }

    async fn stop(&self) {
        self.close_sockets();
        self.workers.tell_all(|_| Message::Wish(Wish::Cut, None));
        self.workers.tell_all(|_| Message::Stop);
        let done = async {
            while !self.workers.finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), done).await;
        self.drain.advance(Phase::Stopped);
    }
}

/// Runs a data plane until `shutdown` resolves or `/quitquitquit` is asked for, then drains it for at most 45 s.
/// `on_bound` is told the addresses once everything listens.
///
/// # Errors
/// As [`Proxy::start`].
pub async fn run(
    config: ProxyConfig,
    on_bound: impl FnOnce(&Bound),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ProxyError> {
    let proxy = Proxy::start(config).await?;
    on_bound(proxy.bound());
    tokio::select! {
        () = shutdown => {}
        () = proxy.quit_asked() => {}
    }
    proxy.drain(Drain::DEFAULT).await;
    proxy.stop().await;
    Ok(())
}

fn start_workers(
    count: usize,
    published: &Arc<Published>,
    network: Option<&Arc<dyn WorkloadNetwork>>,
) -> io::Result<Arc<Workers<Message>>> {
    let (published, network) = (published.clone(), network.cloned());
    let seed = seed();
    let workers = Workers::start("heddle-worker", count, move |index, messages| {
        let (published, network) = (published.clone(), network.clone());
        async move {
            let worker = Rc::new(Worker::new(published, network, seed.wrapping_mul(index as u64 * 2 + 1)));
            crate::worker::run::run(worker, messages).await;
        }
    })?;
    Ok(Arc::new(workers))
}

/// Starts from disk: what cannot be used any more is left out.
fn restore(disk: &Disk, builder: &mut SnapshotBuilder, client: &mut ClientConfig) {
    let kept = match disk.load() {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, "the configuration on disk cannot be read; starting without it");
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

/// Answers DNS with the newest table of names, and forwards the rest.
fn serve_names(
    server: heddle_dns::Server,
    config: &ProxyConfig,
    tasks: &mut Vec<JoinHandle<()>>,
) -> mpsc::UnboundedSender<bytes::Bytes> {
    let (sender, tables) = mpsc::unbounded_channel();
    let saved = config.data_dir.as_ref().map(|dir| dir.join("names.bin"));
    let own = server.local_addr().into_iter().collect();
    let settings = heddle_dns::ServerConfig {
        forwarder: Some(Arc::new(heddle_dns::Forwarder::new("/etc/resolv.conf", own))),
        cluster_domain: config.cluster_domain.clone(),
        ..heddle_dns::ServerConfig::default()
    };
    tasks.push(tokio::spawn(heddle_dns::follow(server, tables, saved, settings, std::future::pending())));
    sender
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "heddle".to_owned(), |name| name.trim().to_owned())
}

/// Different for each start.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
