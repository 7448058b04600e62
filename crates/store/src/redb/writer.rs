//! The one thread that writes: checks in order, commits together, publishes, acknowledges.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use heddle_resource::{Key, Object, kind::Kind};
use tokio::sync::{mpsc, oneshot};

use super::{
    disk::{Disk, Row},
    fault::needs_reopen,
};
use crate::{
    Event, LeaseId, LeaseInfo, LeaseTable, Precondition, Revision, StoreError,
    ledger::{Change, Ledger},
    stage::{Staged, stage_delete, stage_put},
};

/// Requests that share one transaction at most.
const BATCH: usize = 512;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Request {
    Put { object: Box<Object>, precondition: Precondition, reply: Reply<Arc<Object>> },
    Delete { key: Key, precondition: Precondition, reply: Reply<Arc<Object>> },
    Grant { ttl: Duration, now: Instant, reply: Reply<LeaseId> },
    Attach { id: LeaseId, key: Key, reply: Reply<()> },
    Revoke { id: LeaseId, reply: Reply<()> },
    Expire { now: Instant, reply: Reply<Vec<Arc<Object>>> },
}

/// Answers a request once it is known whether the transaction stands.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A change to the lease table that waits for the commit.
enum LeaseChange {
    Grant(LeaseInfo, Instant),
    Attach(LeaseId, Key),
    Detach(Key),
    Revoke(LeaseId),
}

/// What one transaction will hold.
struct Batch {
    revision: Revision,
    /// Objects as this batch leaves them; `None`: deleted.
    overlay: HashMap<Key, Option<Arc<Object>>>,
    rows: Vec<Row>,
    changes: Vec<(Revision, Change)>,
    leases: Vec<LeaseChange>,
    answers: Vec<Answer>,
}

pub(super) struct Writer {
    directory: PathBuf,
    /// `None` after a failure: opened again before the next transaction.
    disk: Option<Disk>,
    ledger: Arc<Ledger>,
    leases: Arc<Mutex<LeaseTable>>,
    /// Kinds whose events on disk may reach further back than the ledger's.
    touched: BTreeSet<&'static Kind>,
}

impl Writer {
    pub(super) fn new(
        directory: PathBuf,
        disk: Disk,
        ledger: Arc<Ledger>,
        leases: Arc<Mutex<LeaseTable>>,
    ) -> Self {
        Self { directory, disk: Some(disk), ledger, leases, touched: BTreeSet::new() }
    }

    /// Runs until the store is dropped and its queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(BATCH);
        while let Some(first) = queue.blocking_recv() {
            requests.push(first);
            while requests.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                requests.push(next);
            }
            self.process(requests.drain(..));
        }
    }

    fn process(&mut self, requests: impl Iterator<Item = Request>) {
        // First, as it may make changes visible that a failed commit left in the file.
        let ready = self.reopen();
        let mut batch = Batch {
            revision: self.ledger.revision(),
            overlay: HashMap::new(),
            rows: Vec::new(),
            changes: Vec::new(),
            leases: Vec::new(),
            answers: Vec::new(),
        };
        for request in requests {
            self.stage(&mut batch, request);
        }
        let outcome = ready.and_then(|()| self.commit(&mut batch));
        if let Err(error) = &outcome {
            tracing::error!(%error, "resources not stored");
        }
        for answer in batch.answers {
            answer(outcome.clone());
        }
    }

    /// Opens the database again after a failure, and catches up with it: a commit that reported an error
    /// may stand all the same.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.disk.is_some() {
            return Ok(());
        }
        let disk = Disk::open(&self.directory)?;
        let mut events = disk.load()?.history.events;
        events.retain(|(revision, _)| *revision > self.ledger.revision());
        events.sort_by_key(|(revision, _)| *revision);
        self.ledger.publish(events.into_iter().filter_map(|(revision, event)| match event {
            Event::Put(object) => Some((revision, Change::Put(object))),
            Event::Delete(object) => Some((revision, Change::Delete(object))),
            Event::Bookmark(_) => None,
        }));
        self.disk = Some(disk);
        tracing::info!("resources can be stored again");
        Ok(())
    }

    fn commit(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        if !batch.rows.is_empty() {
            // The events that the ledger dropped by now; those this batch drops go with the next one.
            let compacted: Vec<_> = std::mem::take(&mut self.touched)
                .into_iter()
                .map(|kind| (kind, self.ledger.compacted(kind)))
                .collect();
            let disk = self.disk.as_ref().ok_or(StoreError::Closed)?;
            if let Err(error) = disk.commit(batch.revision, &batch.rows, &batch.changes, &compacted) {
                if needs_reopen(&error) {
                    self.disk = None;
                }
                return Err(error);
            }
        }
        for (_, Change::Put(object) | Change::Delete(object)) in &batch.changes {
            self.touched.insert(object.kind);
        }
        self.ledger.publish(batch.changes.drain(..));
        let mut leases = self.lock_leases();
        for change in batch.leases.drain(..) {
            match change {
                LeaseChange::Grant(info, now) => leases.restore(info, now),
                LeaseChange::Attach(id, key) => {
                    leases.attach(id, key);
                }
                LeaseChange::Detach(key) => {
                    leases.detach(&key);
                }
                LeaseChange::Revoke(id) => {
                    leases.revoke(id);
                }
            }
        }
        Ok(())
    }

    fn stage(&self, batch: &mut Batch, request: Request) {
        match request {
            Request::Put { object, precondition, reply } => {
                let outcome = self.stage_put(batch, *object, precondition);
                batch.answer(reply, outcome);
            }
            Request::Delete { key, precondition, reply } => {
                let outcome = self.stage_delete(batch, &key, precondition);
                batch.answer(reply, outcome);
            }
            Request::Grant { ttl, now, reply } => {
                let granted = batch.leases.iter().filter(|c| matches!(c, LeaseChange::Grant(..))).count();
                let id = LeaseId(self.lock_leases().next_id().0 + granted as u64);
                batch.rows.push(Row::Lease(id, ttl));
                batch.leases.push(LeaseChange::Grant(LeaseInfo { id, ttl, keys: Vec::new() }, now));
                batch.answer(reply, Ok(id));
            }
            Request::Attach { id, key, reply } => {
                let outcome = self.stage_attach(batch, id, key);
                batch.answer(reply, outcome);
            }
            Request::Revoke { id, reply } => {
                let outcome = if self.holds(batch, id) { Ok(()) } else { Err(StoreError::NoLease(id)) };
                if outcome.is_ok() {
                    self.stage_revoke(batch, id);
                }
                batch.answer(reply, outcome);
            }
            Request::Expire { now, reply } => {
                let outcome = self.stage_expire(batch, now);
                batch.answer(reply, outcome);
            }
        }
    }

    fn stored(&self, batch: &Batch, key: &Key) -> Option<Arc<Object>> {
        match batch.overlay.get(key) {
            Some(changed) => changed.clone(),
            None => self.ledger.get(key),
        }
    }

    fn stage_put(
        &self,
        batch: &mut Batch,
        object: Object,
        precondition: Precondition,
    ) -> Result<Arc<Object>, StoreError> {
        let key = object.key();
        let next = Revision(batch.revision.0 + 1);
        match stage_put(object, self.stored(batch, &key).as_ref(), precondition, next)? {
            Staged::Unchanged(object) => Ok(object),
            Staged::New(object) => {
                batch.revision = next;
                batch.overlay.insert(key, Some(object.clone()));
                batch.rows.push(Row::Put(object.clone()));
                batch.changes.push((next, Change::Put(object.clone())));
                Ok(object)
            }
        }
    }

    fn stage_delete(
        &self,
        batch: &mut Batch,
        key: &Key,
        precondition: Precondition,
    ) -> Result<Arc<Object>, StoreError> {
        let next = Revision(batch.revision.0 + 1);
        let last = stage_delete(key, self.stored(batch, key).as_ref(), precondition, next)?;
        batch.revision = next;
        batch.overlay.insert(key.clone(), None);
        batch.rows.push(Row::Delete(key.clone()));
        batch.rows.push(Row::Detach(key.clone()));
        batch.changes.push((next, Change::Delete(last.clone())));
        batch.leases.push(LeaseChange::Detach(key.clone()));
        Ok(last)
    }

    /// Whether the lease is there, this batch included.
    fn holds(&self, batch: &Batch, id: LeaseId) -> bool {
        let mut held = self.lock_leases().info(id).is_some();
        for change in &batch.leases {
            match change {
                LeaseChange::Grant(info, _) if info.id == id => held = true,
                LeaseChange::Revoke(revoked) if *revoked == id => held = false,
                _ => {}
            }
        }
        held
    }

    fn stage_attach(&self, batch: &mut Batch, id: LeaseId, key: Key) -> Result<(), StoreError> {
        if !self.holds(batch, id) {
            return Err(StoreError::NoLease(id));
        }
        if self.stored(batch, &key).is_none() {
            return Err(StoreError::NotFound { key });
        }
        batch.rows.push(Row::Attach(key.clone(), id));
        batch.leases.push(LeaseChange::Attach(id, key));
        Ok(())
    }

    fn stage_revoke(&self, batch: &mut Batch, id: LeaseId) {
        let keys = self.lock_leases().info(id).map(|info| info.keys).unwrap_or_default();
        let attached = batch.leases.iter().filter_map(|change| match change {
            LeaseChange::Attach(lease, key) if *lease == id => Some(key.clone()),
            _ => None,
        });
        // One that this batch ties to another lease keeps that.
        let moved = |key: &Key| {
            let last = batch.leases.iter().rev().find_map(|change| match change {
                LeaseChange::Attach(lease, attached) if attached == key => Some(*lease),
                _ => None,
            });
            last.is_some_and(|lease| lease != id)
        };
        let detached: Vec<Row> =
            keys.into_iter().chain(attached).filter(|key| !moved(key)).map(Row::Detach).collect();
        batch.rows.extend(detached);
        batch.rows.push(Row::NoLease(id));
        batch.leases.push(LeaseChange::Revoke(id));
    }

    fn stage_expire(&self, batch: &mut Batch, now: Instant) -> Result<Vec<Arc<Object>>, StoreError> {
        let mut gone = Vec::new();
        let lapsed = self.lock_leases().lapsed(now);
        for lease in lapsed {
            for key in &lease.keys {
                match self.stage_delete(batch, key, Precondition::Any) {
                    Ok(object) => gone.push(object),
                    Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.stage_revoke(batch, lease.id);
        }
        Ok(gone)
    }

    fn lock_leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Keeps the answer until the commit: even a refusal may rest on what this batch has not stored yet.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, outcome: Result<T, StoreError>) {
        self.answers.push(Box::new(move |committed| {
            // A caller that no longer waits has given up on the answer, not on the write.
            let _ = reply.send(committed.and(outcome));
        }));
    }
}
