//! One worker: its thread's view of the configuration and everything it owns.

mod listening;
mod loads;
pub(crate) mod run;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub(crate) use self::loads::{Expected, Loads};
use crate::access_log::Notes;
use crate::access_log::sink::{Logs, Writers};
use crate::config::WorkloadNetwork;
use crate::conn::buffers::Buffers;
use crate::conn::registry::Registry;
use crate::http::date::DateCache;
use crate::http::grpc_web::Web;
use crate::http::head::{RequestHead, ResponseHead};
use crate::overload::{Overload, Stage};
use crate::snapshot::{Listener, Snapshot};
use crate::telemetry::Metrics;
use crate::upstream::Upstreams;
use crate::upstream::limits::Ledger;

/// What the management side and all workers see: the current generation behind one pointer.
#[derive(Debug, Default)]
pub(crate) struct Published {
    snapshot: ArcSwap<Snapshot>,
    /// Read on every request, written on every publication.
    generation: AtomicU64,
    /// What the breakers count; it outlives generations.
    pub(crate) ledger: Arc<Ledger>,
    /// How much of its means the process uses.
    pub(crate) overload: Arc<Overload>,
    /// The connections of each worker.
    pub(crate) loads: Arc<Loads>,
    /// The files of access logs.
    pub(crate) logs: Arc<Writers>,
}

impl Published {
    pub(crate) fn new(overload: Arc<Overload>, workers: usize) -> Self {
        let ledger = Arc::new(Ledger::new(u32::try_from(workers).unwrap_or(u32::MAX)));
        Self { overload, ledger, loads: Arc::new(Loads::new(workers)), ..Self::default() }
    }

    /// Puts a generation in force.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
    }

    /// The generation in force.
    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// The heads of one exchange; kept by the worker between requests.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    /// What else its access log says.
    pub(crate) notes: Notes,
    /// The client speaks gRPC-Web, and that is translated.
    pub(crate) web: Option<Web>,
}

/// How many unused pairs of heads a worker keeps.
const HEADS_KEPT: usize = 64;

/// The generation that a worker runs, counted by the worker alone: requests take references without touching a word that
/// other cores read.
pub(crate) type Current = Rc<Arc<Snapshot>>;

/// Everything one worker owns. It never leaves its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) connections: Rc<Registry>,
    pub(crate) upstreams: Upstreams,
    pub(crate) metrics: Metrics,
    pub(crate) date: DateCache,
    /// Lines of access logs that wait to be written.
    pub(crate) logs: Rc<Logs>,
    /// This machine's address, if it has one besides loopback.
    pub(crate) machine: Option<IpAddr>,
    published: Arc<Published>,
    snapshot: RefCell<Current>,
    seen: Cell<u64>,
    random: Cell<u64>,
    #[expect(clippy::vec_box, reason = "what is kept is the box: it goes to a request and comes back")]
    heads: RefCell<Vec<Box<Heads>>>,
    /// Listeners that redirected connections are handed to, by address; made for one generation.
    targets: RefCell<(u64, HashMap<SocketAddr, Arc<Listener>>)>,
    changed: Notify,
    /// Copies of requests under way.
    pub(crate) mirrors: Cell<usize>,
    /// What is to be shed.
    pub(crate) stage: Cell<Stage>,
}

impl Worker {
    pub(crate) fn new(
        published: Arc<Published>,
        index: usize,
        network: Option<Arc<dyn WorkloadNetwork>>,
        seed: u64,
    ) -> Self {
        let snapshot = published.load();
        Self {
            buffers: Rc::default(),
            connections: Rc::new(Registry::new(published.overload.clone(), published.loads.clone(), index)),
            upstreams: Upstreams::new(published.ledger.clone(), network),
            metrics: Metrics::default(),
            date: DateCache::default(),
            logs: Logs::new(published.logs.clone()),
            machine: crate::sockets::machine_address(),
            seen: Cell::new(snapshot.generation),
            snapshot: RefCell::new(Rc::new(snapshot)),
            published,
            random: Cell::new(seed | 1),
            heads: RefCell::default(),
            targets: RefCell::new((u64::MAX, HashMap::new())),
            changed: Notify::new(),
            mirrors: Cell::new(0),
            stage: Cell::default(),
        }
    }

    /// The configuration in force. Costs one load of a read-mostly word unless it has changed.
    pub(crate) fn snapshot(&self) -> Current {
        let generation = self.published.generation.load(Ordering::Acquire);
        if generation != self.seen.get() {
            let snapshot = self.published.load();
            self.seen.set(snapshot.generation);
            *self.snapshot.borrow_mut() = Rc::new(snapshot);
        }
        self.snapshot.borrow().clone()
    }

    /// No more connections are to be accepted for now.
    pub(crate) fn full(&self) -> bool {
        self.published.overload.full()
    }

    /// The listener of a redirected connection: the one at its address, else the one at its port.
    pub(crate) fn listener_for(&self, destination: SocketAddr) -> Option<Arc<Listener>> {
        let snapshot = self.snapshot();
        let mut targets = self.targets.borrow_mut();
        if targets.0 != snapshot.generation {
            targets.0 = snapshot.generation;
            targets.1.clear();
            for listener in snapshot.listeners.values().filter(|listener| !listener.bind_to_port) {
                for address in listener.addresses.iter().filter_map(|address| address.socket()) {
                    targets.1.insert(address, listener.clone());
                }
            }
        }
        let unspecified: IpAddr = match destination {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = SocketAddr::new(unspecified, destination.port());
        targets.1.get(&destination).or_else(|| targets.1.get(&any)).cloned()
    }

    /// Gives back what this worker has freed.
    pub(crate) fn give_back(&self) {
        self.published.overload.give_back();
    }

    /// 64 fresh random bits (SplitMix64: balancing and sampling need no secrecy).
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn take_heads(&self) -> Box<Heads> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_heads(&self, mut heads: Box<Heads>) {
        let mut kept = self.heads.borrow_mut();
        if kept.len() < HEADS_KEPT {
            heads.request.clear();
            heads.response.clear();
            heads.notes.clear();
            heads.web = None;
            heads.request.headers.shrink();
            heads.response.headers.shrink();
            kept.push(heads);
        }
    }

    /// A new generation was published: exchanges that wait for one look again.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Waits for the next generation.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
