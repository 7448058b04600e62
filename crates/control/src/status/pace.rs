//! When a status is written: at once if none was for a while, else a second after the last one, with what
//! is true by then.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use heddle_resource::Key;
use serde_json::Value;

/// At most one write per object in this time.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Entry {
    /// The status that is true.
    wanted: Value,
    /// Whether it differs from what was written last.
    pending: bool,
    written: Option<Instant>,
}

/// The statuses of all objects, and which are to be written when. Does no I/O and reads no clock.
#[derive(Default, Debug)]
pub(crate) struct Pace {
    entries: BTreeMap<Key, Entry>,
}

impl Pace {
    /// Takes a status that was computed. One equal to the last is no work.
    pub(crate) fn want(&mut self, key: Key, status: Value) {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.wanted == status => {}
            Some(entry) => {
                entry.wanted = status;
                entry.pending = true;
            }
            None => {
                self.entries.insert(key, Entry { wanted: status, pending: true, written: None });
            }
        }
    }

    /// The object is gone, or its status no longer ours.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    /// What is to be written now. It counts as written; see [`Pace::failed`].
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(Key, Value)> {
        let mut due = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.pending && entry.written.is_none_or(|written| now.duration_since(written) >= INTERVAL) {
                entry.pending = false;
                entry.written = Some(now);
                due.push((key.clone(), entry.wanted.clone()));
            }
        }
        due
    }

    /// A write did not happen: it is tried again after the interval.
    pub(crate) fn failed(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.pending = true;
        }
    }

    /// When something will be due.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let pending = self.entries.values().filter(|entry| entry.pending);
        pending.map(|entry| entry.written.map_or(now, |written| written + INTERVAL)).min()
    }
}

#[cfg(test)]
#[path = "pace_test.rs"]
mod pace_test;
