//! How much was compiled and encoded.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use heddle_xds::ResourceType;

use super::unit::Unit;

/// Counts of work by resource type, shared with whoever reads them.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    compiled: [AtomicU64; ResourceType::COUNT],
    encoded: [AtomicU64; ResourceType::COUNT],
}

impl Counters {
    pub(super) fn compiled(&self, unit: &Unit) {
        if let Some(kind) = unit.resource_type() {
            self.0.compiled[kind.index()].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn encoded(&self, kind: ResourceType) {
        self.0.encoded[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many units of a type were compiled since the start.
    pub fn compiled_of(&self, kind: ResourceType) -> u64 {
        self.0.compiled[kind.index()].load(Ordering::Relaxed)
    }

    /// How many resources of a type were encoded since the start.
    pub fn encoded_of(&self, kind: ResourceType) -> u64 {
        self.0.encoded[kind.index()].load(Ordering::Relaxed)
    }
}
