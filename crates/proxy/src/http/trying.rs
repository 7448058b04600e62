//! What the attempts of one request share: how many there may be, and by when.

use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::body::RequestBody;
use super::client::Client;
use super::head::Method;
use super::retry::Failure;
use super::stream::{Broken, Stream};
use crate::conn::alarm::earliest;
use crate::decide::Forward;
use crate::overload::{HURRY, Stage};
use crate::snapshot::Address;
use crate::telemetry::Flags;
use crate::upstream::budget::Retrying;
use crate::upstream::{ClusterState, count};
use crate::worker::Worker;

/// Bytes of a request body that are kept for retries (DESIGN 7.5).
const KEPT: u64 = 64 * 1024;

/// Why an attempt ended without a response.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client is gone; nothing more is to be done.
    Client,
    /// What the client sends is no HTTP.
    Malformed,
    Failed(Failure),
}

impl From<Broken> for Stop {
    /// The client's stream broke.
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Malformed(_) => Self::Malformed,
            _ => Self::Client,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub(crate) struct Trying {
    /// Attempts begun, the current one included.
    pub(crate) attempts: u32,
    /// Retries that were allowed so far.
    pub(crate) retries: u32,
    /// Endpoints that were tried: no retry goes there while others exist (DESIGN 7.5), whether or not the policy says so.
    pub(crate) tried: SmallVec<[Address; 4]>,
    /// The current attempt goes over a connection that was used before.
    pub(crate) reused: bool,
    /// The current attempt's response has begun.
    pub(crate) answered: Option<Instant>,
    replayed: bool,
    /// This request's part of the cluster's budget.
    pub(crate) under_way: Option<Retrying>,
    /// When the client had sent everything.
    complete: Option<Instant>,
    begun: Instant,
}

impl Trying {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            attempts: 0,
            retries: 0,
            tried: SmallVec::new(),
            reused: false,
            answered: None,
            replayed: false,
            under_way: None,
            complete: None,
            begun: start,
        }
    }

    /// Bytes of the request's body that are worth keeping.
    pub(crate) fn keep(forward: &Forward<'_>) -> usize {
        if forward.retry_on.is_empty() && forward.mirrors.is_empty() {
            return 0;
        }
        usize::try_from(forward.buffer_limit.unwrap_or(KEPT).min(KEPT)).unwrap_or(0)
    }

    /// When the client had sent everything.
    pub(crate) fn complete(&self) -> Option<Instant> {
        self.complete
    }

    /// From the end of the request to the head of the response (`x-envoy-upstream-service-time`).
    pub(crate) fn service_time(&self) -> Duration {
        let answered = self.answered.unwrap_or(self.begun);
        answered.saturating_duration_since(self.complete.unwrap_or(self.begun))
    }

    /// Allows one more attempt, or says by a flag why not. `free`: the last one sent nothing.
    pub(crate) fn again(
        &mut self,
        forward: &Forward<'_>,
        state: &ClusterState,
        body: &RequestBody,
        free: bool,
        flags: &mut Flags,
    ) -> bool {
        if self.retries >= forward.max_retries {
            flags.add(Flags::RETRY_LIMIT);
            return false;
        }
        if !body.can_restart() {
            return false;
        }
        self.under_way = None;
        let breakers = &forward.cluster.breakers[usize::from(forward.action.high_priority)];
        self.under_way = state.retries.take(state.active.get(), breakers, free);
        if self.under_way.is_none() {
            flags.add(Flags::UPSTREAM_OVERFLOW);
            count(&state.stats.upstream_rq_retry_overflow);
            return false;
        }
        self.retries += 1;
        count(&state.stats.upstream_rq_retry);
        true
    }

    /// Allows one repetition, once per request, after a connection died of old age.
    pub(crate) fn replay(
        &mut self,
        failure: &Failure,
        method: Method,
        state: &ClusterState,
        body: &RequestBody,
    ) -> bool {
        if self.replayed || !body.can_restart() || !failure.replayable(method, self.reused) {
            return false;
        }
        self.replayed = true;
        count(&state.stats.upstream_rq_replayed);
        true
    }
}

/// The deadlines of one attempt.
#[derive(Debug)]
pub(crate) struct Limit {
    whole: Option<Instant>,
    one: Option<Instant>,
    quiet: Option<Instant>,
    one_quiet: Option<Instant>,
    stream: Option<Instant>,
}

impl Limit {
    pub(crate) fn new(forward: &Forward<'_>, trying: &mut Trying, body: &RequestBody) -> Self {
        let now = if trying.attempts == 1 { trying.begun } else { Instant::now() };
        let mut limit = Self {
            whole: None,
            one: None,
            quiet: quiet(forward, trying, now),
            one_quiet: one_quiet(forward, now),
            stream: forward.max_stream_duration.map(|most| trying.begun + most),
        };
        if body.ended() || trying.complete.is_some() {
            limit.arm(forward, trying, now);
        }
        limit
    }

    /// The request was sent completely: from now on the time of the response counts.
    pub(crate) fn sent(&mut self, forward: &Forward<'_>, trying: &mut Trying) {
        if self.whole.is_none() && self.one.is_none() {
            // Without a timeout the clock is read for the service time only, and the start is near enough when the
            // request came in one piece.
            let now = if trying.attempts == 1 && trying.complete.is_none() && forward.timeout.is_none() {
                trying.begun
            } else {
                Instant::now()
            };
            self.arm(forward, trying, now);
        }
    }

    fn arm(&mut self, forward: &Forward<'_>, trying: &mut Trying, now: Instant) {
        let complete = *trying.complete.get_or_insert(now);
        if forward.http.request_timeout.is_some() {
            self.quiet = quiet(forward, trying, now);
        }
        self.whole = forward.timeout.map(|timeout| complete + timeout);
        self.one = forward.per_try_timeout.map(|timeout| now + timeout);
    }

    /// Something moved.
    pub(crate) fn moved(&mut self, forward: &Forward<'_>, trying: &Trying) {
        let now = Instant::now();
        self.quiet = quiet(forward, trying, now);
        self.one_quiet = one_quiet(forward, now);
    }

    /// Ready when one of them has passed; `hurried` is the one of [`Pace`].
    pub(crate) fn poll(
        &mut self,
        client: &mut Client,
        hurried: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Failure> {
        let next = earliest(earliest(self.whole, self.one), earliest(self.quiet, self.stream));
        let next = earliest(earliest(next, self.one_quiet), hurried);
        if client.alarm.poll(cx, next).is_pending() {
            return Poll::Pending;
        }
        let passed = |deadline: Option<Instant>| deadline.is_some() && deadline == next;
        Poll::Ready(if passed(self.whole) || passed(self.stream) {
            Failure::Timeout
        } else if passed(self.one) {
            Failure::PerTryTimeout
        } else if passed(self.one_quiet) {
            Failure::PerTryIdle
        } else {
            Failure::Idle
        })
    }
}

/// How much a client has to send or to take within [`HURRY`] where room is short. Less is what attackers have time for.
const HURRIED_BYTES: u64 = 2048;

/// How fast a client is that an exchange waits for. Nobody asks while there is room.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    until: Option<Instant>,
    bytes: u64,
}

impl Pace {
    /// When the client is given up, if room is short; `bytes` have come from it and gone to it so far.
    pub(crate) fn limit(
        &mut self,
        worker: &Worker,
        client: &Client,
        bytes: u64,
        cx: &Context<'_>,
    ) -> Option<Instant> {
        // One that is silent has to be looked at when room gets short. A connection of HTTP/2 wakes its own task.
        if matches!(client.stream, Stream::Wire(_)) {
            client.control.register(cx.waker());
        }
        if worker.stage.get() < Stage::CutSlow {
            self.until = None;
        } else if self.until.is_none() || bytes >= self.bytes + HURRIED_BYTES {
            *self = Self { until: Some(Instant::now() + HURRY), bytes };
        }
        self.until
    }
}

/// When nothing has moved for too long, or the request is not complete in time (`request_timeout`).
fn quiet(forward: &Forward<'_>, trying: &Trying, now: Instant) -> Option<Instant> {
    let idle = forward.idle_timeout.map(|idle| now + idle);
    match (forward.http.request_timeout, trying.complete) {
        (Some(most), None) => earliest(idle, Some(trying.begun + most)),
        _ => idle,
    }
}

/// When an attempt on which nothing moves any more is given up (`per_try_idle_timeout`).
fn one_quiet(forward: &Forward<'_>, now: Instant) -> Option<Instant> {
    forward.retry.and_then(|policy| policy.per_try_idle_timeout).map(|idle| now + idle)
}
