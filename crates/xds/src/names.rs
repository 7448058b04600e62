//! Sets of names, kept once for all streams that subscribe to the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A sorted set of names; a clone is a pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Option<Arc<Set>>);

#[derive(Debug)]
struct Set {
    /// Sum of the names' hashes: the same whatever the way to the set.
    hash: u64,
    names: Box<[Arc<str>]>,
}

impl Names {
    pub(crate) fn as_slice(&self) -> &[Arc<str>] {
        self.0.as_ref().map_or(&[], |set| &set.names)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.as_slice().binary_search_by(|n| (**n).cmp(name)).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn hash(&self) -> u64 {
        self.0.as_ref().map_or(0, |set| set.hash)
    }
}

/// Where equal sets find each other: ten thousand proxies that watch the same thousand services
/// hold one set between them.
#[derive(Debug, Default)]
pub struct Interner {
    sets: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_hash: HashMap<u64, Weak<Set>>,
    /// Sweep away the dead when the table has grown to this.
    sweep_at: usize,
}

impl Interner {
    /// The set with `added` in it and without `removed`.
    pub(crate) fn edit(&self, old: &Names, mut added: Vec<Arc<str>>, removed: &[&str]) -> Names {
        added.sort_unstable();
        added.dedup();
        added.retain(|name| !old.contains(name));
        let keep = |name: &Arc<str>| removed.is_empty() || !removed.contains(&&**name);
        if added.is_empty() && removed.iter().all(|name| !old.contains(name)) {
            return old.clone();
        }
        let plus: u64 = added.iter().filter(|n| keep(n)).fold(0, |sum, n| sum.wrapping_add(hash(n)));
        let minus = old.as_slice().iter().filter(|n| !keep(n)).fold(0u64, |sum, n| sum.wrapping_add(hash(n)));
        let mut names = Vec::with_capacity(old.as_slice().len() + added.len());
        let mut added = added.into_iter().filter(keep).peekable();
        for name in old.as_slice().iter().filter(|n| keep(n)) {
            while let Some(new) = added.next_if(|new| new < name) {
                names.push(new);
            }
            names.push(name.clone());
        }
        names.extend(added);
        self.share(old.hash().wrapping_add(plus).wrapping_sub(minus), names)
    }

    fn share(&self, hash: u64, names: Vec<Arc<str>>) -> Names {
        if names.is_empty() {
            return Names(None);
        }
        let mut table = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = table.by_hash.get(&hash).and_then(Weak::upgrade)
            && *set.names == *names
        {
            return Names(Some(set));
        }
        let set = Arc::new(Set { hash, names: names.into() });
        if table.by_hash.len() >= table.sweep_at {
            table.by_hash.retain(|_, set| set.strong_count() > 0);
            table.sweep_at = (table.by_hash.len() * 2).max(64);
        }
        table.by_hash.insert(hash, Arc::downgrade(&set));
        Names(Some(set))
    }
}

fn hash(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Arc<str>> {
        list.iter().map(|n| Arc::from(*n)).collect()
    }

    #[test]
    fn equal_sets_are_one_whatever_the_way_to_them() {
        let interner = Interner::default();
        let a = interner.edit(&Names::default(), names(&["c", "a", "b", "a"]), &[]);
        let b = interner.edit(&Names::default(), names(&["b", "x"]), &[]);
        let b = interner.edit(&b, names(&["a", "c"]), &["x"]);
        assert_eq!(a.as_slice(), &*names(&["a", "b", "c"]));
        assert!(Arc::ptr_eq(a.0.as_ref().unwrap(), b.0.as_ref().unwrap()));
        assert!(a.contains("b") && !a.contains("x"));
        assert!(interner.edit(&a, vec![], &["a", "b", "c"]).is_empty());
    }
}
