//! The I/O around the registry: watches in, probes and status out.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use heddle_resource::{Key, Object, kind};
use heddle_store::{Event, Store, StoreError};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    checks::{Checks, ProbeRequest, Report},
    condition::{self, Verdict, Writes},
    lease,
    probe::probe,
    spec::{CheckSpec, LEASE_TTL},
};

/// A store that failed is asked again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What the registry works on.
pub struct RegistryConfig {
    /// In the order in which the world merges them: the first that has an entry counts.
    pub stores: Vec<Arc<dyn Store>>,
    /// Checks under way at once; default 64.
    pub in_flight: usize,
}

impl RegistryConfig {
    pub fn new(stores: Vec<Arc<dyn Store>>) -> Self {
        Self { stores, in_flight: 64 }
    }
}

/// Runs until dropped.
pub struct Registry {
    report: watch::Receiver<Report>,
    task: JoinHandle<()>,
}

impl Registry {
    /// Starts on the current runtime (the management runtime: checks never share a core with requests).
    pub fn start(config: RegistryConfig) -> Self {
        let (reports, report) = watch::channel(Report::default());
        Self { report, task: tokio::spawn(run(config, reports)) }
    }

    /// How the checker is doing.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one store says of its entries.
enum Seen {
    /// Everything there is, after a list.
    All(Vec<Arc<Object>>),
    Put(Arc<Object>),
    Gone(Key),
}

async fn run(config: RegistryConfig, reports: watch::Sender<Report>) {
    let (sender, seen) = mpsc::channel(256);
    let stores = &config.stores;
    let feeds = stores.iter().enumerate().map(|(index, store)| feed(index, store.as_ref(), sender.clone()));
    let leases = stores.iter().map(|store| expire(store.as_ref()));
    tokio::join!(join_all(feeds), join_all(leases), Loop::new(&config, reports).run(seen));
}

/// Lists, then follows; lists again when the watch ends or falls behind.
async fn feed(index: usize, store: &dyn Store, out: mpsc::Sender<(usize, Seen)>) {
    loop {
        if let Err(error) = follow(index, store, &out).await {
            if error != StoreError::Compacted {
                tracing::warn!(%error, "registered instances cannot be read; trying again");
                tokio::time::sleep(RETRY).await;
            }
        } else {
            return;
        }
    }
}

async fn follow(
    index: usize,
    store: &dyn Store,
    out: &mpsc::Sender<(usize, Seen)>,
) -> Result<(), StoreError> {
    let (objects, revision) = store.list(&kind::WORKLOAD_ENTRY, None).await?;
    let mut watch = store.watch(&kind::WORKLOAD_ENTRY, revision).await?;
    let mut seen = Seen::All(objects);
    loop {
        if out.send((index, seen)).await.is_err() {
            return Ok(());
        }
        seen = loop {
            match watch.next().await {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(Event::Put(object))) => break Seen::Put(object),
                Some(Ok(Event::Delete(object))) => break Seen::Gone(object.key()),
                Some(Ok(Event::Bookmark(_))) => {}
            }
        };
    }
}

/// Deletes what lapses, when it lapses.
async fn expire(store: &dyn Store) {
    /// Leases are granted elsewhere, too: how late their lapse may be noticed.
    const LOOK: Duration = Duration::from_secs(1);
    let Some(leases) = store.leases() else { return };
    loop {
        let due = leases.next_expiry().unwrap_or_else(|| Instant::now() + LOOK);
        tokio::time::sleep_until(due.min(Instant::now() + LOOK).into()).await;
        let now = Instant::now();
        if leases.next_expiry().is_none_or(|next| next > now) {
            continue;
        }
        match leases.expire(now).await {
            Ok(gone) => {
                for object in gone {
                    tracing::info!(object = %object.key(), "its lease lapsed; deregistered");
                }
            }
            Err(error) => {
                tracing::error!(%error, "registrations that lapsed could not be deleted; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

type Outcome = (ProbeRequest, Result<(), String>);

struct Loop<'c> {
    stores: &'c [Arc<dyn Store>],
    checks: Checks,
    /// Which store's entry counts, by key.
    owners: HashMap<Key, usize>,
    probes: JoinSet<Outcome>,
    /// Leases being granted.
    grants: JoinSet<()>,
    writes: Writes,
    reports: watch::Sender<Report>,
}

impl<'c> Loop<'c> {
    fn new(config: &'c RegistryConfig, reports: watch::Sender<Report>) -> Self {
        Self {
            stores: &config.stores,
            checks: Checks::new(config.in_flight),
            owners: HashMap::new(),
            probes: JoinSet::new(),
            grants: JoinSet::new(),
            writes: Writes::default(),
            reports,
        }
    }

    async fn run(mut self, mut seen: mpsc::Receiver<(usize, Seen)>) {
        loop {
            for request in self.checks.due(Instant::now()) {
                self.probes.spawn(async move {
                    let outcome = probe(&request.spec).await;
                    (request, outcome)
                });
            }
            let due = self.checks.next_due();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((store, seen)) = seen.recv() => self.on_seen(store, seen),
                Some(Ok((request, outcome))) = self.probes.join_next() => self.on_outcome(&request, outcome),
                Some(_) = self.grants.join_next() => {}
                Some(()) = self.writes.finish() => {}
                () = wait => {}
            }
        }
    }

    fn on_seen(&mut self, store: usize, seen: Seen) {
        match seen {
            Seen::All(objects) => {
                let there: HashSet<Key> = objects.iter().map(|object| object.key()).collect();
                let owned =
                    self.owners.iter().filter(|(key, owner)| **owner == store && !there.contains(key));
                let gone: Vec<Key> = owned.map(|(key, _)| key.clone()).collect();
                for key in gone {
                    self.forget(store, &key);
                }
                for object in objects {
                    self.on_entry(store, object);
                }
            }
            Seen::Put(object) => self.on_entry(store, object),
            Seen::Gone(key) => self.forget(store, &key),
        }
        self.publish();
    }

    fn forget(&mut self, store: usize, key: &Key) {
        if self.owners.get(key) == Some(&store) {
            self.owners.remove(key);
            self.checks.remove(key);
        }
    }

    fn on_entry(&mut self, index: usize, object: Arc<Object>) {
        let key = object.key();
        if self.owners.get(&key).is_some_and(|owner| *owner < index) {
            return;
        }
        self.owners.insert(key.clone(), index);
        match lease::ttl(&object) {
            Ok(Some(ttl)) => self.grant(index, object.clone(), ttl),
            Ok(None) => {}
            Err(message) => tracing::warn!(object = %key, "{message}; it lives without a lease"),
        }
        match CheckSpec::of(&object) {
            Ok(Some(spec)) => {
                let known = condition::read(&object);
                self.checks.declare(key.clone(), spec, known, Instant::now(), random());
                // Somebody replaced the object without its status.
                if let Some(healthy) = self.checks.healthy(&key)
                    && !condition::present(&object)
                {
                    let message = "as checked before the object was replaced".to_owned();
                    self.write(&key, Some(Verdict::checked(healthy, message)));
                }
            }
            Ok(None) => {
                // What a check left behind does not outlive its declaration.
                if self.checks.remove(&key) {
                    self.write(&key, None);
                }
            }
            Err(message) => {
                self.checks.remove(&key);
                tracing::warn!(object = %key, "{message}");
                self.write(&key, Some(Verdict::invalid(message)));
            }
        }
    }

    fn grant(&mut self, index: usize, object: Arc<Object>, ttl: Duration) {
        let Some(store) = self.stores.get(index).cloned() else { return };
        self.grants.spawn(async move {
            let Some(leases) = store.leases() else {
                tracing::warn!(
                    object = %object.key(),
                    "annotation {LEASE_TTL}: where the object is kept there are no leases; it lives until deleted there"
                );
                return;
            };
            if let Err(error) = lease::ensure(leases, &object, ttl, Instant::now()).await {
                tracing::error!(object = %object.key(), %error, "no lease granted; it stays until deleted");
            }
        });
    }

    fn on_outcome(&mut self, request: &ProbeRequest, outcome: Result<(), String>) {
        let held = self.checks.report().held;
        let change = self.checks.on_outcome(request, outcome, Instant::now(), random());
        if let (None, Some(now)) = (held, self.checks.report().held) {
            tracing::error!("{now}");
        }
        match change {
            Some(change) => {
                tracing::info!(object = %change.key, healthy = change.healthy, "{}", change.message);
                self.write(&change.key, Some(Verdict::checked(change.healthy, change.message)));
            }
            None => self.writes.retry(&request.key),
        }
        self.publish();
    }

    fn write(&mut self, key: &Key, verdict: Option<Verdict>) {
        let store = self.owners.get(key).and_then(|owner| self.stores.get(*owner));
        if let Some(store) = store.cloned() {
            self.writes.start(store, key.clone(), verdict);
        }
    }

    fn publish(&self) {
        let report = self.checks.report();
        self.reports.send_if_modified(|current| {
            let differs = *current != report;
            *current = report;
            differs
        });
    }
}

/// From 0 to 1. The standard library's hash keys are random enough to spread checks out.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
#[path = "run_test.rs"]
mod run_test;
