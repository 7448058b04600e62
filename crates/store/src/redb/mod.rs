//! The embedded store: one file in a directory of its own, read into memory at the start.
//!
//! Reads and watches are served from memory. Writes go to one thread, which checks them in order, writes
//! all that wait as one transaction, syncs it to disk, and only then makes them visible and acknowledges
//! them.

mod disk;
mod fault;
mod mark;
#[cfg(test)]
mod power_test;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use heddle_resource::{Key, Object, kind::Kind};
use tokio::sync::{mpsc, oneshot};

use self::{
    disk::{Disk, Loaded},
    writer::{Request, Writer},
};
use crate::{
    LeaseId, LeaseInfo, LeaseTable, Leases, Precondition, Revision, Store, StoreError, Watch,
    ledger::{LOG_EVENTS, Ledger},
};

/// Writes that may wait for the thread; more wait in their callers.
const QUEUE: usize = 1024;

/// Resources in `DIRECTORY/heddle.redb`. What was acknowledged survives `kill -9` and, where the disk
/// keeps what was synced, power loss.
pub struct RedbStore {
    ledger: Arc<Ledger>,
    leases: Arc<Mutex<LeaseTable>>,
    /// Taken when the store closes.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    directory: PathBuf,
    faults: Vec<String>,
}

impl RedbStore {
    /// Opens or creates the store; blocks while it reads and checks the whole file. Leases start whole at
    /// `now`. The directory is made with mode 0700.
    pub fn open(directory: impl AsRef<Path>, now: Instant) -> Result<Self, StoreError> {
        Self::open_keeping(directory.as_ref(), now, LOG_EVENTS)
    }

    /// As [`RedbStore::open`], with `keep` events per kind for late watchers.
    pub fn open_keeping(directory: &Path, now: Instant, keep: usize) -> Result<Self, StoreError> {
        let disk = Disk::open(directory)?;
        let Loaded { history, leases, faults } = disk.load()?;
        for fault in &faults {
            tracing::warn!("{fault}");
        }
        let mut table = LeaseTable::default();
        for lease in leases {
            table.restore(lease, now);
        }
        let ledger = Ledger::restore(history, keep);
        let leases = Arc::new(Mutex::new(table));
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(directory.to_owned(), disk, ledger.clone(), leases.clone());
        let thread = std::thread::Builder::new()
            .name("heddle-store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| StoreError::Io(format!("cannot start the store's thread: {error}")))?;
        let directory = directory.to_owned();
        Ok(Self { ledger, leases, requests: Some(requests), thread: Some(thread), directory, faults })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Objects that are kept on disk but not served, and why: kinds or fields this release cannot read.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn lock_leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(request(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for RedbStore {
    /// What is queued is still written; the file is closed when this returns.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for RedbStore {
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
        self.send(|reply| Request::Put { object: Box::new(object), precondition, reply }).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        self.send(|reply| Request::Delete { key: key.clone(), precondition, reply }).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }
}

#[async_trait]
impl Leases for RedbStore {
    async fn grant(&self, ttl: Duration, now: Instant) -> Result<LeaseId, StoreError> {
        self.send(|reply| Request::Grant { ttl, now, reply }).await
    }

    async fn renew(&self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        self.lock_leases().renew(id, now).then_some(()).ok_or(StoreError::NoLease(id))
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.send(|reply| Request::Revoke { id, reply }).await
    }

    async fn attach(&self, id: LeaseId, key: &Key) -> Result<(), StoreError> {
        self.send(|reply| Request::Attach { id, key: key.clone(), reply }).await
    }

    async fn expire(&self, now: Instant) -> Result<Vec<Arc<Object>>, StoreError> {
        if self.next_expiry().is_none_or(|next| next > now) {
            return Ok(Vec::new());
        }
        self.send(|reply| Request::Expire { now, reply }).await
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
