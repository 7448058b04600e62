//! The table of kinds.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

/// One kind of resource: its names in the API and where it lives.
#[derive(Debug)]
pub struct Kind {
    pub group: &'static str,
    /// The version in which objects are stored.
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.kind) == (other.group, other.kind)
    }
}
impl Eq for Kind {}
impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.group, self.kind).cmp(&(other.group, other.kind))
    }
}
impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.group, self.kind).hash(state);
    }
}

/// The typed content of an object.
#[derive(Clone, Debug)]
pub enum Spec {}
