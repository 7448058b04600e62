//! Views of scopes, kept up to date.

use std::{collections::BTreeSet, sync::Arc};

use heddle_resource::{Key, kind};
use heddle_xds::{Encoded, ResourceType, View};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    cache::{Cache, VariantId},
    metrics::Counters,
    tls::Credential,
    unit::{Unit, Value},
};
use crate::{
    finding::Finding,
    scope::Scope,
    world::{Dirty, World},
};

/// What a scope gets, and what there is to say about it.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub view: Arc<View>,
    /// Sorted, each once.
    pub findings: Vec<Finding>,
}

/// Compiles for any number of scopes, each change once.
///
/// Most of what a sidecar gets depends on its namespace and a few labels, and little on its own
/// addresses: the former is one [`Part`] for all that agree on it, the latter a small part of each.
#[derive(Debug, Default)]
pub struct Compiler {
    cache: Cache,
    /// Shared parts, by the scope without what is a node's alone.
    shared: FxHashMap<Arc<Scope>, Part>,
    scopes: FxHashMap<Scope, State>,
}

/// The parts of one scope, and the view that they make.
#[derive(Debug)]
struct State {
    /// Keys of the shared parts: several for a node that carries several workload scopes.
    shared: Vec<Arc<Scope>>,
    own: Vec<Part>,
    view: Arc<View>,
}

/// Units compiled for one scope, and their resources.
#[derive(Debug)]
struct Part {
    scope: Arc<Scope>,
    root: Unit,
    units: FxHashMap<Unit, Kept>,
    view: View,
    /// Names that more than one unit gives, or gave (two services at one address): the first unit has them.
    contested: FxHashSet<(ResourceType, Arc<str>)>,
    /// How many scopes it belongs to.
    users: usize,
}

#[derive(Debug)]
struct Kept {
    id: VariantId,
    value: Value,
    findings: Arc<[Finding]>,
}

impl Compiler {
    /// Begins to keep a scope's view; does nothing if it is kept already.
    pub fn attach(&mut self, world: &World, scope: &Scope) {
        if self.scopes.contains_key(scope) {
            return;
        }
        let mut state = State { shared: Vec::new(), own: Vec::new(), view: Arc::default() };
        for member in scope.members() {
            let shared = match member.shared() {
                Some(shared) => {
                    state.own.push(Part::new(member, Unit::OwnPlan, &self.cache, world));
                    Arc::new(shared)
                }
                None => member,
            };
            let part = self
                .shared
                .entry(shared.clone())
                .or_insert_with(|| Part::new(shared.clone(), Unit::Plan, &self.cache, world));
            part.users += 1;
            state.shared.push(shared);
        }
        state.view = Arc::new(state.compose(&self.shared, world.generation));
        self.scopes.insert(scope.clone(), state);
    }

    /// Ends it, and forgets what was kept for it alone.
    pub fn detach(&mut self, scope: &Scope) {
        let Some(state) = self.scopes.remove(scope) else { return };
        let mut gone = false;
        for key in &state.shared {
            if let Some(part) = self.shared.get_mut(key) {
                part.users -= 1;
                if part.users == 0 {
                    self.shared.remove(key);
                    gone = true;
                }
            }
        }
        // A node's own units are few: they go with the next part that goes, or when there are many.
        if gone || self.cache.len() > 2 * self.roots().count() + SLACK {
            let roots: Vec<_> = self.roots().collect();
            self.cache.sweep(roots.into_iter());
        }
    }

    fn roots(&self) -> impl Iterator<Item = VariantId> {
        let own = self.scopes.values().flat_map(|state| &state.own);
        self.shared.values().chain(own).flat_map(|part| part.units.values().map(|kept| kept.id))
    }

    /// Takes up a change of the world. Returns the scopes whose view changed.
    pub fn update(&mut self, world: &World, dirty: &Dirty) -> Vec<Scope> {
        let touched = self.cache.invalidate(dirty);
        let mut changed = Vec::new();
        if touched.is_empty() {
            return changed;
        }
        let mut moved: FxHashSet<Arc<Scope>> = FxHashSet::default();
        for (key, part) in &mut self.shared {
            if part.update(&self.cache, world, &touched) {
                moved.insert(key.clone());
            }
        }
        for (scope, state) in &mut self.scopes {
            let mut own = false;
            for part in &mut state.own {
                own |= part.update(&self.cache, world, &touched);
            }
            if own || state.shared.iter().any(|key| moved.contains(key)) {
                state.view = Arc::new(state.compose(&self.shared, world.generation));
                changed.push(scope.clone());
            }
        }
        changed
    }

    /// The current view of a scope.
    pub fn view(&self, scope: &Scope) -> Option<Arc<View>> {
        self.scopes.get(scope).map(|state| state.view.clone())
    }

    /// View and findings of a scope.
    pub fn compiled(&self, scope: &Scope) -> Option<Compiled> {
        let state = self.scopes.get(scope)?;
        let parts = state.shared.iter().filter_map(|key| self.shared.get(key)).chain(&state.own);
        let findings: BTreeSet<_> = parts.flat_map(Part::findings).cloned().collect();
        Some(Compiled { view: state.view.clone(), findings: findings.into_iter().collect() })
    }

    /// Every scope that is kept.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    /// Findings of all scopes, each once.
    pub fn findings(&self) -> BTreeSet<Finding> {
        let own = self.scopes.values().flat_map(|state| &state.own);
        self.shared.values().chain(own).flat_map(Part::findings).cloned().collect()
    }

    /// The Secrets whose certificates some scope is given.
    pub(crate) fn certificates(&self) -> BTreeSet<Key> {
        let own = self.scopes.values().flat_map(|state| &state.own);
        let units = self.shared.values().chain(own).flat_map(|part| part.units.keys());
        let named = units.filter_map(|unit| match unit {
            Unit::Secret(Credential::Pair { namespace, name }) => {
                Some(Key::new(&kind::SECRET, namespace.clone(), name.clone()))
            }
            _ => None,
        });
        named.collect()
    }

    pub fn counters(&self) -> Counters {
        self.cache.counters.clone()
    }

    /// How many compiled units are kept.
    pub fn kept(&self) -> usize {
        self.cache.len()
    }
}

/// Kept results beyond what is used that are not worth a sweep.
const SLACK: usize = 10_000;

impl State {
    /// The view of all parts together; the first shared part's maps are taken over as they are.
    fn compose(&self, shared: &FxHashMap<Arc<Scope>, Part>, generation: u64) -> View {
        let mut parts = self.shared.iter().filter_map(|key| shared.get(key));
        let mut view = parts.next().map(|part| part.view.clone()).unwrap_or_default();
        for part in parts.chain(&self.own) {
            for kind in ResourceType::ALL {
                for resource in part.view.iter(kind) {
                    view.insert(resource.clone());
                }
            }
        }
        view.generation = generation;
        view
    }
}

impl Part {
    fn new(scope: Arc<Scope>, root: Unit, cache: &Cache, world: &World) -> Self {
        let mut part = Self {
            scope,
            root,
            units: FxHashMap::default(),
            view: View::default(),
            contested: FxHashSet::default(),
            users: 0,
        };
        part.plan(cache, world);
        part
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.units.values().flat_map(|kept| kept.findings.iter())
    }

    /// Compiles whatever the plan leads to, and drops what it does not lead to any more.
    fn plan(&mut self, cache: &Cache, world: &World) {
        let mut alive = FxHashSet::default();
        let mut queue = vec![self.root.clone()];
        while let Some(unit) = queue.pop() {
            if alive.insert(unit.clone()) {
                queue.extend(self.refresh(cache, world, &unit));
            }
        }
        let gone: Vec<_> = self.units.keys().filter(|unit| !alive.contains(*unit)).cloned().collect();
        let mut removed: Vec<Arc<Encoded>> = Vec::new();
        for unit in gone {
            if let Some(kept) = self.units.remove(&unit) {
                removed.extend(resources(&kept.value).iter().cloned());
            }
        }
        self.withdraw(&removed);
    }

    /// Compiles one unit; returns the units that belong with it.
    fn refresh(&mut self, cache: &Cache, world: &World, unit: &Unit) -> Vec<Unit> {
        let found = cache.demand(world, &self.scope, unit);
        let further = further(&found.output.value);
        let new = Kept { id: found.id, value: found.output.value, findings: found.output.findings };
        let old = self.units.get(unit).map(|old| old.value.clone());
        let had: FxHashSet<_> = old.iter().flat_map(resources).map(named).collect();
        let mut contested = FxHashSet::default();
        for resource in resources(&new.value) {
            let name = named(resource);
            let taken = !had.contains(&name) && self.view.get(name.0, &name.1).is_some();
            if taken || self.contested.contains(&name) {
                self.contested.insert(name.clone());
                contested.insert(name);
            }
            self.view.insert(resource.clone());
        }
        let names: FxHashSet<_> = resources(&new.value).iter().map(named).collect();
        let gone = old.iter().flat_map(resources).filter(|resource| !names.contains(&named(resource)));
        let gone: Vec<_> = gone.cloned().collect();
        self.units.insert(unit.clone(), new);
        self.settle(&contested);
        self.withdraw(&gone);
        further
    }

    /// Takes resources out of the view, unless another unit gives one of the same name.
    fn withdraw(&mut self, gone: &[Arc<Encoded>]) {
        for resource in gone {
            self.view.remove(resource.kind, &resource.name);
        }
        self.settle(&gone.iter().map(named).collect());
    }

    /// Gives each of the names to the first, in their order, of the units that have it.
    fn settle(&mut self, names: &FxHashSet<(ResourceType, Arc<str>)>) {
        if names.is_empty() {
            return;
        }
        let mut first: FxHashMap<_, (&Unit, &Arc<Encoded>)> = FxHashMap::default();
        for (unit, kept) in &self.units {
            for resource in resources(&kept.value).iter().filter(|resource| names.contains(&named(resource)))
            {
                let found = first.entry(named(resource)).or_insert((unit, resource));
                if unit < found.0 {
                    *found = (unit, resource);
                }
            }
        }
        for (_, resource) in first.into_values() {
            self.view.insert(resource.clone());
        }
    }

    /// Follows a change; returns whether the resources differ.
    fn update(&mut self, cache: &Cache, world: &World, touched: &FxHashSet<Unit>) -> bool {
        let units: Vec<Unit> = if touched.len() < self.units.len() {
            touched.iter().filter(|unit| self.units.contains_key(*unit)).cloned().collect()
        } else {
            self.units.keys().filter(|unit| touched.contains(*unit)).cloned().collect()
        };
        if units.is_empty() {
            return false;
        }
        let before = self.view.clone();
        let mut replan = false;
        for unit in units {
            let was = self.units.get(&unit).map(|kept| further(&kept.value));
            let is = self.refresh(cache, world, &unit);
            replan |= was.as_ref() != Some(&is);
        }
        if replan {
            self.plan(cache, world);
        }
        let same = ResourceType::ALL.into_iter().all(|kind| self.view.same(&before, kind));
        !same && self.view != before
    }
}

fn named(resource: &Arc<Encoded>) -> (ResourceType, Arc<str>) {
    (resource.kind, resource.name.clone())
}

fn resources(value: &Value) -> &[Arc<Encoded>] {
    value.resources().map_or(&[], |resources| &resources.encoded)
}

fn further(value: &Value) -> Vec<Unit> {
    match value {
        Value::Units(units) => units.to_vec(),
        Value::Resources(resources) => resources.units.clone(),
        _ => Vec::new(),
    }
}
