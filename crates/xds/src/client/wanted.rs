use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::ResourceType;

/// The names that a client wants, with a number that tells one subscription from a later one.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    count: u64,
    types: [OrdMap<Arc<str>, u64>; ResourceType::COUNT],
}

/// What a stream has to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
}

impl Wanted {
    pub(super) fn add(&mut self, kind: ResourceType, names: Vec<Arc<str>>) -> bool {
        let mut changed = false;
        for name in names {
            if !self.types[kind.index()].contains_key(&name) {
                self.count += 1;
                self.types[kind.index()].insert(name, self.count);
                changed = true;
            }
        }
        changed
    }

    pub(super) fn remove(&mut self, kind: ResourceType, names: &[&str]) -> bool {
        let map = &mut self.types[kind.index()];
        let before = map.len();
        for name in names {
            map.remove(*name);
        }
        map.len() < before
    }

    /// Which subscription a name falls under now: its own, or the one to everything.
    pub(super) fn subscription(&self, kind: ResourceType, name: &str) -> Option<u64> {
        let map = &self.types[kind.index()];
        map.get(name).or_else(|| map.get("*")).copied()
    }

    pub(super) fn wants(&self, kind: ResourceType) -> bool {
        !self.types[kind.index()].is_empty()
    }

    /// From what a stream was told to what is wanted. A name that was given up and wanted again in
    /// between is asked for again: its holder has let go of what it had.
    pub(super) fn since(&self, told: &Wanted, kind: ResourceType) -> Option<Difference> {
        let (new, old) = (&self.types[kind.index()], &told.types[kind.index()]);
        if new.ptr_eq(old) {
            return None;
        }
        let mut difference = Difference::default();
        for item in old.diff(new) {
            match item {
                DiffItem::Add(name, _) => difference.subscribe.push(name.to_string()),
                DiffItem::Update { new: (name, _), .. } => difference.subscribe.push(name.to_string()),
                DiffItem::Remove(name, _) => difference.unsubscribe.push(name.to_string()),
            }
        }
        (difference != Difference::default()).then_some(difference)
    }
}
