//! What a running data plane is, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heddle_runtime::{Drain, Gate, Phase, Readiness, Workers};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{Bound, ProxyConfig};
use crate::conn::registry::Leaving;
use crate::feed::{Ask, Dump};
use crate::snapshot::{Address, Snapshot};
use crate::sockets::Sockets;
use crate::telemetry::collect::Collected;
use crate::worker::Published;
use crate::worker::run::Message;

pub use crate::start::ProxyError;

/// New connections are taken for at most this part of a drain: who balances the load needs a moment to hear of it.
const STILL_ACCEPTING: u32 = 3;
/// And for at most so long, however long the drain.
const STILL_ACCEPTING_MOST: Duration = Duration::from_secs(15);
/// How long the end waits for lines of access logs to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often open connections are counted: soon at first, then seldom.
const COUNT_EVERY: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(1);

/// Why a data plane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `/quitquitquit`.
    Quit,
    /// Another process has its sockets.
    Replaced,
}

/// A descriptor that is handed to a successor, besides those that workers accept from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lent {
    Admin(SocketAddr),
    NamesUdp(SocketAddr),
    NamesTcp(SocketAddr),
    Door,
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
    pub(crate) xds: watch::Receiver<heddle_xds::Status>,
    pub(crate) end: watch::Sender<Option<End>>,
    /// The process that is taking over.
    pub(crate) successor: Mutex<Option<u32>>,
    /// Replacements before this process, and how long its predecessors had run.
    pub(crate) epoch: u32,
    pub(crate) before: Duration,
    pub(crate) lent: Mutex<Vec<(Lent, OwnedFd)>>,
}

/// A running data plane.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) plane: Arc<Plane>,
    pub(crate) tasks: Vec<JoinHandle<()>>,
    /// Follows the control plane.
    pub(crate) feed: JoinHandle<()>,
    /// Answer for names and to tools; they end by themselves once another process does.
    pub(crate) shared: Vec<JoinHandle<()>>,
}

impl Proxy {
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

    /// Drains in two stages. First readiness fails and connections are asked to end while new ones are still taken, until
    /// none is open or a third of the time is over (15 s at most). Then the listening sockets are closed, after who
    /// came at the last moment, and what is open may end by itself. Returns after `most` at the latest, if there is a limit.
    pub async fn drain(&self, most: Option<Duration>) {
        let end = most.map(|most| tokio::time::Instant::now() + most);
        let first =
            most.map_or(STILL_ACCEPTING_MOST, |most| (most / STILL_ACCEPTING).min(STILL_ACCEPTING_MOST));
        self.plane.drain_connections(Some(first)).await;
        self.plane.close_sockets();
        self.plane.drain_connections(end.map(|end| end - tokio::time::Instant::now())).await;
    }

    /// Serves what is open after another process has taken over, for at most so long, if there is a limit.
    async fn finish(&mut self, most: Option<Duration>) {
        // The successor is the one that the control plane talks to now.
        self.feed.abort();
        let admin = self.plane.draining_admin();
        self.plane.drain_connections(most).await;
        for task in self.shared.drain(..) {
            // What was asked here is answered here.
            let _ = task.await;
        }
        drop(admin);
    }

    /// Waits until `/quitquitquit` was asked for, or another process has taken over.
    async fn end(&self) -> End {
        let mut end = self.plane.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|end| *end) {
            Ok(Some(end)) => end,
            // The sender lives in the plane.
            _ => std::future::pending().await,
        }
    }

    /// Closes the listening sockets, cuts what is still open and ends the workers.
    pub async fn stop(self) {
        self.feed.abort();
        for task in self.tasks.iter().chain(&self.shared) {
            task.abort();
        }
        self.plane.stop().await;
    }
}

impl Plane {
    /// Asks connections to end, again and again since more may come, until none is open or the time is over.
    pub(crate) async fn drain_connections(&self, most: Option<Duration>) {
        self.drain.advance(Phase::Draining);
        self.ask_to_end(None);
        let empty = async {
            let mut pause = COUNT_EVERY.start;
            // Asked first: a connection that one of them has handed to another is counted by then.
            while self.collect().await.iter().any(|counts| counts.connections > 0)
                || !self.published.loads.none()
            {
                tokio::time::sleep(pause).await;
                pause = (pause + pause / 8).min(COUNT_EVERY.end);
                self.ask_to_end(None);
            }
        };
        match most {
            Some(most) => drop(tokio::time::timeout(most, empty).await),
            None => empty.await,
        }
    }

    /// Asks every connection to end, and has it cut after a time, if one is given.
    pub(crate) fn ask_to_end(&self, most: Option<Duration>) {
        self.workers.tell_all(|_| Message::Drain(Leaving::All, most));
    }

    /// The accepted resources; nothing when the feed has ended.
    pub(crate) async fn dump(&self) -> Dump {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask::Dump(reply)).await.is_err() {
            return Dump::default();
        }
        answer.await.unwrap_or_default()
    }

    /// The configuration in force as a file, secrets included; nothing when the feed has ended.
    pub(crate) async fn configuration(&self) -> Option<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Configuration(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Every worker's counts.
    pub(crate) async fn collect(&self) -> Vec<Collected> {
        let mut answers = Vec::with_capacity(self.workers.len());
        self.workers.tell_all(|_| {
            let (reply, answer) = oneshot::channel();
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

    /// Waits until every worker has done what it was told before.
    pub(crate) async fn settled(&self) {
        let mut answers = Vec::with_capacity(self.workers.len());
        self.workers.tell_all(|_| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            Message::Changed(reply)
        });
        for answer in answers {
            // A worker that has ended does nothing any more.
            let _ = answer.await;
        }
    }

    pub(crate) fn lock_sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once it was told to end, or another process has taken over.
    pub(crate) fn ending(&self) -> bool {
        self.end.borrow().is_some() || self.drain.phase() > Phase::Serving
    }

    pub(crate) fn replaced(&self) -> bool {
        *self.end.borrow() == Some(End::Replaced)
    }

    /// How long this process and those that it replaced have run.
    pub(crate) fn uptime_of_all(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Serves the admin paths on a socket in the data directory: its port belongs to the successor.
    fn draining_admin(self: &Arc<Self>) -> Option<DrainingAdmin> {
        let path = self.config.draining_admin()?;
        // One of that name is of a dead process.
        let _ = std::fs::remove_file(&path);
        match open_for_owner(&path) {
            Ok(listener) => {
                let task = tokio::spawn(crate::admin::serve_unix(listener, self.clone()));
                Some(DrainingAdmin { path, task })
            }
            Err(error) => {
                tracing::warn!("{}: {error}; what is left here cannot be looked at", path.display());
                None
            }
        }
    }

    /// Opens and closes no sockets while another process is about to take over.
    pub(crate) fn hold_sockets(&self) {
        self.lock_sockets().hold();
    }

    /// Nobody took over: catches up with the configuration.
    pub(crate) fn follow_again(&self) {
        let snapshot = self.published.load();
        self.lock_sockets().go_on(&snapshot, &self.workers);
    }

    /// Another process accepts at these addresses from now on, and is the proxy.
    pub(crate) async fn leave_to(&self, taken: &[Address]) {
        self.lock_sockets().leave_to(taken, &self.workers);
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.settled().await;
    }

    fn close_sockets(&self) {
        self.drain.advance(Phase::Closing);
        self.lock_sockets().close(&self.workers);
    }

    async fn stop(&self) {
        self.close_sockets();
        self.workers.tell_all(|_| Message::Cut);
        self.workers.tell_all(|_| Message::Stop);
        let done = async {
            while !self.workers.finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), done).await;
        self.published.logs.finish(LAST_LINES).await;
        self.drain.advance(Phase::Stopped);
        if let Some(door) = self.config.door().filter(|_| !self.replaced() && self.config.replaceable) {
            // Whoever finds it left behind replaces it.
            let _ = std::fs::remove_file(door);
        }
    }
}

/// Takes its socket away when it ends.
struct DrainingAdmin {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for DrainingAdmin {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The data directory keeps others out; the mode of the socket does, too.
fn open_for_owner(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Runs a data plane until it is told to end (a message in `told`, `/quitquitquit`) or another process has taken over,
/// then drains it. A second message ends it at once; after a replacement the first one bounds the rest by `drain_time`.
/// `on_bound` is told the addresses once everything listens.
///
/// # Errors
/// As [`Proxy::start`].
pub async fn run(
    config: ProxyConfig,
    on_bound: impl FnOnce(&Bound),
    mut told: mpsc::Receiver<()>,
) -> Result<(), ProxyError> {
    let (drain_time, replaced_drain_time) = (config.drain_time, config.replaced_drain_time);
    let mut proxy = tokio::select! {
        proxy = Proxy::start(config) => proxy?,
        () = next(&mut told) => return Ok(()),
    };
    on_bound(proxy.bound());
    let end = tokio::select! {
        () = next(&mut told) => End::Quit,
        end = proxy.end() => end,
    };
    let finished = match end {
        End::Quit => false,
        End::Replaced => tokio::select! {
            () = proxy.finish(replaced_drain_time) => true,
            () = next(&mut told) => false,
        },
    };
    if !finished {
        tokio::select! {
            () = proxy.drain(drain_time) => {}
            () = next(&mut told) => tracing::warn!("told to end again: what is open is cut"),
        }
    }
    proxy.stop().await;
    Ok(())
}

async fn next(told: &mut mpsc::Receiver<()>) {
    if told.recv().await.is_none() {
        // Nobody is left who could say it.
        std::future::pending().await
    }
}
