//! Counters and histograms of one worker. Nothing here is shared: the admin server asks each worker and adds up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::Flags;
use crate::http::h2::meter::{Flood, Resets};
use crate::snapshot::{Direction, Name, Workload};
use std::sync::Arc;

/// Upper bounds of the histograms (milliseconds, or bytes), Envoy's defaults.
pub(crate) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// A histogram with [`BOUNDS`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    pub(crate) fn observe(&mut self, value: f64) {
        // Most values are small: a linear search ends early.
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket] += 1;
        self.sum += value;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    /// Sum of all values.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    /// Number of values at or below each bound, and of all.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        })
    }
}

/// What tells the series of one endpoint apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outcome {
    pub(crate) direction: Direction,
    pub(crate) grpc: bool,
    pub(crate) code: u16,
    /// `grpc-status`, when there was one.
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flags: Flags,
}

/// Where requests of a series went: what their labels are made of when somebody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) cluster: Option<Name>,
    pub(crate) workload: Option<Arc<Workload>>,
}

/// Targets are equal when their labels are: endpoints come and go, and a workload's requests stay in one series.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Workload, &Workload)| {
            one.name == other.name && one.namespace == other.namespace && one.labels == other.labels
        };
        self.cluster == other.cluster
            && self.workload.is_some() == other.workload.is_some()
            && self.workload.as_deref().zip(other.workload.as_deref()).is_none_or(same)
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cluster.hash(state);
        self.workload.as_ref().map(|workload| &workload.name).hash(state);
    }
}

/// Requests with the same labels.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) outcome: Outcome,
    pub(crate) target: Target,
    pub(crate) sums: Sums,
}

/// What is known of all requests of a series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) duration_ms: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
}

impl Sums {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.duration_ms.merge(&other.duration_ms);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
    }
}

/// TCP connections with the same labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct TcpSeries {
    pub(crate) direction: Direction,
    pub(crate) target: Target,
    pub(crate) flags: Flags,
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// The series that one endpoint's requests are counted in: few, so the search is short.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    list: RefCell<SmallVec<[Rc<RefCell<Series>>; 2]>>,
    tcp: RefCell<Option<Rc<RefCell<TcpSeries>>>>,
}

/// Each series once, however many endpoints count in it.
type ByLabels<K, S> = RefCell<HashMap<(K, Target), Rc<RefCell<S>>, FxBuildHasher>>;

/// All series of one worker.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: ByLabels<Outcome, Series>,
    tcp: ByLabels<Direction, TcpSeries>,
    /// Series of requests that reached no endpoint, by cluster.
    unrouted: RefCell<Vec<Unrouted>>,
    pub(crate) downstream_protocol_error: Cell<u64>,
    pub(crate) accept_errors: Cell<u64>,
    pub(crate) tls: TlsCounts,
    /// `http.downstream_rq_too_many_premature_resets`.
    pub(crate) premature_resets: Cell<u64>,
    /// Connections that sent too many frames that carry nothing, by [`Flood`].
    pub(crate) floods: [Cell<u64>; Flood::NAMES.len()],
}

impl TlsCounts {
    /// By their names.
    pub(crate) fn all(&self) -> [(&'static str, u64); 5] {
        [
            ("ssl_handshake", self.handshake.get()),
            ("ssl_connection_error", self.connection_error.get()),
            ("ssl_fail_verify_error", self.fail_verify_error.get()),
            ("ssl_fail_verify_no_cert", self.fail_verify_no_cert.get()),
            ("server_ssl_socket_factory_downstream_context_secrets_not_ready", self.not_ready.get()),
        ]
    }
}

/// TLS handshakes with clients (names as in Envoy's `listener.ssl.*`).
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsCounts {
    pub(crate) handshake: Cell<u64>,
    pub(crate) connection_error: Cell<u64>,
    pub(crate) fail_verify_error: Cell<u64>,
    pub(crate) fail_verify_no_cert: Cell<u64>,
    /// Closed because a secret had not come.
    pub(crate) not_ready: Cell<u64>,
    /// Reasons that were logged already.
    pub(crate) logged: RefCell<Vec<String>>,
}

/// A cluster, if there was one, and its series.
type Unrouted = (Option<Name>, Rc<RefCell<Series>>);

/// How many series of unrouted requests are told apart; the rest share one per outcome.
const MOST_UNROUTED: usize = 1000;

impl Metrics {
    /// True, and counted, when a connection of HTTP/2 has asked for too much.
    pub(crate) fn calms(&self, flood: Option<Flood>, resets: &Resets) -> bool {
        let counter = match flood {
            Some(flood) => &self.floods[flood as usize],
            None if resets.too_many() => &self.premature_resets,
            None => return false,
        };
        counter.set(counter.get() + 1);
        true
    }

    /// The series of an outcome at an endpoint.
    pub(crate) fn series(
        &self,
        cache: &SeriesCache,
        outcome: Outcome,
        target: impl FnOnce() -> Target,
    ) -> Rc<RefCell<Series>> {
        let mut list = cache.list.borrow_mut();
        if let Some(series) = list.iter().find(|series| series.borrow().outcome == outcome) {
            return series.clone();
        }
        let series = self.add(outcome, target());
        list.push(series.clone());
        series
    }

    /// The series of an outcome without endpoint.
    pub(crate) fn unrouted(&self, outcome: Outcome, cluster: Option<&Name>) -> Rc<RefCell<Series>> {
        let mut list = self.unrouted.borrow_mut();
        let cluster = cluster.filter(|_| list.len() < MOST_UNROUTED);
        let known =
            list.iter().find(|(name, series)| name.as_ref() == cluster && series.borrow().outcome == outcome);
        if let Some((_, series)) = known {
            return series.clone();
        }
        let series = self.add(outcome, Target { cluster: cluster.cloned(), workload: None });
        list.push((cluster.cloned(), series.clone()));
        series
    }

    /// The TCP series of an endpoint.
    pub(crate) fn tcp(
        &self,
        cache: &SeriesCache,
        direction: Direction,
        target: impl FnOnce() -> Target,
    ) -> Rc<RefCell<TcpSeries>> {
        cache
            .tcp
            .borrow_mut()
            .get_or_insert_with(|| {
                let target = target();
                let new = || TcpSeries { direction, target: target.clone(), ..TcpSeries::default() };
                let mut all = self.tcp.borrow_mut();
                all.entry((direction, target.clone())).or_insert_with(|| Rc::new(RefCell::new(new()))).clone()
            })
            .clone()
    }

    /// The one series of these labels.
    fn add(&self, outcome: Outcome, target: Target) -> Rc<RefCell<Series>> {
        let new = || Series { outcome, target: target.clone(), sums: Sums::default() };
        let mut all = self.series.borrow_mut();
        all.entry((outcome, target.clone())).or_insert_with(|| Rc::new(RefCell::new(new()))).clone()
    }

    /// Copies of all series.
    pub(crate) fn all(&self) -> (Vec<Series>, Vec<TcpSeries>) {
        let http = self.series.borrow().values().map(|series| series.borrow().clone()).collect();
        let tcp = self.tcp.borrow().values().map(|series| series.borrow().clone()).collect();
        (http, tcp)
    }
}

#[cfg(test)]
mod metrics_test {
    use super::*;

    #[test]
    fn histogram_counts_cumulatively() {
        let mut histogram = Histogram::default();
        for value in [0.4, 0.5, 3.0, 1e9] {
            histogram.observe(value);
        }
        let counts: Vec<u64> = histogram.cumulative().collect();
        assert_eq!(counts[..3], [2, 2, 3]);
        assert_eq!(counts.last(), Some(&4));
    }

    #[test]
    fn endpoints_that_come_and_go_leave_one_series() {
        let metrics = Metrics::default();
        let outcome = Outcome {
            direction: Direction::Outbound,
            grpc: false,
            code: 200,
            grpc_status: None,
            flags: Flags::NONE,
        };
        for pod in 0..100 {
            let version = if pod == 99 { "v2" } else { "v1" };
            let workload = Workload {
                name: "web".into(),
                uid: format!("pod-{pod}").into(),
                labels: vec![("version".into(), version.into())],
                ..Workload::default()
            };
            let target =
                Target { cluster: Some(Name::new("outbound|80||web")), workload: Some(Arc::new(workload)) };
            let series = metrics.series(&SeriesCache::default(), outcome, || target.clone());
            series.borrow_mut().sums.requests += 1;
            let tcp = metrics.tcp(&SeriesCache::default(), Direction::Outbound, || target);
            tcp.borrow_mut().opened += 1;
        }
        let (mut http, mut tcp) = metrics.all();
        http.sort_by_key(|series| series.sums.requests);
        tcp.sort_by_key(|series| series.opened);
        assert_eq!(http.iter().map(|series| series.sums.requests).collect::<Vec<_>>(), [1, 99]);
        assert_eq!(tcp.iter().map(|series| series.opened).collect::<Vec<_>>(), [1, 99]);
    }

    #[test]
    fn flags_print_as_envoy_prints_them() {
        let mut flags = Flags::named("UF");
        assert_eq!(Flags::NONE.to_string(), "-");
        flags.add(Flags::named("URX"));
        assert_eq!(flags.to_string(), "URX,UF");
        assert_eq!(flags.long().to_string(), "UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
        assert_eq!(Flags::named("XX"), Flags::NONE);
    }
}
