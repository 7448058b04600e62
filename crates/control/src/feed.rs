//! From stores to changes: list, then watch, for each kind of each store, for as long as it takes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use heddle_resource::{Key, Kind, Object, kinds};
use heddle_store::{Event, Store, StoreError};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{debug, warn};

use crate::{status::differ_in_status_only, world::Change};

/// What a feed says.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) changes: Vec<Change>,
    /// A first list was taken in.
    pub(crate) listed: bool,
}

/// First and longest wait before a store that failed is asked again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Starts a feed for every kind of every store. Returns how many first lists there will be.
pub(crate) fn start(stores: &[Arc<dyn Store>], into: &mpsc::Sender<Fed>, tasks: &mut JoinSet<()>) -> usize {
    for (source, store) in stores.iter().enumerate() {
        for kind in kinds() {
            let feed = Feed { source, store: store.clone(), kind, known: HashMap::new(), into: into.clone() };
            tasks.spawn(feed.run());
        }
    }
    stores.len() * kinds().len()
}

/// One kind of one store.
struct Feed {
    /// Place of the store in the order of precedence.
    source: usize,
    store: Arc<dyn Store>,
    kind: &'static Kind,
    /// What was passed on.
    known: HashMap<Key, Arc<Object>>,
    into: mpsc::Sender<Fed>,
}

/// Why a round ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// History is gone: list again.
    Again,
    Failed(StoreError),
}

impl Feed {
    async fn run(mut self) {
        let mut wait = BACK_OFF.0;
        let mut listed = false;
        loop {
            match self.round(&mut listed).await {
                End::Closed => return,
                End::Again => wait = BACK_OFF.0,
                End::Failed(error) => {
                    // What is known stays in force.
                    warn!(kind = self.kind.kind, %error, "cannot read the store; trying again in {wait:?}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    async fn round(&mut self, listed: &mut bool) -> End {
        let (objects, revision) = match self.store.list(self.kind, None).await {
            Ok(found) => found,
            Err(error) => return End::Failed(error),
        };
        let changes = self.reconcile(objects);
        let first = !std::mem::replace(listed, true);
        if (first || !changes.is_empty()) && self.into.send(Fed { changes, listed: first }).await.is_err() {
            return End::Closed;
        }
        let mut watch = match self.store.watch(self.kind, revision).await {
            Ok(watch) => watch,
            Err(StoreError::Compacted) => return End::Again,
            Err(error) => return End::Failed(error),
        };
        loop {
            let change = match watch.next().await {
                Some(Ok(Event::Put(object))) => self.put(object),
                Some(Ok(Event::Delete(object))) => self.delete(&object.key()),
                Some(Ok(Event::Bookmark(_))) => None,
                Some(Err(StoreError::Compacted)) => {
                    debug!(kind = self.kind.kind, "watch fell behind; listing again");
                    return End::Again;
                }
                Some(Err(error)) => return End::Failed(error),
                None => return End::Failed(StoreError::Closed),
            };
            if let Some(change) = change
                && self.into.send(Fed { changes: vec![change], listed: false }).await.is_err()
            {
                return End::Closed;
            }
        }
    }

    /// The changes that lead from what was passed on to what there is.
    fn reconcile(&mut self, objects: Vec<Arc<Object>>) -> Vec<Change> {
        let mut gone: HashMap<Key, Arc<Object>> = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for object in objects {
            let key = object.key();
            let same = gone.remove(&key).is_some_and(|old| {
                Arc::ptr_eq(&old, &object) || old.json == object.json || differ_in_status_only(&old, &object)
            });
            self.known.insert(key, object.clone());
            if !same {
                changes.push(Change::Put { source: self.source, object });
            }
        }
        changes.extend(gone.into_keys().map(|key| Change::Delete { source: self.source, key }));
        changes
    }

    fn put(&mut self, object: Arc<Object>) -> Option<Change> {
        let old = self.known.insert(object.key(), object.clone());
        if old.is_some_and(|old| differ_in_status_only(&old, &object)) {
            return None;
        }
        Some(Change::Put { source: self.source, object })
    }

    fn delete(&mut self, key: &Key) -> Option<Change> {
        self.known.remove(key)?;
        Some(Change::Delete { source: self.source, key: key.clone() })
    }
}

#[cfg(test)]
#[path = "feed_test.rs"]
mod feed_test;
