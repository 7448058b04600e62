//! One resource type on one stream: what the client watches, has, and is still owed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::names::{Interner, Names};
use crate::view::Change;
use crate::{Encoded, ResourceType, View};

/// The client has what `base` holds of what it watches, except for what is `due`.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: ResourceType,
    /// Whether the client ever asked for this type.
    pub(super) requested: bool,
    pub(super) wildcard: bool,
    pub(super) names: Names,
    pub(super) base: Arc<View>,
    pub(super) due: BTreeMap<Arc<str>, Due>,
    /// A response has to go out even if it holds nothing.
    pub(super) owed: bool,
    pub(super) in_flight: Vec<InFlight>,
    /// Of the last response; 0 before the first.
    pub(super) last_nonce: u64,
    /// State of the world: names were given once, so none no longer mean everything.
    pub(super) named: bool,
    /// The client did not answer in time; nothing waits for it until it does.
    pub(super) silent: bool,
    /// State of the world only: refused resources and what is repeated instead.
    pub(super) held: FxHashMap<Arc<str>, Held>,
    /// Names of which the source has not said yet whether they exist.
    pub(super) asking: FxHashMap<Arc<str>, Asking>,
}

/// A name where the client differs from `base`, or has asked anew.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) had: Had,
    /// The client asked: an answer is owed even if nothing is new.
    pub(super) asked: bool,
    /// The client came back with an older version: what it refers to has to be there first.
    pub(super) gated: bool,
}

/// What the client has of a resource.
#[derive(Clone, Debug)]
pub(super) enum Had {
    Nothing,
    /// Some version from another stream.
    Unknown,
    Known(Arc<Encoded>),
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: u64,
    pub(super) sent: Instant,
    pub(super) generation: u64,
    pub(super) puts: Vec<Put>,
    /// Everything in the response, where that is more than what changed.
    pub(super) full: Option<Vec<Arc<Encoded>>>,
    pub(super) removed: Vec<Arc<str>>,
}

/// A resource sent, and what the client had before.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) new: Arc<Encoded>,
    pub(super) had: Option<Arc<Encoded>>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) refused: Arc<str>,
    pub(super) good: Option<Arc<Encoded>>,
}

#[derive(Debug)]
pub(super) struct Asking {
    pub(super) since: Instant,
    /// The version with which the client came back.
    pub(super) presented: Option<Arc<str>>,
}

impl Lane {
    pub(super) fn new(kind: ResourceType, base: Arc<View>) -> Self {
        Self {
            kind,
            requested: false,
            wildcard: false,
            names: Names::default(),
            base,
            due: BTreeMap::new(),
            owed: false,
            in_flight: Vec::new(),
            last_nonce: 0,
            named: false,
            silent: false,
            held: FxHashMap::default(),
            asking: FxHashMap::default(),
        }
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn current(&self, name: &str) -> Option<&Arc<Encoded>> {
        self.base.get(self.kind, name)
    }

    /// Whether nothing new may be pushed before the client has answered.
    pub(super) fn waits(&self) -> bool {
        !self.in_flight.is_empty() && !self.silent
    }

    /// Whether the client has all of `base` that it has been told to use: nothing is unanswered,
    /// and nothing that it has is out of date. What it does not have yet can mislead nobody.
    pub(super) fn quiet(&self, latest: &View) -> bool {
        let current = |name: &Arc<str>, due: &Due| match (&due.had, self.current(name)) {
            (_, None) if latest.get(self.kind, name).is_some() => true,
            (Had::Nothing, _) => due.asked,
            (Had::Known(had), Some(new)) => due.asked && had.version == new.version,
            _ => false,
        };
        !self.waits() && self.due.iter().all(|(name, due)| current(name, due))
    }

    /// Whether the client watches a name and has answered what it was last sent of it.
    pub(super) fn has_answered(&self, name: &str) -> bool {
        let sent = |r: &InFlight| r.puts.binary_search_by(|put| (*put.new.name).cmp(name)).is_ok();
        // A removal that has to wait is no news to the client.
        let due = self.due.get(name).is_some_and(|due| due.asked || self.current(name).is_some());
        self.covers(name) && !due && (self.silent || !self.in_flight.iter().any(sent))
    }

    /// Takes a newer view as what the client should have.
    pub(super) fn advance(&mut self, to: &Arc<View>) {
        if Arc::ptr_eq(&self.base, to) {
            return;
        }
        for change in to.diff(&self.base, self.kind) {
            let (name, new) = match &change {
                Change::Put(new) => (&new.name, Some(new)),
                Change::Removed(old) => (&old.name, None),
            };
            if !self.covers(name) {
                continue;
            }
            let presented = new.and_then(|_| self.asking.remove(name)).and_then(|a| a.presented);
            if presented.is_some() && presented.as_ref() == new.map(|n| &n.version) {
                continue;
            }
            match self.due.get(name) {
                Some(due) if due.settled_by(new) => {
                    self.due.remove(name);
                }
                Some(_) => {}
                None => {
                    let had = match (self.current(name), presented) {
                        (Some(old), _) => Had::Known(old.clone()),
                        (None, Some(_)) => Had::Unknown,
                        (None, None) => Had::Nothing,
                    };
                    self.due.insert(name.clone(), Due { had, asked: false, gated: false });
                }
            }
        }
        self.base = to.clone();
    }

    /// The client asks for a name: it will be answered even if it has it.
    pub(super) fn ask(&mut self, name: Arc<str>, had: Had) {
        let due = self.due.entry(name).or_insert(Due { had, asked: true, gated: false });
        due.asked = true;
    }

    /// What the client is believed to have of a name that is watched.
    pub(super) fn believed(&self, name: &str) -> Had {
        match self.due.get(name) {
            Some(due) => due.had.clone(),
            None => self.current(name).map_or(Had::Nothing, |r| Had::Known(r.clone())),
        }
    }

    pub(super) fn ask_all(&mut self, fresh: bool) {
        let all: Vec<Arc<str>> = if self.wildcard {
            self.base.iter(self.kind).map(|r| r.name.clone()).collect()
        } else {
            self.names.as_slice().to_vec()
        };
        for name in all {
            let known = !fresh || self.names.contains(&name);
            let had = if known { self.believed(&name) } else { Had::Nothing };
            self.ask(name, had);
        }
    }

    pub(super) fn unsubscribe(&mut self, names: &[&str], interner: &Interner) {
        if names.contains(&"*") && self.wildcard {
            self.wildcard = false;
            let kept = &self.names;
            self.due.retain(|name, _| kept.contains(name));
        }
        self.names = interner.edit(&self.names, Vec::new(), names);
        for name in names {
            self.asking.remove(*name);
            if self.wildcard {
                // Still watched by the wildcard: the client has to hear whether it is there.
                let had = self.believed(name);
                self.ask(Arc::from(*name), had);
            } else {
                self.due.remove(*name);
                self.held.remove(*name);
            }
        }
    }

    /// Forgets responses that will never be answered.
    pub(super) fn bound_in_flight(&mut self) {
        const MOST: usize = 8;
        if self.in_flight.len() > MOST {
            self.in_flight.remove(0);
        }
    }
}

impl Due {
    /// Whether the client turns out to have what is wanted now.
    fn settled_by(&self, new: Option<&Arc<Encoded>>) -> bool {
        !self.asked
            && match (&self.had, new) {
                (Had::Nothing, None) => true,
                (Had::Known(had), Some(new)) => had.version == new.version,
                _ => false,
            }
    }
}
