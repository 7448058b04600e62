//! Memoised compilation: what a unit read is what it depends on.
//!
//! A [`Unit`] is compiled by a pure function of what it reads through [`Cx`]: facts of the world,
//! attributes of the scope, other units. The reads are recorded. A later compilation for any scope
//! takes the kept result when the attributes that were read are equal (so scopes share whatever does not
//! depend on what tells them apart) and nothing that was read has changed. A change of facts only marks
//! what may be stale; a marked unit whose inputs turn out equal is kept, so a change stops where it
//! stops mattering.

use std::{cell::RefCell, collections::BTreeSet, mem, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    cx::{Cx, Reads},
    metrics::Counters,
    unit::{Unit, Value},
};
use crate::{
    finding::Finding,
    scope::{Attribute, Scope},
    world::{Dirty, Fact, World},
};

pub(crate) type VariantId = u32;

/// How far a kept result is to be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stale {
    Fresh,
    /// Something that a unit it read, read, has changed.
    Maybe,
    /// Something it read itself has changed.
    Yes,
}

/// One kept result of a unit: for all scopes that agree on the attributes it read.
#[derive(Debug)]
struct Variant {
    unit: Unit,
    key: ShapeKey,
    output: Output,
    /// Attributes read, own and of the units read.
    attributes: Arc<BTreeSet<Attribute>>,
    facts: Vec<Fact>,
    inputs: Vec<VariantId>,
    dependents: FxHashSet<VariantId>,
    /// The count of changes at which the output last changed.
    changed: u64,
    /// The count of changes up to which the output is known to hold.
    verified: u64,
    stale: Stale,
}

/// What compiling a unit gives.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) value: Value,
    pub(crate) findings: Arc<[Finding]>,
}

type ShapeKey = Arc<[Option<Arc<str>>]>;

/// The results of one unit that read the same attributes, by the values of those.
#[derive(Debug)]
struct Shape {
    attributes: Arc<BTreeSet<Attribute>>,
    variants: FxHashMap<ShapeKey, VariantId>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: FxHashMap<Unit, Vec<Shape>>,
    variants: FxHashMap<VariantId, Variant>,
    readers: FxHashMap<Fact, FxHashSet<VariantId>>,
    next: VariantId,
    /// Counts applied changes.
    now: u64,
}

/// Every kept result.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: RefCell<Inner>,
    pub(crate) counters: Counters,
}

impl Cache {
    /// Marks what may have changed, and names the units concerned.
    pub(crate) fn invalidate(&mut self, dirty: &Dirty) -> FxHashSet<Unit> {
        let inner = self.inner.get_mut();
        inner.now += 1;
        let mut touched = FxHashSet::default();
        let mut queue = Vec::new();
        for fact in dirty.facts() {
            for &id in inner.readers.get(fact).into_iter().flatten() {
                if let Some(variant) = inner.variants.get_mut(&id) {
                    variant.stale = Stale::Yes;
                    touched.insert(variant.unit.clone());
                    queue.extend(variant.dependents.iter().copied());
                }
            }
        }
        while let Some(id) = queue.pop() {
            if let Some(variant) = inner.variants.get_mut(&id)
                && touched.insert(variant.unit.clone()) | (variant.stale == Stale::Fresh)
            {
                variant.stale = variant.stale.max(Stale::Maybe);
                queue.extend(variant.dependents.iter().copied());
            }
        }
        touched
    }

    /// The unit's result for a scope: kept, verified or compiled anew.
    pub(crate) fn demand(&self, world: &World, scope: &Scope, unit: &Unit) -> Demanded {
        let mut candidates = self.candidates(scope, unit);
        candidates.sort_by_key(|(_, stale)| *stale);
        for &(id, stale) in &candidates {
            let holds = stale == Stale::Fresh || (stale == Stale::Maybe && self.verify(world, scope, id));
            if let Some(found) = self.inner.borrow().variants.get(&id).filter(|_| holds) {
                return found.demanded(id);
            }
        }
        self.compile(world, scope, unit, candidates.first().map(|(id, _)| *id))
    }

    fn candidates(&self, scope: &Scope, unit: &Unit) -> Vec<(VariantId, Stale)> {
        let inner = self.inner.borrow();
        let Some(shapes) = inner.slots.get(unit) else { return Vec::new() };
        shapes
            .iter()
            .filter_map(|shape| shape.variants.get(&project(scope, &shape.attributes)).copied())
            .filter_map(|id| Some((id, inner.variants.get(&id)?.stale)))
            .collect()
    }

    /// Whether everything a result was made of is as it was. Compiles inputs that are stale themselves.
    fn verify(&self, world: &World, scope: &Scope, id: VariantId) -> bool {
        let (inputs, verified) = {
            let inner = self.inner.borrow();
            let Some(variant) = inner.variants.get(&id) else { return false };
            let inputs: Option<Vec<_>> = variant
                .inputs
                .iter()
                .map(|input| Some((*input, inner.variants.get(input)?.unit.clone())))
                .collect();
            match inputs {
                Some(inputs) => (inputs, variant.verified),
                None => return false,
            }
        };
        for (input, unit) in inputs {
            let now = self.demand(world, scope, &unit);
            if now.id != input || now.changed > verified {
                return false;
            }
        }
        let mut inner = self.inner.borrow_mut();
        let now = inner.now;
        match inner.variants.get_mut(&id) {
            Some(variant) if variant.stale == Stale::Maybe => {
                variant.stale = Stale::Fresh;
                variant.verified = now;
                true
            }
            _ => false,
        }
    }

    fn compile(&self, world: &World, scope: &Scope, unit: &Unit, old: Option<VariantId>) -> Demanded {
        let cx = Cx::new(self, world, scope);
        let value = unit.compile(&cx);
        let (reads, findings) = cx.finish();
        self.counters.compiled(unit);
        let output = Output { value, findings: findings.into() };
        self.inner.borrow_mut().keep(scope, unit, reads, output, old)
    }

    /// Drops the results to which none of these leads.
    pub(crate) fn sweep(&mut self, roots: impl Iterator<Item = VariantId>) {
        let inner = self.inner.get_mut();
        let mut alive = FxHashSet::default();
        let mut queue: Vec<VariantId> = roots.collect();
        while let Some(id) = queue.pop() {
            if alive.insert(id)
                && let Some(variant) = inner.variants.get(&id)
            {
                queue.extend(variant.inputs.iter().copied());
            }
        }
        let dead: Vec<_> = inner.variants.keys().copied().filter(|id| !alive.contains(id)).collect();
        for id in dead {
            inner.detach(id);
        }
        inner.slots.retain(|_, shapes| {
            shapes.retain(|shape| !shape.variants.is_empty());
            !shapes.is_empty()
        });
    }

    /// How many results are kept.
    pub(crate) fn len(&self) -> usize {
        self.inner.borrow().variants.len()
    }
}

/// A result, and which kept one it is.
pub(crate) struct Demanded {
    pub(crate) id: VariantId,
    pub(crate) output: Output,
    pub(crate) attributes: Arc<BTreeSet<Attribute>>,
    pub(crate) changed: u64,
}

impl Variant {
    fn demanded(&self, id: VariantId) -> Demanded {
        Demanded {
            id,
            output: self.output.clone(),
            attributes: self.attributes.clone(),
            changed: self.changed,
        }
    }
}

impl Inner {
    fn keep(
        &mut self,
        scope: &Scope,
        unit: &Unit,
        reads: Reads,
        output: Output,
        old: Option<VariantId>,
    ) -> Demanded {
        let attributes = Arc::new(reads.attributes);
        let key = project(scope, &attributes);
        let mut changed = self.now;
        let mut dependents = FxHashSet::default();
        let same = old.filter(|old| self.variants.get(old).is_some_and(|v| v.attributes == attributes));
        if let Some(variant) = same.and_then(|same| self.variants.get(&same))
            && variant.output.value == output.value
            && variant.output.findings == output.findings
        {
            changed = variant.changed;
        }
        if let Some(old) = old
            && let Some(variant) = self.detach(old)
            && same.is_some()
        {
            dependents = variant.dependents;
        }
        let id = same.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        if let Some(occupant) = self.occupant(unit, &attributes, &key) {
            self.detach(occupant);
        }
        for fact in &reads.facts {
            self.readers.entry(fact.clone()).or_default().insert(id);
        }
        for input in &reads.inputs {
            if let Some(variant) = self.variants.get_mut(input) {
                variant.dependents.insert(id);
            }
        }
        let variant = Variant {
            unit: unit.clone(),
            key: key.clone(),
            output,
            attributes: attributes.clone(),
            facts: reads.facts.into_iter().collect(),
            inputs: reads.inputs.into_iter().collect(),
            dependents,
            changed,
            verified: self.now,
            stale: Stale::Fresh,
        };
        let demanded = variant.demanded(id);
        self.variants.insert(id, variant);
        let shapes = self.slots.entry(unit.clone()).or_default();
        let at = shapes.iter().position(|shape| shape.attributes == attributes);
        let shape = match at {
            Some(at) => &mut shapes[at],
            None => {
                shapes.push(Shape { attributes, variants: FxHashMap::default() });
                let last = shapes.len() - 1;
                &mut shapes[last]
            }
        };
        shape.variants.insert(key, id);
        demanded
    }

    fn occupant(&self, unit: &Unit, attributes: &BTreeSet<Attribute>, key: &ShapeKey) -> Option<VariantId> {
        let shapes = self.slots.get(unit)?;
        shapes.iter().find(|shape| *shape.attributes == *attributes)?.variants.get(key).copied()
    }

    /// Takes a result out of every index but the dependents' input lists (where its absence means "changed").
    fn detach(&mut self, id: VariantId) -> Option<Variant> {
        let mut variant = self.variants.remove(&id)?;
        for fact in mem::take(&mut variant.facts) {
            if let Some(readers) = self.readers.get_mut(&fact) {
                readers.remove(&id);
                if readers.is_empty() {
                    self.readers.remove(&fact);
                }
            }
        }
        for input in &variant.inputs {
            if let Some(input) = self.variants.get_mut(input) {
                input.dependents.remove(&id);
            }
        }
        if let Some(shapes) = self.slots.get_mut(&variant.unit) {
            for shape in shapes.iter_mut().filter(|shape| shape.attributes == variant.attributes) {
                if shape.variants.get(&variant.key) == Some(&id) {
                    shape.variants.remove(&variant.key);
                }
            }
        }
        Some(variant)
    }
}

fn project(scope: &Scope, attributes: &BTreeSet<Attribute>) -> ShapeKey {
    attributes.iter().map(|attribute| scope.attribute(attribute)).collect()
}
