//! Connections that wait for their next request.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::Member;
use super::limits::Counted;
use super::transport::Transport;
use crate::conn::proxy_protocol::Ends;
use crate::conn::wire::Wire;
use crate::decide::Downstream;
use crate::snapshot::{Address, Cluster};

/// One connection at rest.
#[derive(Debug)]
struct Resting {
    wire: Wire,
    since: Instant,
    /// When it was last seen open.
    seen: Instant,
    lease: Lease,
}

/// A member's idle connections, last in, first out: the others may age and be closed.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    wires: RefCell<Vec<Resting>>,
    pub(crate) h2: RefCell<Vec<super::h2::Shared>>,
    /// Connections being made that no request waits for.
    pub(super) ahead: Cell<u32>,
}

/// A connection in use, and what is needed to give it back.
#[derive(Debug)]
pub(crate) struct Lease {
    opened: Instant,
    requests: u32,
    /// It has been at rest.
    rested: bool,
    _counted: Counted,
    /// Whom the endpoint was told that the connection is for: it serves nobody else.
    client: Option<Box<Ends>>,
    transport: Transport,
    /// Our end of the connection, once somebody has asked.
    pub(super) local: Option<Address>,
}

impl Lease {
    pub(crate) fn new(
        counted: Counted,
        cluster: &Cluster,
        client: Option<&Downstream>,
        transport: &Transport,
    ) -> Self {
        let client = client.filter(|_| cluster.proxy_protocol.is_some());
        Self {
            opened: Instant::now(),
            requests: 0,
            rested: false,
            _counted: counted,
            client: client.and_then(Downstream::ends).map(Box::new),
            transport: transport.clone(),
            local: None,
        }
    }

    /// True when the connection waited for this request, mostly after others: its peer may be closing it just now.
    pub(crate) fn reused(&self) -> bool {
        self.rested
    }
}

/// The most idle HTTP/1.1 connections kept for one endpoint by one worker.
const MOST_IDLE: usize = 1024;

impl Member {
    /// An idle connection on which nothing has happened since its last message.
    pub(crate) fn take_idle(
        &self,
        cluster: &Cluster,
        client: Option<&Downstream>,
        transport: &Transport,
    ) -> Option<(Wire, Lease)> {
        let told = cluster.proxy_protocol.map(|_| client.and_then(Downstream::ends));
        loop {
            let mut wires = self.idle.wires.borrow_mut();
            // Made for another, it may fit another request; if it never does, it ends as an idle one.
            let place = wires.iter().rposition(|resting| {
                let lease = &resting.lease;
                lease.transport.same(transport)
                    && told.as_ref().is_none_or(|told| lease.client.as_deref() == told.as_ref())
            });
            let now = Instant::now();
            // What the endpoint may be closing is not used, and stays: it shows for how long it is left open.
            let place = place.filter(|place| self.habit.trusts(now - wires[*place].since));
            let mut resting = wires.swap_remove(place?);
            drop(wires);
            let old = cluster.max_connection_duration.is_some_and(|most| now - resting.lease.opened >= most);
            if resting.wire.is_quiet() && !old && !expired(&resting, cluster.idle_timeout, now) {
                return Some((resting.wire, Lease { rested: true, ..resting.lease }));
            }
        }
    }

    /// Takes back a connection that stands cleanly between two messages.
    pub(crate) fn give_back(&self, cluster: &Cluster, wire: Wire, mut lease: Lease) {
        lease.requests += 1;
        let limit = cluster.max_requests_per_connection;
        if limit != 0 && lease.requests >= limit {
            return;
        }
        self.keep(cluster, wire, lease);
    }

    /// Keeps a connection for the next request.
    pub(super) fn keep(&self, cluster: &Cluster, mut wire: Wire, lease: Lease) {
        let now = Instant::now();
        if cluster.max_connection_duration.is_some_and(|most| now - lease.opened >= most) {
            return;
        }
        let mut wires = self.idle.wires.borrow_mut();
        if wires.len() < MOST_IDLE {
            wire.rest();
            wires.push(Resting { wire, since: now, seen: now, lease });
            self.room.free();
        }
    }

    /// Closes idle connections that their peers have closed or that nobody used for long.
    pub(crate) fn sweep(&self, idle_timeout: Option<Duration>) {
        let now = Instant::now();
        self.idle.wires.borrow_mut().retain_mut(|resting| {
            if expired(resting, idle_timeout, now) {
                return false;
            }
            let open = resting.wire.is_quiet();
            match open {
                true => self.habit.open(now - resting.since),
                false => self.habit.closed(resting.seen - resting.since),
            }
            resting.seen = now;
            open
        });
        self.idle
            .h2
            .borrow_mut()
            .retain(|shared| shared.is_open() && idle_timeout.is_none_or(|most| shared.idle_for(now) < most));
    }

    /// Number of idle HTTP/1.1 connections.
    pub(crate) fn idle_count(&self) -> usize {
        self.idle.wires.borrow().len()
    }
}

fn expired(resting: &Resting, idle_timeout: Option<Duration>, now: Instant) -> bool {
    idle_timeout.is_some_and(|most| now.saturating_duration_since(resting.since) >= most)
}
