//! What one worker knows about clusters and their endpoints: active requests, idle connections, results.
//!
//! All of it is keyed by cluster name and endpoint identity and outlives changes of the configuration.

pub(crate) mod attempt;
pub(crate) mod budget;
pub(crate) mod connect;
pub(crate) mod h2;
pub(crate) mod habit;
pub(crate) mod limits;
pub(crate) mod outlier;
pub(crate) mod pool;
pub(crate) mod preconnect;
pub(crate) mod quota;
pub(crate) mod reach;
pub(crate) mod select;
pub(crate) mod transport;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use self::connect::ConnectError;
use self::habit::Habit;
use self::limits::{Ledger, Room, Totals};
use self::outlier::{History, Told};
use self::quota::{Granted, Quota};
use crate::balance;
use crate::config::WorkloadNetwork;
use crate::http::retry::Failure;
use crate::snapshot::{
    Address, BuildNameHasher, Cluster, Endpoint, EndpointSet, Name, SocketCriteria, Workload,
};
use crate::telemetry::SeriesCache;

/// Clusters that stand for the workload itself: `inbound|PORT||`, as Istio names them.
const INBOUND: &str = "inbound|";

/// Every cluster that this worker has sent something to.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    ledger: Arc<Ledger>,
    /// Where the workload is, if that is not where this process is.
    network: Option<Arc<dyn WorkloadNetwork>>,
    clusters: RefCell<HashMap<Name, Rc<ClusterState>, BuildNameHasher>>,
}

/// The members of a cluster in the order of its set's endpoints, each made when it is first chosen.
pub(crate) type Members = Rc<[OnceCell<Rc<Member>>]>;

/// One cluster on one worker.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) name: Name,
    /// The network its members are in, if not this process's own.
    network: Option<Arc<dyn WorkloadNetwork>>,
    set: Cell<u64>,
    members: RefCell<Members>,
    /// Members outside of any set: those of ORIGINAL_DST clusters, by address.
    dynamic: RefCell<HashMap<SocketAddr, Rc<Member>, rustc_hash::FxBuildHasher>>,
    pub(crate) balance: balance::State,
    /// Requests that have an attempt under way.
    pub(crate) active: Cell<u32>,
    pub(crate) retries: budget::Budget,
    /// This worker's connections to all members.
    pub(crate) connections: Rc<Cell<u32>>,
    /// What the breakers count, over all workers.
    pub(crate) totals: Arc<Totals>,
    /// This worker's part of `max_requests`.
    pub(crate) requests: Rc<Quota>,
    ledger: Arc<Ledger>,
    pub(crate) stats: ClusterStats,
}

/// Counters of one cluster (names as in Envoy's `cluster.NAME.*`).
#[derive(Debug, Default)]
pub(crate) struct ClusterStats {
    pub(crate) upstream_rq_total: Cell<u64>,
    pub(crate) upstream_rq_retry: Cell<u64>,
    pub(crate) upstream_rq_retry_overflow: Cell<u64>,
    pub(crate) upstream_rq_timeout: Cell<u64>,
    pub(crate) upstream_rq_per_try_timeout: Cell<u64>,
    pub(crate) upstream_rq_per_try_idle_timeout: Cell<u64>,
    pub(crate) upstream_rq_replayed: Cell<u64>,
    pub(crate) upstream_cx_total: Cell<u64>,
    pub(crate) upstream_cx_connect_fail: Cell<u64>,
    pub(crate) upstream_cx_overflow: Cell<u64>,
    pub(crate) upstream_rq_pending_overflow: Cell<u64>,
    pub(crate) ejections: Cell<u64>,
    pub(crate) ssl_handshake: Cell<u64>,
    pub(crate) ssl_connection_error: Cell<u64>,
}

/// A counter's name as in Envoy's `cluster.NAME`, and its value.
pub(crate) type Counter = (&'static str, u64);

impl ClusterStats {
    /// All of them by name.
    pub(crate) fn counters(&self) -> [Counter; 14] {
        [
            ("upstream_rq_total", self.upstream_rq_total.get()),
            ("upstream_rq_retry", self.upstream_rq_retry.get()),
            ("upstream_rq_retry_overflow", self.upstream_rq_retry_overflow.get()),
            ("upstream_rq_timeout", self.upstream_rq_timeout.get()),
            ("upstream_rq_per_try_timeout", self.upstream_rq_per_try_timeout.get()),
            ("upstream_rq_per_try_idle_timeout", self.upstream_rq_per_try_idle_timeout.get()),
            ("upstream_rq_replayed", self.upstream_rq_replayed.get()),
            ("upstream_cx_total", self.upstream_cx_total.get()),
            ("upstream_cx_connect_fail", self.upstream_cx_connect_fail.get()),
            ("upstream_cx_overflow", self.upstream_cx_overflow.get()),
            ("outlier_detection.ejections_enforced_total", self.ejections.get()),
            ("ssl_handshake", self.ssl_handshake.get()),
            ("ssl_connection_error", self.ssl_connection_error.get()),
            ("upstream_rq_pending_overflow", self.upstream_rq_pending_overflow.get()),
        ]
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// One endpoint on one worker.
#[derive(Debug)]
pub(crate) struct Member {
    /// The cluster's name.
    pub(crate) cluster: Name,
    /// As the cluster's.
    pub(crate) network: Option<Arc<dyn WorkloadNetwork>>,
    pub(crate) id: Name,
    pub(crate) address: Address,
    /// `Endpoint.hostname`.
    pub(crate) hostname: Option<Box<str>>,
    /// Chooses among the cluster's `transport_socket_matches`.
    pub(crate) socket_match: Option<Arc<SocketCriteria>>,
    /// How TLS was spoken last.
    secured: RefCell<Option<Arc<transport::Secured>>>,
    /// It agreed to HTTP/2, or to HTTP/1.1, where it may choose (`auto_config`).
    pub(crate) speaks_h2: Cell<Option<bool>>,
    /// Requests and connections being served there by this worker.
    pub(crate) active: Cell<u32>,
    pub(crate) requests: Cell<u64>,
    pub(crate) failures: Cell<u64>,
    pub(crate) connect_failures: Cell<u64>,
    pub(crate) idle: pool::Idle,
    pub(crate) habit: Habit,
    pub(crate) reach: reach::Reach,
    /// Made where the cluster asks for outlier detection.
    history: OnceCell<Arc<History>>,
    /// Its connections, within the cluster's limits.
    pub(crate) room: Rc<Room>,
    /// Who runs there, as far as configuration says.
    pub(crate) workload: Option<Arc<Workload>>,
    /// Metric series of requests that ended here.
    pub(crate) series: SeriesCache,
}

impl Member {
    fn new(cluster: &ClusterState, id: Name, address: Address) -> Self {
        Self {
            cluster: cluster.name.clone(),
            network: cluster.network.clone(),
            id,
            address,
            hostname: None,
            socket_match: None,
            secured: RefCell::default(),
            speaks_h2: Cell::new(None),
            active: Cell::new(0),
            requests: Cell::new(0),
            failures: Cell::new(0),
            connect_failures: Cell::new(0),
            idle: pool::Idle::default(),
            habit: Habit::default(),
            reach: reach::Reach::default(),
            history: OnceCell::new(),
            room: Rc::new(Room::new(cluster.totals.clone(), cluster.connections.clone())),
            workload: None,
            series: SeriesCache::default(),
        }
    }
}

impl Member {
    /// The endpoint is what it was.
    fn is_still(&self, endpoint: &Endpoint) -> bool {
        self.address == endpoint.address
            && self.workload == endpoint.workload
            && self.hostname == endpoint.hostname
            && self.socket_match == endpoint.socket_match
    }
}

/// One request, or one tunnel, at work on a member.
#[derive(Debug)]
pub(crate) struct Busy {
    pub(crate) cluster: Rc<ClusterState>,
    pub(crate) member: Rc<Member>,
    /// Its place under `max_requests`.
    _request: Granted,
}

impl Busy {
    pub(crate) fn new(cluster: Rc<ClusterState>, member: Rc<Member>) -> Self {
        member.active.set(member.active.get() + 1);
        cluster.active.set(cluster.active.get() + 1);
        count(&member.requests);
        count(&cluster.stats.upstream_rq_total);
        Self { cluster, member, _request: Granted::default() }
    }

    /// The cluster and its member.
    pub(crate) fn at(&self) -> (&ClusterState, &Member) {
        (&self.cluster, &self.member)
    }

    /// The same, with what counts it for the cluster's breakers.
    pub(crate) fn holding(mut self, request: Granted) -> Self {
        self._request = request;
        self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.member.active.set(self.member.active.get() - 1);
        self.cluster.active.set(self.cluster.active.get() - 1);
    }
}

impl Upstreams {
    /// `network`: makes the sockets that reach the workload.
    pub(crate) fn new(ledger: Arc<Ledger>, network: Option<Arc<dyn WorkloadNetwork>>) -> Self {
        Self { ledger, network, clusters: RefCell::default() }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The state of `cluster`, made on first use.
    pub(crate) fn cluster(&self, cluster: &Cluster) -> Rc<ClusterState> {
        if let Some(state) = self.clusters.borrow().get(&cluster.name) {
            return state.clone();
        }
        let totals = self.ledger.totals(&cluster.name);
        let state = Rc::new(ClusterState {
            name: cluster.name.clone(),
            network: self.network.clone().filter(|_| cluster.name.as_str().starts_with(INBOUND)),
            set: Cell::new(0),
            members: RefCell::new(Rc::from([])),
            dynamic: RefCell::default(),
            balance: balance::State::default(),
            active: Cell::new(0),
            retries: budget::Budget::new(totals.clone()),
            connections: Rc::default(),
            requests: Rc::new(Quota::new(totals.clone(), self.ledger.workers)),
            totals,
            ledger: self.ledger.clone(),
            stats: ClusterStats::default(),
        });
        self.clusters.borrow_mut().insert(cluster.name.clone(), state.clone());
        state
    }

    /// Every cluster's state.
    pub(crate) fn all(&self) -> Vec<Rc<ClusterState>> {
        self.clusters.borrow().values().cloned().collect()
    }

    /// Forgets clusters for which `exists` is false and nothing is under way.
    pub(crate) fn retain(&self, exists: impl Fn(&Name) -> bool) {
        self.clusters.borrow_mut().retain(|name, state| exists(name) || Rc::strong_count(state) > 1);
    }
}

impl ClusterState {
    /// Takes up for outlier detection what an attempt told of its endpoint.
    pub(crate) fn tell(&self, cluster: &Cluster, member: &Member, told: Told) {
        let Some(rules) = &cluster.outlier else { return };
        if self.history(member).tell(told, rules, self.members.borrow().len(), self.ledger.now()) {
            count(&self.stats.ejections);
            tracing::info!(cluster = %self.name, address = %member.address, "endpoint ejected");
        }
    }

    /// What this proxy has seen of a member, on whichever worker.
    fn history<'m>(&self, member: &'m Member) -> &'m History {
        member.history.get_or_init(|| self.totals.outliers.history(&member.id))
    }

    /// Whether outlier detection keeps the balancer away from a member of `cluster`.
    pub(crate) fn avoids(&self, cluster: &Cluster, member: &Member) -> bool {
        cluster.outlier.is_some() && self.history(member).ejected(self.ledger.now())
    }

    /// Whether a member is known to be ejected.
    pub(crate) fn ejected(&self, member: &Member) -> bool {
        member.history.get().is_some_and(|history| history.ejected(self.ledger.now()))
    }

    /// Counts an attempt that gave no response.
    pub(crate) fn failed(&self, cluster: &Cluster, failure: &Failure, member: Option<&Member>) {
        if let Some(member) = member {
            count(&member.failures);
            if failure.speaks_against_endpoint() {
                self.tell(cluster, member, Told::Local);
            }
        }
        match failure {
            Failure::Connect(ConnectError::Overflow) => count(&self.stats.upstream_rq_pending_overflow),
            Failure::Connect(_) => count(&self.stats.upstream_cx_connect_fail),
            Failure::PerTryIdle => count(&self.stats.upstream_rq_per_try_idle_timeout),
            Failure::PerTryTimeout => count(&self.stats.upstream_rq_per_try_timeout),
            Failure::Timeout => count(&self.stats.upstream_rq_timeout),
            Failure::NoHost | Failure::Reset(_) | Failure::Idle => {}
        }
    }

    /// The members of the set, as far as they were chosen before.
    pub(crate) fn members(&self, set: &EndpointSet) -> Members {
        if self.set.get() == set.id && self.members.borrow().len() == set.endpoints.len() {
            return self.members.borrow().clone();
        }
        let known: HashMap<Name, Rc<Member>, BuildNameHasher> =
            self.made().map(|member| (member.id.clone(), member)).collect();
        let members: Members = set
            .endpoints
            .iter()
            .map(|endpoint| match known.get(&endpoint.id) {
                Some(member) if member.is_still(endpoint) => OnceCell::from(member.clone()),
                _ => OnceCell::new(),
            })
            .collect();
        *self.members.borrow_mut() = members.clone();
        self.set.set(set.id);
        members
    }

    /// The member that stands for an endpoint.
    pub(crate) fn member(&self, endpoint: &Endpoint) -> Rc<Member> {
        Rc::new(Member {
            hostname: endpoint.hostname.clone(),
            socket_match: endpoint.socket_match.clone(),
            workload: endpoint.workload.clone(),
            ..Member::new(self, endpoint.id.clone(), endpoint.address)
        })
    }

    /// Some endpoint is not among those `tried`: one that was never chosen is not.
    pub(crate) fn has_others(&self, tried: &[Address]) -> bool {
        let members = self.members.borrow();
        members.iter().any(|member| member.get().is_none_or(|member| !tried.contains(&member.address)))
    }

    fn made(&self) -> impl Iterator<Item = Rc<Member>> {
        let members = self.members.borrow().clone();
        (0..members.len()).filter_map(move |index| members.get(index)?.get().cloned())
    }

    /// The members that were ever chosen, as of the last request.
    pub(crate) fn known(&self) -> Vec<Rc<Member>> {
        self.made().chain(self.dynamic.borrow().values().cloned()).collect()
    }

    /// The member at an address outside of any set. The least used ones are forgotten when there are very many.
    pub(crate) fn at(&self, address: SocketAddr) -> Rc<Member> {
        const MOST: usize = 4096;
        let mut dynamic = self.dynamic.borrow_mut();
        if dynamic.len() >= MOST && !dynamic.contains_key(&address) {
            dynamic.retain(|_, member| Rc::strong_count(member) > 1);
        }
        dynamic
            .entry(address)
            .or_insert_with(|| {
                let id = Name::new(&address.to_string());
                Rc::new(Member::new(self, id, address.into()))
            })
            .clone()
    }
}
