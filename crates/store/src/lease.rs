//! Objects that live as long as somebody renews them.
//!
//! A renewal is no write, no revision and no event. Every lease starts whole when its store is opened
//! again, so a restart of the control plane removes nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use heddle_resource::{Key, Object};

use crate::StoreError;

/// Names one lease of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease as an owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    pub id: LeaseId,
    pub ttl: Duration,
    pub keys: Vec<Key>,
}

/// Leases as a capability of a store. Time is an argument; whoever owns the store calls
/// [`Leases::expire`] when [`Leases::next_expiry`] has come.
#[async_trait]
pub trait Leases: Send + Sync {
    async fn grant(&self, ttl: Duration, now: Instant) -> Result<LeaseId, StoreError>;
    /// Starts the lease's time over. `NoLease` when it has lapsed.
    async fn renew(&self, id: LeaseId, now: Instant) -> Result<(), StoreError>;
    /// Ends the lease. The objects attached stay, without one.
    async fn revoke(&self, id: LeaseId) -> Result<(), StoreError>;
    /// Ties an object's life to the lease. An object has at most one: the last attached.
    async fn attach(&self, id: LeaseId, key: &Key) -> Result<(), StoreError>;
    /// Deletes the objects whose lease has lapsed at `now` and returns them.
    async fn expire(&self, now: Instant) -> Result<Vec<Arc<Object>>, StoreError>;
    /// When the next lease lapses if nobody renews it.
    fn next_expiry(&self) -> Option<Instant>;
    /// Every lease held, for an owner that starts again.
    fn held(&self) -> Vec<LeaseInfo>;
    /// The lease an object is attached to.
    fn lease_of(&self, key: &Key) -> Option<LeaseInfo>;
}

struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<Key>,
}

/// The leases of one store, in memory. No I/O and no clock: stores persist what must survive.
#[derive(Default)]
pub struct LeaseTable {
    last: u64,
    leases: BTreeMap<LeaseId, Lease>,
    by_deadline: BTreeSet<(Instant, LeaseId)>,
    by_key: BTreeMap<Key, LeaseId>,
}

impl LeaseTable {
    /// A lease that starts whole at `now`; ids count up from the highest ever restored.
    pub fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let id = self.next_id();
        self.restore(LeaseInfo { id, ttl, keys: Vec::new() }, now);
        id
    }

    /// The id that the next grant gets.
    pub fn next_id(&self) -> LeaseId {
        LeaseId(self.last + 1)
    }

    /// Takes over a lease that an earlier life of the store granted. It starts whole.
    pub fn restore(&mut self, info: LeaseInfo, now: Instant) {
        self.revoke(info.id);
        self.last = self.last.max(info.id.0);
        let deadline = deadline(now, info.ttl);
        self.by_deadline.insert((deadline, info.id));
        self.leases.insert(info.id, Lease { ttl: info.ttl, deadline, keys: BTreeSet::new() });
        for key in info.keys {
            self.attach(info.id, key);
        }
    }

    /// False when there is no such lease (any more).
    pub fn renew(&mut self, id: LeaseId, now: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        if lease.deadline <= now {
            return false;
        }
        self.by_deadline.remove(&(lease.deadline, id));
        lease.deadline = deadline(now, lease.ttl);
        self.by_deadline.insert((lease.deadline, id));
        true
    }

    /// Forgets the lease; its objects have none then. Returns what it was.
    pub fn revoke(&mut self, id: LeaseId) -> Option<LeaseInfo> {
        let lease = self.leases.remove(&id)?;
        self.by_deadline.remove(&(lease.deadline, id));
        for key in &lease.keys {
            self.by_key.remove(key);
        }
        self.check_invariants();
        Some(LeaseInfo { id, ttl: lease.ttl, keys: lease.keys.into_iter().collect() })
    }

    /// False when there is no such lease.
    pub fn attach(&mut self, id: LeaseId, key: Key) -> bool {
        if !self.leases.contains_key(&id) {
            return false;
        }
        self.detach(&key);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
            self.by_key.insert(key, id);
        }
        self.check_invariants();
        true
    }

    /// The object has no lease any more (it was deleted). Returns the lease it had.
    pub fn detach(&mut self, key: &Key) -> Option<LeaseId> {
        let id = self.by_key.remove(key)?;
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
        Some(id)
    }

    /// The leases that have lapsed at `now`. They stay until [`LeaseTable::revoke`], so that an owner
    /// whose deletes fail tries again; they can no longer be renewed.
    pub fn lapsed(&self, now: Instant) -> Vec<LeaseInfo> {
        let due = self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| self.info(*id)).collect()
    }

    pub fn info(&self, id: LeaseId) -> Option<LeaseInfo> {
        let lease = self.leases.get(&id)?;
        Some(LeaseInfo { id, ttl: lease.ttl, keys: lease.keys.iter().cloned().collect() })
    }

    pub fn of(&self, key: &Key) -> Option<LeaseId> {
        self.by_key.get(key).copied()
    }

    pub fn held(&self) -> Vec<LeaseInfo> {
        self.leases.keys().filter_map(|id| self.info(*id)).collect()
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.leases.len(), self.by_deadline.len());
        debug_assert_eq!(self.by_key.len(), self.leases.values().map(|l| l.keys.len()).sum::<usize>());
    }
}

/// A time to live that overflows the clock never ends in practice: a century does.
fn deadline(now: Instant, ttl: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + ttl.min(CENTURY)
}
