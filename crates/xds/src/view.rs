use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::{Encoded, ResourceType};

/// What one scope of nodes may see: every resource by type and name.
///
/// Immutable and structurally shared: a clone is a few pointers, a changed copy shares all that
/// did not change, and [`View::diff`] costs what differs.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// Counts the publications of the source; only ever grows within one source.
    pub generation: u64,
    types: [OrdMap<Arc<str>, Arc<Encoded>>; ResourceType::COUNT],
}

/// One difference between two views.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Added, or present with another version.
    Put(Arc<Encoded>),
    /// No longer there; the value is what it was.
    Removed(Arc<Encoded>),
}

impl View {
    /// A view without resources.
    pub fn new(generation: u64) -> Self {
        Self { generation, types: Default::default() }
    }

    /// The resource of that type and name.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Encoded>> {
        self.types[kind.index()].get(name)
    }

    /// Every resource of a type, ordered by name.
    pub fn iter(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Encoded>> {
        self.types[kind.index()].values()
    }

    /// How many resources of a type there are.
    pub fn len(&self, kind: ResourceType) -> usize {
        self.types[kind.index()].len()
    }

    /// Whether there is no resource of any type.
    pub fn is_empty(&self) -> bool {
        self.types.iter().all(OrdMap::is_empty)
    }

    /// Puts a resource in its place. An equal version leaves the resource that is there, so that
    /// shared structure stays shared. Returns whether something changed.
    pub fn insert(&mut self, resource: Arc<Encoded>) -> bool {
        let map = &mut self.types[resource.kind.index()];
        if map.get(&resource.name).is_some_and(|old| old.version == resource.version) {
            return false;
        }
        map.insert(resource.name.clone(), resource);
        true
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>> {
        self.types[kind.index()].remove(name)
    }

    /// What has to be done to `old` to make it equal to this view, for one type, by name.
    pub fn diff(&self, old: &View, kind: ResourceType) -> Vec<Change> {
        if self.same(old, kind) {
            return Vec::new();
        }
        let (new, old) = (&self.types[kind.index()], &old.types[kind.index()]);
        old.diff(new)
            .filter_map(|item| match item {
                DiffItem::Add(_, resource) => Some(Change::Put(resource.clone())),
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    (old.version != new.version).then(|| Change::Put(new.clone()))
                }
                DiffItem::Remove(_, resource) => Some(Change::Removed(resource.clone())),
            })
            .collect()
    }

    /// Whether the resources of one type are the very same map in both views (cheap; `false` does
    /// not mean that they differ).
    pub fn same(&self, other: &View, kind: ResourceType) -> bool {
        self.types[kind.index()].ptr_eq(&other.types[kind.index()])
    }

    /// Takes over all resources of one type from another view, sharing them.
    pub fn adopt(&mut self, kind: ResourceType, from: &View) {
        self.types[kind.index()] = from.types[kind.index()].clone();
    }
}

/// Equal when the same names have the same versions; the generation does not count.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        ResourceType::ALL.into_iter().all(|kind| self.diff(other, kind).is_empty())
    }
}

impl FromIterator<Arc<Encoded>> for View {
    fn from_iter<I: IntoIterator<Item = Arc<Encoded>>>(resources: I) -> Self {
        let mut view = View::default();
        for resource in resources {
            view.insert(resource);
        }
        view
    }
}
