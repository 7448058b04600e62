//! What every store here keeps in memory: the objects as they are now, and per kind the recent events
//! that watchers read. Watchers hold a cursor and no queue, so a slow one costs nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::stream;
use heddle_resource::{Key, Object, kind::Kind};
use tokio::sync::watch;

use crate::{
    Event, Precondition, Revision, StoreError, Watch,
    stage::{Staged, json_size, stage_delete, stage_put},
};

/// Events kept per kind for watchers that read late.
pub(crate) const LOG_EVENTS: usize = 2048;
/// JSON bytes that those events may take per kind; the objects in memory are some times larger.
const LOG_BYTES: usize = 8 << 20;
/// Events handed to a watcher per look into the log.
const BATCH: usize = 256;

type Name = (Arc<str>, Arc<str>);

/// One kind's objects and recent events.
struct Shelf {
    objects: BTreeMap<Name, Arc<Object>>,
    log: VecDeque<(Revision, Event)>,
    log_bytes: usize,
    /// Events up to and including this revision are not in the log.
    compacted: Revision,
    head: watch::Sender<Revision>,
}

impl Shelf {
    fn append(&mut self, revision: Revision, event: Event, keep: usize) {
        let size = |event: &Event| event.object().map_or(0, |object| json_size(&object.json));
        self.log_bytes += size(&event);
        self.log.push_back((revision, event));
        while self.log.len() > keep || (self.log_bytes > LOG_BYTES && self.log.len() > 1) {
            let Some((gone, event)) = self.log.pop_front() else { break };
            self.compacted = gone;
            self.log_bytes -= size(&event);
        }
    }
}

struct State {
    revision: Revision,
    floor: Revision,
    shelves: HashMap<&'static Kind, Shelf>,
}

impl State {
    fn shelf(&mut self, kind: &'static Kind) -> &mut Shelf {
        let floor = self.floor;
        self.shelves.entry(kind).or_insert_with(|| Shelf {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            compacted: floor,
            head: watch::Sender::new(floor),
        })
    }
}

/// Objects now and events lately, shared by a store and its watchers.
pub(crate) struct Ledger {
    state: Mutex<State>,
    keep: usize,
}

/// What a durable store kept of its past.
pub(crate) struct History {
    /// Where the store's history began.
    pub(crate) floor: Revision,
    pub(crate) revision: Revision,
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) events: Vec<(Revision, Event)>,
    pub(crate) floors: Vec<(&'static Kind, Revision)>,
}

/// A change that was accepted, before it is visible.
#[derive(Clone)]
pub(crate) enum Change {
    Put(Arc<Object>),
    Delete(Arc<Object>),
}

impl Ledger {
    /// An empty ledger whose history begins at `start`: older revisions are compacted.
    pub(crate) fn new(start: Revision, keep: usize) -> Arc<Self> {
        let state = State { revision: start, floor: start, shelves: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), keep })
    }

    /// A ledger as an earlier life left it. `floors`: up to where each kind's events are gone.
    pub(crate) fn restore(history: History, keep: usize) -> Arc<Self> {
        let History { floor, revision, objects, mut events, floors } = history;
        let mut state = State { revision, floor, shelves: HashMap::new() };
        for (kind, floor) in floors {
            state.shelf(kind).compacted = floor;
        }
        for object in objects {
            let name = (object.meta.namespace.clone(), object.meta.name.clone());
            state.shelf(object.kind).objects.insert(name, object);
        }
        events.sort_by_key(|(revision, _)| *revision);
        for (revision, event) in events {
            let Some(object) = event.object() else { continue };
            state.shelf(object.kind).append(revision, event, keep);
        }
        Arc::new(Self { state: Mutex::new(state), keep })
    }

    /// Up to where the events of a kind are gone.
    pub(crate) fn compacted(&self, kind: &'static Kind) -> Revision {
        self.lock().shelf(kind).compacted
    }

    // A panic while the lock was held leaves whole values behind: each step below is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let name = (key.namespace.clone(), key.name.clone());
        self.lock().shelves.get(key.kind)?.objects.get(&name).cloned()
    }

    pub(crate) fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> (Vec<Arc<Object>>, Revision) {
        let state = self.lock();
        let objects = state.shelves.get(kind).map(|shelf| match namespace {
            None => shelf.objects.values().cloned().collect(),
            Some(namespace) => {
                let from: Name = (Arc::from(namespace), Arc::from(""));
                let range = shelf.objects.range(from..);
                range.take_while(|((ns, _), _)| &**ns == namespace).map(|(_, o)| o.clone()).collect()
            }
        });
        (objects.unwrap_or_default(), state.revision)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Checks and publishes in one step, for stores that have nothing to write first.
    pub(crate) fn put(&self, object: Object, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        let mut state = self.lock();
        let key = object.key();
        let name = (key.namespace.clone(), key.name.clone());
        let stored = state.shelves.get(key.kind).and_then(|shelf| shelf.objects.get(&name).cloned());
        let next = Revision(state.revision.0 + 1);
        match stage_put(object, stored.as_ref(), precondition, next)? {
            Staged::Unchanged(object) => Ok(object),
            Staged::New(object) => {
                publish(&mut state, self.keep, next, Change::Put(object.clone()));
                Ok(object)
            }
        }
    }

    /// As [`Ledger::put`].
    pub(crate) fn delete(&self, key: &Key, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        let mut state = self.lock();
        let name = (key.namespace.clone(), key.name.clone());
        let stored = state.shelves.get(key.kind).and_then(|shelf| shelf.objects.get(&name).cloned());
        let next = Revision(state.revision.0 + 1);
        let last = stage_delete(key, stored.as_ref(), precondition, next)?;
        publish(&mut state, self.keep, next, Change::Delete(last.clone()));
        Ok(last)
    }

    /// Makes changes visible that were checked, stamped and written already, in order.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = (Revision, Change)>) {
        let mut state = self.lock();
        for (revision, change) in changes {
            publish(&mut state, self.keep, revision, change);
        }
    }

    /// The events of a kind after `from`.
    pub(crate) fn watch(self: &Arc<Self>, kind: &'static Kind, from: Revision) -> Result<Watch, StoreError> {
        let head = {
            let mut state = self.lock();
            let revision = state.revision;
            let shelf = state.shelf(kind);
            if from < shelf.compacted || from > revision {
                return Err(StoreError::Compacted);
            }
            shelf.head.subscribe()
        };
        let cursor = Cursor {
            ledger: Arc::downgrade(self),
            kind,
            at: from,
            head,
            batch: VecDeque::new(),
            caught_up: false,
            failed: false,
        };
        Ok(Watch::new(stream::unfold(cursor, Cursor::step)))
    }

    /// Up to [`BATCH`] events of a kind after `at`, and the revision up to which this is everything.
    fn read(&self, kind: &'static Kind, at: Revision) -> Result<(VecDeque<Event>, Revision), StoreError> {
        let mut state = self.lock();
        let revision = state.revision;
        let shelf = state.shelf(kind);
        if at < shelf.compacted {
            return Err(StoreError::Compacted);
        }
        let start = shelf.log.partition_point(|(revision, _)| *revision <= at);
        let events: VecDeque<Event> = shelf.log.range(start..).take(BATCH).map(|(_, e)| e.clone()).collect();
        let end = start + events.len();
        let upto = match shelf.log.get(end.wrapping_sub(1)) {
            Some((last, _)) if end < shelf.log.len() => *last,
            _ => revision,
        };
        Ok((events, upto))
    }
}

fn publish(state: &mut State, keep: usize, revision: Revision, change: Change) {
    debug_assert!(revision > state.revision, "revisions only grow");
    state.revision = revision;
    let (Change::Put(object) | Change::Delete(object)) = &change;
    let shelf = state.shelf(object.kind);
    let name = (object.meta.namespace.clone(), object.meta.name.clone());
    let event = match change {
        Change::Put(object) => {
            shelf.objects.insert(name, object.clone());
            Event::Put(object)
        }
        Change::Delete(object) => {
            shelf.objects.remove(&name);
            Event::Delete(object)
        }
    };
    shelf.append(revision, event, keep);
    shelf.head.send_replace(revision);
}

/// Where one watcher stands in one kind's log.
struct Cursor {
    // Weak: a watch ends when its store is gone.
    ledger: Weak<Ledger>,
    kind: &'static Kind,
    at: Revision,
    head: watch::Receiver<Revision>,
    batch: VecDeque<Event>,
    caught_up: bool,
    failed: bool,
}

impl Cursor {
    async fn step(mut self) -> Option<(Result<Event, StoreError>, Self)> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                return Some((Ok(event), self));
            }
            if self.failed {
                return None;
            }
            // Before the look, so that an event in between wakes the wait below.
            self.head.mark_unchanged();
            match self.ledger.upgrade()?.read(self.kind, self.at) {
                Ok((events, upto)) => {
                    self.at = upto;
                    self.batch = events;
                }
                Err(error) => {
                    self.failed = true;
                    return Some((Err(error), self));
                }
            }
            if self.batch.is_empty() {
                if !self.caught_up {
                    self.caught_up = true;
                    return Some((Ok(Event::Bookmark(self.at)), self));
                }
                self.head.changed().await.ok()?;
            }
        }
    }
}

/// Where the history of a store without memory of its past begins: the time, so that revisions of an
/// earlier life are seen to be old (a store makes far fewer than one change per microsecond).
pub(crate) fn fresh_start() -> Revision {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Revision(u64::try_from(since.as_micros()).unwrap_or(1))
}
