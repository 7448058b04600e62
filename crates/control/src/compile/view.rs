//! Views of scopes, kept up to date.

use std::{collections::BTreeSet, sync::Arc};

use heddle_xds::{Encoded, View};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    cache::{Cache, VariantId},
    metrics::Counters,
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
#[derive(Debug, Default)]
pub struct Compiler {
    cache: Cache,
    scopes: FxHashMap<Scope, State>,
}

/// A unit of one member of a scope.
type Place = (usize, Unit);

#[derive(Debug, Default)]
struct State {
    members: Vec<Arc<Scope>>,
    units: FxHashMap<Place, Kept>,
    view: Arc<View>,
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
        let mut state = State { members: scope.members(), ..State::default() };
        let mut view = View::new(world.generation);
        state.plan(&self.cache, world, &mut view);
        state.view = Arc::new(view);
        self.scopes.insert(scope.clone(), state);
    }

    /// Ends it, and forgets what was kept for it alone.
    pub fn detach(&mut self, scope: &Scope) {
        if self.scopes.remove(scope).is_some() {
            let roots = self.scopes.values().flat_map(|state| state.units.values().map(|kept| kept.id));
            self.cache.sweep(roots);
        }
    }

    /// Takes up a change of the world. Returns the scopes whose view changed.
    pub fn update(&mut self, world: &World, dirty: &Dirty) -> Vec<Scope> {
        let touched = self.cache.invalidate(dirty);
        let mut changed = Vec::new();
        if touched.is_empty() {
            return changed;
        }
        for (scope, state) in &mut self.scopes {
            if let Some(view) = state.update(&self.cache, world, &touched) {
                state.view = Arc::new(view);
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
        let findings: BTreeSet<_> =
            state.units.values().flat_map(|kept| kept.findings.iter().cloned()).collect();
        Some(Compiled { view: state.view.clone(), findings: findings.into_iter().collect() })
    }

    /// Every scope that is kept.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    /// Findings of all scopes, each once.
    pub fn findings(&self) -> BTreeSet<Finding> {
        let kept = self.scopes.values().flat_map(|state| state.units.values());
        kept.flat_map(|kept| kept.findings.iter().cloned()).collect()
    }

    pub fn counters(&self) -> Counters {
        self.cache.counters.clone()
    }

    /// How many compiled units are kept.
    pub fn kept(&self) -> usize {
        self.cache.len()
    }
}

impl State {
    /// Compiles whatever the plan leads to, and drops what it does not lead to any more.
    fn plan(&mut self, cache: &Cache, world: &World, view: &mut View) {
        let mut alive = FxHashSet::default();
        let mut queue: Vec<Place> = (0..self.members.len()).map(|member| (member, Unit::Plan)).collect();
        while let Some(place) = queue.pop() {
            if !alive.insert(place.clone()) {
                continue;
            }
            let further = self.refresh(cache, world, &place, view);
            queue.extend(further.into_iter().map(|unit| (place.0, unit)));
        }
        let gone: Vec<_> = self.units.keys().filter(|place| !alive.contains(*place)).cloned().collect();
        let mut removed: Vec<Arc<Encoded>> = Vec::new();
        for place in gone {
            if let Some(kept) = self.units.remove(&place) {
                removed.extend(resources(&kept.value).iter().cloned());
            }
        }
        self.withdraw(removed, view);
    }

    /// Compiles one unit; returns the units that belong with it.
    fn refresh(&mut self, cache: &Cache, world: &World, place: &Place, view: &mut View) -> Vec<Unit> {
        let found = cache.demand(world, &self.members[place.0], &place.1);
        let further = further(&found.output.value);
        let kept = Kept { id: found.id, value: found.output.value, findings: found.output.findings };
        for resource in resources(&kept.value) {
            view.insert(resource.clone());
        }
        if let Some(old) = self.units.insert(place.clone(), kept) {
            let now: FxHashSet<_> = self
                .units
                .get(place)
                .into_iter()
                .flat_map(|kept| resources(&kept.value))
                .map(|resource| (resource.kind, resource.name.clone()))
                .collect();
            let gone = resources(&old.value)
                .iter()
                .filter(|resource| !now.contains(&(resource.kind, resource.name.clone())))
                .cloned()
                .collect();
            self.withdraw(gone, view);
        }
        further
    }

    /// Takes resources out of the view, unless another unit gives one of the same name.
    fn withdraw(&self, gone: Vec<Arc<Encoded>>, view: &mut View) {
        if gone.is_empty() {
            return;
        }
        for resource in &gone {
            view.remove(resource.kind, &resource.name);
        }
        let names: FxHashSet<_> =
            gone.iter().map(|resource| (resource.kind, resource.name.clone())).collect();
        for kept in self.units.values() {
            for resource in resources(&kept.value) {
                if names.contains(&(resource.kind, resource.name.clone())) {
                    view.insert(resource.clone());
                }
            }
        }
    }

    /// The view after a change, if it is another one.
    fn update(&mut self, cache: &Cache, world: &World, touched: &FxHashSet<Unit>) -> Option<View> {
        let mut view = (*self.view).clone();
        let mut replan = false;
        let places: Vec<Place> = if touched.len() < self.units.len() {
            let all = touched.iter().flat_map(|unit| (0..self.members.len()).map(move |m| (m, unit.clone())));
            all.filter(|place| self.units.contains_key(place)).collect()
        } else {
            self.units.keys().filter(|(_, unit)| touched.contains(unit)).cloned().collect()
        };
        if places.is_empty() {
            return None;
        }
        for place in places {
            let before = self.units.get(&place).map(|kept| further(&kept.value));
            let after = self.refresh(cache, world, &place, &mut view);
            replan |= before.as_ref() != Some(&after);
        }
        if replan {
            self.plan(cache, world, &mut view);
        }
        let same = heddle_xds::ResourceType::ALL.into_iter().all(|kind| view.same(&self.view, kind));
        if same || view == *self.view {
            return None;
        }
        view.generation = world.generation;
        Some(view)
    }
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
