//! The record in which each request ends.

use std::rc::Rc;

use tokio::time::Instant;

use super::Flags;
use super::metrics::{Outcome, Target};
use crate::snapshot::{Direction, Name};
use crate::upstream::Member;
use crate::worker::Worker;

/// What is known about one request. Counted once, by [`Record::finish`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Record {
    pub(crate) start: Instant,
    pub(crate) direction: Direction,
    pub(crate) code: u16,
    pub(crate) flags: Flags,
    pub(crate) grpc: bool,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) attempts: u32,
    /// Where it was to go; the member's cluster counts if there is a member.
    pub(crate) cluster: Option<Name>,
    pub(crate) member: Option<Rc<Member>>,
}

impl Record {
    pub(crate) fn new(start: Instant, direction: Direction) -> Self {
        Self {
            start,
            direction,
            code: 0,
            flags: Flags::NONE,
            grpc: false,
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            attempts: 0,
            cluster: None,
            member: None,
        }
    }

    /// Counts the request.
    pub(crate) fn finish(self, worker: &Worker, now: Instant) {
        let outcome = Outcome {
            direction: self.direction,
            grpc: self.grpc,
            code: self.code,
            grpc_status: self.grpc_status,
            flags: self.flags,
        };
        let series = match &self.member {
            Some(member) => worker.metrics.series(&member.series, outcome, || Target {
                cluster: Some(member.cluster.clone()),
                workload: member.workload.clone(),
            }),
            None => worker.metrics.unrouted(outcome, self.cluster.as_ref()),
        };
        let sums = &mut series.borrow_mut().sums;
        sums.requests += 1;
        sums.duration_ms.observe(now.saturating_duration_since(self.start).as_secs_f64() * 1000.0);
        sums.request_bytes.observe(self.request_bytes as f64);
        sums.response_bytes.observe(self.response_bytes as f64);
    }
}
