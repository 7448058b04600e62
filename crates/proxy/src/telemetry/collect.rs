//! What a worker says when it is asked for its counts.

use super::metrics::{Metrics, Series, TcpSeries};
use crate::http::h2::meter::Flood;
use crate::snapshot::{Address, Name};
use crate::upstream::Counter;
use crate::worker::Worker;

/// One worker's counts at one moment.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) http: Vec<Series>,
    pub(crate) tcp: Vec<TcpSeries>,
    pub(crate) clusters: Vec<ClusterCounts>,
    pub(crate) connections: u64,
    pub(crate) connections_total: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) accept_errors: u64,
    /// Lines of access logs: put into buffers, and dropped.
    pub(crate) log_lines: [u64; 2],
    pub(crate) tls: [(&'static str, u64); 5],
    /// What hostile clients were sent away for, by Envoy's names.
    pub(crate) sent_away: Vec<(String, u64)>,
}

/// One cluster's counts.
#[derive(Debug)]
pub(crate) struct ClusterCounts {
    pub(crate) name: Name,
    pub(crate) counters: [Counter; 14],
    pub(crate) connections: u64,
    pub(crate) active: u64,
    pub(crate) members: Vec<MemberCounts>,
}

/// One endpoint's counts.
#[derive(Debug)]
pub(crate) struct MemberCounts {
    pub(crate) address: Address,
    pub(crate) active: u64,
    pub(crate) idle: u64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) connect_failures: u64,
    pub(crate) ejected: bool,
}

impl Collected {
    pub(crate) fn of(worker: &Worker) -> Self {
        let (http, tcp) = worker.metrics.all();
        let states = worker.upstreams.all();
        let clusters = states.iter().map(|state| ClusterCounts {
            name: state.name.clone(),
            counters: state.stats.counters(),
            connections: state.connections.get().into(),
            active: state.active.get().into(),
            members: state
                .known()
                .iter()
                .map(|member| MemberCounts {
                    address: member.address,
                    active: member.active.get().into(),
                    idle: member.idle_count() as u64,
                    requests: member.requests.get(),
                    failures: member.failures.get(),
                    connect_failures: member.connect_failures.get(),
                    ejected: state.ejected(member),
                })
                .collect(),
        });
        Self {
            http,
            tcp,
            clusters: clusters.collect(),
            connections: worker.connections.len() as u64,
            connections_total: worker.connections.opened(),
            protocol_errors: worker.metrics.downstream_protocol_error.get(),
            accept_errors: worker.metrics.accept_errors.get(),
            log_lines: [worker.logs.lines.get(), worker.logs.dropped.get()],
            tls: worker.metrics.tls.all(),
            sent_away: sent_away(&worker.metrics),
        }
    }
}

fn sent_away(metrics: &Metrics) -> Vec<(String, u64)> {
    let floods = Flood::NAMES.iter().zip(&metrics.floods);
    let mut all: Vec<_> = floods.map(|(name, count)| (format!("http2.{name}"), count.get())).collect();
    all.push(("http.downstream_rq_too_many_premature_resets".to_owned(), metrics.premature_resets.get()));
    all
}
