//! Resources in, generations out.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use heddle_xds::ResourceType;

use super::{DnsCluster, EndpointSet, Name, Snapshot};

/// Why a resource was refused. The previous version stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Resource name.
    pub name: String,
    /// Field, what was found, what was expected.
    pub reason: String,
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

impl std::error::Error for Nack {}

/// Applies resources one at a time and publishes generations. No I/O, no clock.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    next: Snapshot,
    published: Arc<Snapshot>,
}

impl SnapshotBuilder {
    /// An empty one.
    pub fn new() -> SnapshotBuilder {
        SnapshotBuilder::default()
    }

    /// Adds or replaces a resource: `body` is the value of the `Any`.
    pub fn apply(&mut self, kind: ResourceType, name: &str, body: &[u8]) -> Result<(), Nack> {
        let _ = (kind, name, body);
        Ok(())
    }

    /// Removes a resource; removing one that is not there is no error.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        let _ = (kind, name);
    }

    /// Says what DNS answered for a cluster.
    pub fn set_resolved(&mut self, cluster: &Name, set: EndpointSet) {
        self.next.resolved.insert(cluster.clone(), Arc::new(set));
    }

    /// Clusters whose names are to be resolved.
    pub fn dns_clusters(&self) -> Vec<(Name, Arc<DnsCluster>)> {
        Vec::new()
    }

    /// What this configuration asks its server for by name: route configurations and endpoint sets.
    pub fn wanted(&self, kind: ResourceType) -> Vec<Name> {
        let _ = kind;
        Vec::new()
    }

    /// The next generation, if something changed and what it refers to is present or has been waited for for 5 s.
    pub fn publish(&mut self, now: Instant) -> Option<Arc<Snapshot>> {
        let _ = now;
        None
    }

    /// When [`SnapshotBuilder::publish`] is worth calling again without a new resource.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The last published generation.
    pub fn current(&self) -> &Arc<Snapshot> {
        &self.published
    }
}
