//! What a cluster's breakers count over all workers.
//!
//! The counts are shared because the limits are the user's, per proxy. They are touched when a connection opens or closes,
//! when a request has to wait or is tried again, and when a worker takes places for requests ([`super::quota`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::ConnectError;
use super::outlier::Outliers;
use crate::snapshot::{Breakers, Name};

/// The counts of every cluster and listener, shared by the workers.
#[derive(Debug)]
pub(crate) struct Ledger {
    totals: Mutex<HashMap<Name, Weak<Totals>>>,
    /// How many workers there are.
    pub(crate) workers: u32,
    /// What times are counted from.
    start: Instant,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(1)
    }
}

/// The counts of one cluster or listener over all workers.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    connections: AtomicU32,
    /// Places for requests that workers hold, used or not.
    pub(super) requests: AtomicU32,
    pending: AtomicU32,
    retries: AtomicU32,
    faults: AtomicU32,
    pub(crate) outliers: Outliers,
}

impl Ledger {
    pub(crate) fn new(workers: u32) -> Self {
        Self { totals: Mutex::default(), workers, start: Instant::now() }
    }

    /// Time since the proxy's start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The counts of a cluster; forgotten when no worker has them any more.
    pub(crate) fn totals(&self, cluster: &Name) -> Arc<Totals> {
        let mut known = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(totals) = known.get(cluster).and_then(Weak::upgrade) {
            return totals;
        }
        known.retain(|_, totals| totals.strong_count() > 0);
        let totals = Arc::<Totals>::default();
        known.insert(cluster.clone(), Arc::downgrade(&totals));
        totals
    }
}

/// One of a limited number, given back when dropped; nothing where there is no limit.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<(Arc<Totals>, Of)>);

#[derive(Clone, Copy, Debug)]
enum Of {
    Pending,
    Retries,
    Faults,
}

impl Totals {
    fn count(&self, of: Of) -> &AtomicU32 {
        match of {
            Of::Pending => &self.pending,
            Of::Retries => &self.retries,
            Of::Faults => &self.faults,
        }
    }

    /// One more request that waits for a connection (`max_pending_requests`).
    pub(crate) fn pending(self: &Arc<Self>, breakers: &Breakers) -> Result<Ticket, ConnectError> {
        self.take(Of::Pending, breakers.max_pending)
    }

    /// One more retry under way (`max_retries`).
    pub(crate) fn retry(self: &Arc<Self>, breakers: &Breakers) -> Result<Ticket, ConnectError> {
        self.take(Of::Retries, breakers.max_retries)
    }

    /// One more fault at work (`max_active_faults`); the counts are those of a listener.
    pub(crate) fn fault(self: &Arc<Self>, limit: Option<u32>) -> Result<Ticket, ConnectError> {
        self.take(Of::Faults, limit)
    }

    fn take(self: &Arc<Self>, of: Of, limit: Option<u32>) -> Result<Ticket, ConnectError> {
        let Some(limit) = limit else { return Ok(Ticket::default()) };
        if self.count(of).fetch_add(1, Ordering::Relaxed) >= limit {
            self.count(of).fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectError::Overflow);
        }
        Ok(Ticket(Some((self.clone(), of))))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((totals, of)) = &self.0 {
            totals.count(*of).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The connections of one worker to one endpoint, and who waits for one of them.
#[derive(Debug)]
pub(crate) struct Room {
    totals: Arc<Totals>,
    /// The worker's connections to the whole cluster.
    cluster: std::rc::Rc<Cell<u32>>,
    here: Cell<u32>,
    waiting: Cell<u32>,
    freed: Notify,
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(std::rc::Rc<Room>);

impl Room {
    pub(crate) fn new(totals: Arc<Totals>, cluster: std::rc::Rc<Cell<u32>>) -> Self {
        Self { totals, cluster, here: Cell::new(0), waiting: Cell::new(0), freed: Notify::new() }
    }

    /// Counts one more connection, unless the cluster has `limit` already. With `floor` a worker may have one to each
    /// endpoint all the same: a request must not wait for a connection that nobody here will give back.
    pub(crate) fn reserve(self: &std::rc::Rc<Self>, limit: Option<u32>, floor: bool) -> Option<Counted> {
        let before = self.totals.connections.fetch_add(1, Ordering::Relaxed);
        if limit.is_some_and(|limit| before >= limit) && !(floor && self.here.get() == 0) {
            self.totals.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.here.set(self.here.get() + 1);
        self.cluster.set(self.cluster.get() + 1);
        Some(Counted(self.clone()))
    }

    /// Connections that are open or being made, those of all protocols.
    pub(crate) fn connections(&self) -> u32 {
        self.here.get()
    }

    /// Somebody waits already, so that whoever comes now is behind him.
    pub(crate) fn contended(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Waits until a connection to this endpoint came free or was closed.
    pub(crate) async fn wait(&self) {
        let _waiting = Waiting::new(&self.waiting);
        self.freed.notified().await;
    }

    /// A connection came free: whoever waits longest looks again.
    pub(crate) fn free(&self) {
        if self.contended() {
            self.freed.notify_one();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let room = &self.0;
        room.totals.connections.fetch_sub(1, Ordering::Relaxed);
        room.here.set(room.here.get() - 1);
        room.cluster.set(room.cluster.get() - 1);
        room.free();
    }
}

struct Waiting<'w>(&'w Cell<u32>);

impl<'w> Waiting<'w> {
    fn new(count: &'w Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
