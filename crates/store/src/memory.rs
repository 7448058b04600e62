//! A store that forgets.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use heddle_resource::{Key, Object, kind::Kind};

use crate::{
    LeaseId, LeaseInfo, LeaseTable, Leases, Precondition, Revision, Store, StoreError, Watch,
    ledger::{LOG_EVENTS, Ledger, fresh_start},
};

/// Objects in memory only: tests, `--store memory`, a mesh for an afternoon.
pub struct MemoryStore {
    ledger: Arc<Ledger>,
    leases: Mutex<LeaseTable>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::starting_at(fresh_start(), LOG_EVENTS)
    }

    /// With chosen revisions, and `keep` events per kind for late watchers.
    pub fn starting_at(start: Revision, keep: usize) -> Self {
        Self { ledger: Ledger::new(start, keep), leases: Mutex::default() }
    }

    fn lock_leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, StoreError> {
        Ok(self.ledger.get(key))
    }

    async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<(Vec<Arc<Object>>, Revision), StoreError> {
        Ok(self.ledger.list(kind, namespace))
    }

    async fn watch(&self, kind: &'static Kind, from: Revision) -> Result<Watch, StoreError> {
        self.ledger.watch(kind, from)
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        self.ledger.put(object, precondition)
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        let last = self.ledger.delete(key, precondition)?;
        self.lock_leases().detach(key);
        Ok(last)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

#[async_trait]
impl Leases for MemoryStore {
    async fn grant(&self, ttl: Duration, now: Instant) -> Result<LeaseId, StoreError> {
        Ok(self.lock_leases().grant(ttl, now))
    }

    async fn renew(&self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        self.lock_leases().renew(id, now).then_some(()).ok_or(StoreError::NoLease(id))
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.lock_leases().revoke(id).map(drop).ok_or(StoreError::NoLease(id))
    }

    async fn attach(&self, id: LeaseId, key: &Key) -> Result<(), StoreError> {
        if self.ledger.get(key).is_none() {
            return Err(StoreError::NotFound { key: key.clone() });
        }
        self.lock_leases().attach(id, key.clone()).then_some(()).ok_or(StoreError::NoLease(id))
    }

    async fn expire(&self, now: Instant) -> Result<Vec<Arc<Object>>, StoreError> {
        let mut gone = Vec::new();
        let lapsed = self.lock_leases().lapsed(now);
        for lease in lapsed {
            for key in &lease.keys {
                match self.ledger.delete(key, Precondition::Any) {
                    Ok(object) => gone.push(object),
                    Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.lock_leases().revoke(lease.id);
        }
        Ok(gone)
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.lock_leases().next_expiry()
    }

    fn held(&self) -> Vec<LeaseInfo> {
        self.lock_leases().held()
    }

    fn lease_of(&self, key: &Key) -> Option<LeaseInfo> {
        let leases = self.lock_leases();
        leases.info(leases.of(key)?)
    }
}
