//! Resources in, generations out.
//!
//! A resource that compiles waits until everything it refers to is in force, at most [`WARMING`], and only then replaces its
//! previous version; resources that wait do not hold up others. Each call costs what it touches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_xds::ResourceType;
use rustc_hash::FxHashMap;

use super::compilation::Compilation;
use super::compile::judge::{Listed, Refusal};
use super::contexts::Contexts;
use super::refs::Reference;
use super::{Discovery, DnsCluster, EndpointSet, Listener, Name, RouteConfig, Snapshot};

/// How long a resource waits for what it refers to (DESIGN 6).
pub const WARMING: Duration = Duration::from_secs(5);

/// Why a resource was refused. The previous version stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
    /// Field, what was found, what was expected.
    pub reason: String,
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.name, self.reason)
    }
}

impl std::error::Error for Nack {}

/// A change of what this configuration asks its server for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantChange {
    /// Type: route configurations and endpoint sets.
    pub kind: ResourceType,
    /// Name.
    pub name: Name,
    /// Asked for, or no longer.
    pub wanted: bool,
}

/// An accepted resource as it came.
#[derive(Clone, Debug)]
pub struct RawResource {
    /// The value of the `Any`.
    pub body: Bytes,
    /// Fields that are set and have no effect here, `Message.field`.
    pub listed: Box<[&'static str]>,
}

/// A compiled resource that waits for what it refers to.
#[derive(Debug)]
struct Waiting {
    resource: Compilation,
    references: Vec<Reference>,
    missing: Vec<Reference>,
    since: Option<Instant>,
}

pub(super) type Id = (ResourceType, Name);

/// Applies resources one at a time and publishes generations. No I/O, no clock.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    next: Snapshot,
    changed: bool,
    published: Arc<Snapshot>,
    raw: FxHashMap<Id, RawResource>,
    /// What each resource in force refers to.
    references: FxHashMap<Id, Vec<Reference>>,
    waiting: BTreeMap<Id, Waiting>,
    /// Which waiting resources may go on when this appears.
    waiters: FxHashMap<Reference, Vec<Id>>,
    /// How many resources refer to a name that is asked for by name.
    wanted: FxHashMap<Id, usize>,
    wants: Vec<WantChange>,
    dns: BTreeMap<Name, Arc<DnsCluster>>,
    contexts: Contexts,
}

impl SnapshotBuilder {
    /// An empty one.
    pub fn new() -> SnapshotBuilder {
        SnapshotBuilder::default()
    }

    /// Adds or replaces a resource: `body` is the value of the `Any`.
    pub fn apply(&mut self, kind: ResourceType, name: &str, body: &[u8]) -> Result<(), Nack> {
        self.apply_shared(kind, name, Bytes::copy_from_slice(body))
    }

    /// The same with bytes that are kept as they are.
    pub fn apply_shared(&mut self, kind: ResourceType, name: &str, body: Bytes) -> Result<(), Nack> {
        let name = Name::new(name);
        let id = (kind, name.clone());
        if self.raw.get(&id).is_some_and(|raw| raw.body == body) {
            return Ok(());
        }
        let mut listed = Listed::new();
        let refuse = |refusal: Refusal| Nack { kind, name: name.to_string(), reason: refusal.to_string() };
        let previous = self.last_routes(&id);
        let resource = Compilation::of(&id, &body, previous, &mut listed).map_err(refuse)?;
        let raw = RawResource { body, listed: listed.into_iter().collect() };
        self.raw.insert(id.clone(), raw);
        self.accept(id, resource);
        Ok(())
    }

    /// The version of a route configuration that came last.
    fn last_routes(&self, id: &Id) -> Option<&RouteConfig> {
        match self.waiting.get(id).map(|waiting| &waiting.resource) {
            Some(Compilation::Routes(config)) => Some(config),
            _ => self.next.routes.get(&id.1).map(|config| &**config),
        }
    }

    fn accept(&mut self, id: Id, resource: Compilation) {
        let references = resource.references();
        if let Compilation::Cluster(cluster) = &resource {
            match &cluster.discovery {
                Discovery::Dns(dns) => drop(self.dns.insert(id.1.clone(), dns.clone())),
                _ => self.forget_dns(&id.1),
            }
        }
        for reference in &references {
            self.want(reference, true);
        }
        let missing: Vec<Reference> = references.iter().filter(|r| !self.is_there(r)).cloned().collect();
        let before = self.waiting.remove(&id);
        let since = before.as_ref().and_then(|waiting| waiting.since);
        if missing.is_empty() {
            self.put(id, resource, references);
            return self.release(before.map(|waiting| waiting.references));
        }
        for reference in &missing {
            let waiters = self.waiters.entry(reference.clone()).or_default();
            if !waiters.contains(&id) {
                waiters.push(id.clone());
            }
        }
        self.waiting.insert(id, Waiting { resource, references, missing, since });
        self.release(before.map(|waiting| waiting.references));
    }

    /// What a version referred to that is no longer in use.
    fn release(&mut self, references: Option<Vec<Reference>>) {
        for reference in references.unwrap_or_default() {
            self.want(&reference, false);
        }
    }

    fn is_there(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Resource(ResourceType::Cluster, name) => self.next.clusters.contains_key(name),
            Reference::Resource(ResourceType::Endpoint, name) => self.next.endpoints.contains_key(name),
            Reference::Resource(ResourceType::Route, name) => self.next.routes.contains_key(name),
            Reference::Resource(ResourceType::Secret, name) => self.next.secrets.contains_key(name),
            Reference::Resource(..) => true,
            Reference::Resolved(name) => self.next.resolved.contains_key(name),
        }
    }

    /// Puts a resource in force and lets those go on that waited for it alone.
    fn put(&mut self, id: Id, resource: Compilation, references: Vec<Reference>) {
        let (_, name) = &id;
        match resource {
            Compilation::Cluster(cluster) => {
                let old = self.next.clusters.insert(name.clone(), cluster.clone());
                self.contexts.cluster(old.as_deref(), Some(&cluster));
            }
            Compilation::Endpoints(set) => drop(self.next.endpoints.insert(name.clone(), set)),
            Compilation::Listener(listener) => {
                let old = self.next.listeners.insert(name.clone(), listener.clone());
                self.contexts.listener(old.as_deref(), Some(&listener));
            }
            Compilation::Secret(secret) => {
                self.next.secrets.insert(name.clone(), secret);
                self.contexts.secret(name);
            }
            Compilation::Routes(config) => drop(self.next.routes.insert(name.clone(), config)),
        }
        self.changed = true;
        let before = self.references.insert(id.clone(), references);
        self.appeared(&Reference::Resource(id.0, id.1));
        self.release(before);
    }

    fn appeared(&mut self, reference: &Reference) {
        for id in self.waiters.remove(reference).unwrap_or_default() {
            let Some(waiting) = self.waiting.get_mut(&id) else { continue };
            waiting.missing.retain(|missing| missing != reference);
            if waiting.missing.is_empty()
                && let Some(waiting) = self.waiting.remove(&id)
            {
                self.put(id, waiting.resource, waiting.references);
            }
        }
    }

    /// Counts who asks for a name; endpoint sets and routes that nobody asks for any more are dropped.
    fn want(&mut self, reference: &Reference, wanted: bool) {
        use ResourceType::{Endpoint, Route, Secret};
        let Reference::Resource(kind @ (Endpoint | Route | Secret), name) = reference else { return };
        let id = (*kind, name.clone());
        let count = self.wanted.entry(id.clone()).or_default();
        *count = if wanted { *count + 1 } else { count.saturating_sub(1) };
        let (count, change) = (*count, WantChange { kind: *kind, name: name.clone(), wanted });
        if wanted && count == 1 {
            self.wants.push(change);
        } else if !wanted && count == 0 {
            self.wanted.remove(&id);
            self.wants.push(change);
            self.remove(*kind, name.as_str());
        }
    }

    /// Removes a resource; removing one that is not there is no error.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        let id = (kind, Name::new(name));
        self.raw.remove(&id);
        let waiting = self.waiting.remove(&id).map(|waiting| waiting.references);
        let name = &id.1;
        self.changed |= match kind {
            ResourceType::Cluster => {
                let old = self.next.clusters.remove(name);
                self.contexts.cluster(old.as_deref(), None);
                old.is_some()
            }
            ResourceType::Endpoint => self.next.endpoints.remove(name).is_some(),
            ResourceType::Listener => {
                let old = self.next.listeners.remove(name);
                self.contexts.listener(old.as_deref(), None);
                old.is_some()
            }
            ResourceType::Route => self.next.routes.remove(name).is_some(),
            ResourceType::Secret => {
                self.contexts.secret(name);
                self.next.secrets.remove(name).is_some()
            }
            ResourceType::VirtualHost | ResourceType::NameTable => false,
        };
        if kind == ResourceType::Cluster {
            self.forget_dns(name);
        }
        let references = self.references.remove(&id);
        self.release(references);
        self.release(waiting);
    }

    fn forget_dns(&mut self, cluster: &Name) {
        if self.dns.remove(cluster).is_some() {
            self.changed |= self.next.resolved.remove(cluster).is_some();
        }
    }

    /// Says what DNS answered for a cluster of [`SnapshotBuilder::dns_clusters`].
    pub fn set_resolved(&mut self, cluster: &Name, set: EndpointSet) {
        if !self.dns.contains_key(cluster) {
            return;
        }
        self.next.resolved.insert(cluster.clone(), Arc::new(set));
        self.changed = true;
        self.appeared(&Reference::Resolved(cluster.clone()));
    }

    /// Clusters whose names are to be resolved, those that wait for it too.
    pub fn dns_clusters(&self) -> impl Iterator<Item = (&Name, &Arc<DnsCluster>)> {
        self.dns.iter()
    }

    /// Names that this configuration asks its server for: route configurations and endpoint sets.
    pub fn wanted(&self, kind: ResourceType) -> Vec<Name> {
        let mut names: Vec<Name> =
            self.wanted.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }

    /// How [`SnapshotBuilder::wanted`] changed since the last call.
    pub fn take_want_changes(&mut self) -> Vec<WantChange> {
        std::mem::take(&mut self.wants)
    }

    /// The next generation, if something changed that does not wait.
    pub fn publish(&mut self, now: Instant) -> Option<Arc<Snapshot>> {
        let mut overdue = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if now.saturating_duration_since(*waiting.since.get_or_insert(now)) >= WARMING {
                overdue.push(id.clone());
            }
        }
        for id in overdue {
            if let Some(waiting) = self.waiting.remove(&id) {
                self.put(id, waiting.resource, waiting.references);
            }
        }
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.contexts.refresh(&mut self.next);
        self.next.generation += 1;
        self.published = Arc::new(self.next.clone());
        Some(self.published.clone())
    }

    /// When [`SnapshotBuilder::publish`] is worth calling again without a new resource.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| Some(waiting.since? + WARMING)).min()
    }

    /// A listener as accepted last, in force or waiting.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        let id = (ResourceType::Listener, Name::new(name));
        match self.waiting.get(&id).map(|waiting| &waiting.resource) {
            Some(Compilation::Listener(listener)) => Some(listener),
            _ => self.next.listeners.get(&id.1),
        }
    }

    /// Resources that wait, and what for.
    pub fn waiting(&self) -> impl Iterator<Item = (ResourceType, &Name, String)> {
        self.waiting.iter().map(|((kind, name), waiting)| {
            let missing: Vec<String> = waiting.missing.iter().map(Reference::to_string).collect();
            (*kind, name, missing.join(", "))
        })
    }

    /// What is closed since its TLS is not complete, and why.
    pub fn unserved(&self) -> impl Iterator<Item = String> {
        let chains = self.next.listeners.iter().flat_map(move |(name, listener)| {
            let chains = listener.chains.iter().chain(&listener.default_chain);
            chains.filter_map(move |chain| {
                let reason = self.contexts.closed(chain.tls.as_ref()?)?;
                Some(format!("{name}: connections to filter chain {:?} are closed: {reason}", chain.name))
            })
        });
        let clusters = self.next.clusters.iter().filter_map(move |(name, cluster)| {
            let reason = cluster.transports().find_map(|tls| self.contexts.unreached(tls))?;
            Some(format!("{name}: its endpoints are not reached: {reason}"))
        });
        chains.chain(clusters)
    }

    /// The last published generation.
    pub fn current(&self) -> &Arc<Snapshot> {
        &self.published
    }

    /// Every accepted resource as it came, in no order.
    pub fn resources(&self) -> impl Iterator<Item = (ResourceType, &Name, &RawResource)> {
        self.raw.iter().map(|((kind, name), raw)| (*kind, name, raw))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Resource(kind, name) => write!(f, "{kind} {name}"),
            Reference::Resolved(name) => write!(f, "DNS of cluster {name}"),
        }
    }
}

#[cfg(test)]
#[path = "builder_test.rs"]
mod builder_test;
