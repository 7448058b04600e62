//! Everything that was written, indexed by the questions that compilation asks.
//!
//! A [`World`] is immutable. [`World::apply`] makes the next one, which shares all that did not change,
//! and says in [`Dirty`] which [`Fact`]s did. The cost is that of the change, not of the world.

mod address;
mod convert;
pub(crate) mod host;
mod parents;
mod protocol;
mod registry;
mod rules;
mod service;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use heddle_resource::{Key, Kind, Object, Spec};
use heddle_xds::NodeInfo;
use imbl::{HashMap, OrdMap};
use rustc_hash::FxHashSet;

pub use host::ExportTo;
pub use parents::ParentId;
pub use protocol::Protocol;
pub use rules::{DestinationRuleEntry, GatewayEntry, SidecarEntry, VirtualServiceEntry};
pub use service::{Endpoint, Health, Port, Resolution, Service, ServiceId, Target, Workload};

use crate::{
    compile::gateway_api::model::Route,
    finding::{Finding, code},
    scope::{Identity, Scope},
};
use parents::Parents;
use registry::Registry;
use rules::Rules;

/// What holds for the whole mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshConfig {
    /// Default `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// Whose rules apply to every namespace. Default `istio-system`.
    pub root_namespace: Arc<str>,
    /// GatewayClasses whose Gateways are ours. Default `heddle`, `istio`.
    pub gateway_classes: Arc<[Arc<str>]>,
    /// Whether requests to unknown hosts pass where no `Sidecar` says. Default true (`ALLOW_ANY`).
    pub allow_any: bool,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            gateway_classes: Arc::from(["heddle".into(), "istio".into()]),
            allow_any: true,
        }
    }
}

/// One thing about the world that compilation may read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Fact {
    /// Every service there is, with its ports.
    Services,
    /// The services of one host name.
    Host(Arc<str>),
    /// The services of a namespace, with their selectors.
    ServicesIn(Arc<str>),
    Endpoints(ServiceId),
    /// The address that stands for a service without one.
    Address(ServiceId),
    /// The host patterns of the VirtualServices bound to `mesh`.
    MeshHosts,
    /// The VirtualServices bound to `mesh` with that host pattern.
    MeshRoutes(Arc<str>),
    /// The VirtualServices bound to a Gateway, `NAMESPACE/NAME`.
    GatewayRoutes(Arc<str>),
    /// The DestinationRules with that host pattern.
    DestinationRules(Arc<str>),
    /// The Sidecars of a namespace.
    Sidecars(Arc<str>),
    /// The Istio Gateways.
    Gateways,
    /// The Gateway API routes that refer to an object as their parent.
    RoutesOf(ParentId),
    /// One object, or its absence.
    Object(Key),
    /// All objects of a kind.
    Kind(&'static Kind),
}

/// What a change touched.
#[derive(Clone, Default, Debug)]
pub struct Dirty {
    facts: FxHashSet<Fact>,
    /// The objects that changed.
    pub keys: Vec<Key>,
    /// Whether the set of label keys that selectors read may have changed, and scopes with it.
    pub selectors: bool,
}

impl Dirty {
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    pub(crate) fn mark(&mut self, fact: Fact) {
        self.facts.insert(fact);
    }

    /// Nothing but endpoints changed.
    pub fn endpoints_only(&self) -> bool {
        self.facts.iter().all(|fact| {
            matches!(fact, Fact::Endpoints(_))
                || matches!(fact, Fact::Object(key) if is_endpoint_kind(key.kind))
                || matches!(fact, Fact::Kind(kind) if is_endpoint_kind(kind))
        })
    }

    /// Takes up what another change touched.
    pub fn merge(&mut self, other: Self) {
        self.facts.extend(other.facts);
        self.keys.extend(other.keys);
        self.selectors |= other.selectors;
    }

    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}

fn is_endpoint_kind(kind: &Kind) -> bool {
    matches!(kind.kind, "EndpointSlice" | "WorkloadEntry" | "Pod")
}

/// One step: an object of a source was put or deleted. Sources are numbered in their order of precedence.
#[derive(Clone, Debug)]
pub enum Change {
    Put { source: usize, object: Arc<Object> },
    Delete { source: usize, key: Key },
}

impl Change {
    pub fn key(&self) -> Key {
        match self {
            Self::Put { object, .. } => object.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

type NameKey = (Arc<str>, Arc<str>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub config: Arc<MeshConfig>,
    /// Counts applied changes.
    pub generation: u64,
    /// What each source says of a key, in order of precedence; the first one counts.
    sources: HashMap<Key, Arc<BTreeMap<usize, Arc<Object>>>>,
    kinds: OrdMap<&'static Kind, OrdMap<NameKey, Arc<Object>>>,
    registry: Registry,
    rules: Rules,
    parents: Parents,
    /// How many selectors of rules read each label key.
    rule_keys: OrdMap<Arc<str>, usize>,
    /// How many selectors of services do.
    service_keys: OrdMap<Arc<str>, usize>,
}

impl World {
    pub fn new(config: MeshConfig) -> Self {
        Self { config: Arc::new(config), ..Self::default() }
    }

    /// The world after some changes, and what they touched.
    pub fn apply(&self, changes: &[Change]) -> (World, Dirty) {
        let mut world = self.clone();
        let mut dirty = Dirty::default();
        for change in changes {
            world.apply_one(change, &mut dirty);
        }
        world.registry.settle(&mut dirty);
        if !dirty.is_empty() {
            world.generation += 1;
        }
        (world, dirty)
    }

    fn apply_one(&mut self, change: &Change, dirty: &mut Dirty) {
        let key = change.key();
        let mut said: BTreeMap<_, _> =
            self.sources.get(&key).map(|said| (**said).clone()).unwrap_or_default();
        let old = said.values().next().cloned();
        match change {
            Change::Put { source, object } => said.insert(*source, object.clone()),
            Change::Delete { source, .. } => said.remove(source),
        };
        let new = said.values().next().cloned();
        if said.is_empty() {
            self.sources.remove(&key);
        } else {
            self.sources.insert(key.clone(), Arc::new(said));
        }
        let unchanged = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old.json == new.json,
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            self.replace(key, old.as_ref(), new.as_ref(), dirty);
        }
    }

    fn replace(&mut self, key: Key, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>, dirty: &mut Dirty) {
        let name: NameKey = (key.namespace.clone(), key.name.clone());
        let mut objects = self.kinds.get(&key.kind).cloned().unwrap_or_default();
        match new {
            Some(new) => objects.insert(name, new.clone()),
            None => objects.remove(&name),
        };
        self.kinds.insert(key.kind, objects);
        dirty.mark(Fact::Object(key.clone()));
        dirty.mark(Fact::Kind(key.kind));
        dirty.keys.push(key);
        let config = self.config.clone();
        self.registry.replace(old, new, &config, dirty);
        self.rules.replace(old, new, &config, dirty);
        self.parents.replace(old.map(|object| &**object), new.map(|object| &**object), dirty);
        self.count_label_keys(old, new, dirty);
    }

    fn count_label_keys(&mut self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>, dirty: &mut Dirty) {
        for (object, present) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
            let of_service = matches!(object.spec, Spec::Service(_) | Spec::ServiceEntry(_));
            let keys = if of_service { &mut self.service_keys } else { &mut self.rule_keys };
            for key in rules::label_keys(object) {
                let count = keys.get(&key).copied().unwrap_or_default();
                match (present, count) {
                    (true, count) => keys.insert(key, count + 1),
                    (false, 0 | 1) => keys.remove(&key),
                    (false, count) => keys.insert(key, count - 1),
                };
                dirty.selectors |= count <= 1;
            }
        }
    }
}

/// Reading. Compilation reads through `Cx`, which records.
impl World {
    /// The scope of a node: its labels are those it tells, beside those of the workload that it names.
    ///
    /// # Errors
    /// When its metadata cannot be understood: what, and what is expected.
    pub fn scope(&self, node: &NodeInfo) -> Result<Scope, String> {
        let identity = Identity::parse(&node.id);
        let told = node.metadata.get("NAMESPACE").and_then(serde_json::Value::as_str);
        let namespace = told.or(identity.namespace).unwrap_or("default");
        let own = self.workload_labels(namespace, identity.name);
        let mut scope = Scope::reading(node, |key| self.rule_reads(key), |key| self.service_reads(key))?;
        for (key, value) in own.iter().flat_map(|labels| labels.iter()) {
            if scope.label(key).is_some() {
                continue;
            }
            if self.rule_reads(key) {
                scope.labels.insert(key.as_str().into(), value.as_str().into());
            } else if self.service_reads(key) {
                scope.own_labels.insert(key.as_str().into(), value.as_str().into());
            }
        }
        Ok(scope)
    }

    /// Whether some selector reads that label key.
    pub fn reads_label(&self, key: &str) -> bool {
        self.rule_reads(key) || self.service_reads(key)
    }

    /// Whether a rule's selector reads that label of a client.
    pub fn rule_reads(&self, key: &str) -> bool {
        self.rule_keys.contains_key(key)
    }

    /// Whether a service's selector reads that label of a workload.
    pub fn service_reads(&self, key: &str) -> bool {
        key == registry::SERVICE_LABEL || self.service_keys.contains_key(key)
    }

    /// The object that counts for a key.
    pub fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        self.kinds.get(&key.kind)?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// The objects of a kind, by namespace and name.
    pub fn objects(&self, kind: &'static Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.kinds.get(&kind).into_iter().flat_map(|objects| objects.values())
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &'static Kind) -> usize {
        self.kinds.get(&kind).map_or(0, OrdMap::len)
    }

    /// Every service, by host; the services of one host in order of precedence.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.registry.services.values().flat_map(|services| services.iter())
    }

    /// The services of a host in order of precedence: core Services first, then the older, then by
    /// namespace and name.
    pub fn services_of(&self, host: &str) -> &[Arc<Service>] {
        self.registry.services.get(host).map_or(&[], |services| services)
    }

    /// The services declared in a namespace.
    pub fn services_in<'w>(&'w self, namespace: &str) -> impl Iterator<Item = &'w Arc<Service>> + use<'w> {
        self.registry.services_in(namespace)
    }

    pub fn endpoints(&self, service: &ServiceId) -> Arc<[Endpoint]> {
        self.registry.endpoints.get(service).cloned().unwrap_or_else(|| Arc::from([]))
    }

    /// How many endpoint sets there are.
    pub fn endpoint_sets(&self) -> usize {
        self.registry.endpoints.len()
    }

    /// The address that stands for a service which has none of its own: from 240.240.0.0/12 and
    /// 2001:2::/48.
    pub fn address(&self, service: &ServiceId) -> Option<(IpAddr, IpAddr)> {
        self.registry.addresses.get(service)
    }

    pub fn mesh_hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.mesh.keys()
    }

    /// The VirtualServices bound to `mesh` with that host pattern, older first.
    pub fn mesh_routes(&self, pattern: &str) -> &[Arc<VirtualServiceEntry>] {
        self.rules.mesh.get(pattern).map_or(&[], |entries| entries)
    }

    /// The VirtualServices bound to a Gateway (`NAMESPACE/NAME`), older first.
    pub fn gateway_routes(&self, gateway: &str) -> &[Arc<VirtualServiceEntry>] {
        self.rules.by_gateway.get(gateway).map_or(&[], |entries| entries)
    }

    /// The DestinationRules with that host pattern, older first.
    pub fn destination_rules(&self, pattern: &str) -> &[Arc<DestinationRuleEntry>] {
        self.rules.destination.get(pattern).map_or(&[], |entries| entries)
    }

    /// The Sidecars of a namespace, older first.
    pub fn sidecars(&self, namespace: &str) -> &[Arc<SidecarEntry>] {
        self.rules.sidecars.get(namespace).map_or(&[], |entries| entries)
    }

    /// The Istio Gateways, older first.
    pub fn gateways(&self) -> &[Arc<GatewayEntry>] {
        &self.rules.gateways
    }

    /// The Gateway API routes that refer to an object as their parent, in order of seniority.
    pub(crate) fn routes_of(&self, parent: &ParentId) -> &[Arc<Route>] {
        self.parents.of(parent)
    }

    /// The labels of a workload by name: a WorkloadEntry's or a Pod's.
    pub fn workload_labels(&self, namespace: &str, name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.registry.workload_labels(namespace, name)
    }
}

/// Reporting.
impl World {
    /// Objects that are not in force because another has the same key or host.
    pub fn collisions(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for said in self.sources.values().filter(|said| said.len() > 1) {
            let mut objects = said.values();
            let Some(winner) = objects.next() else { continue };
            found.extend(objects.map(|loser| collision(loser, winner, "metadata.name")));
        }
        for services in self.registry.services.values().filter(|services| services.len() > 1) {
            let winner = services.first().filter(|winner| winner.kubernetes);
            let Some(winner) = winner.and_then(|winner| self.object(&winner.object)) else { continue };
            let losers = services.iter().skip(1).filter_map(|loser| self.object(&loser.object));
            found.extend(losers.map(|loser| collision(loser, winner, "spec.hosts")));
        }
        for entries in self.rules.mesh.values().filter(|entries| entries.len() > 1) {
            let Some(winner) = entries.first() else { continue };
            let losers = entries.iter().skip(1);
            found.extend(losers.map(|loser| collision(&loser.object, &winner.object, "spec.hosts")));
        }
        found
    }
}

fn collision(loser: &Object, winner: &Object, field: &str) -> Finding {
    let from = |object: &Object| match &object.source {
        Some(source) => format!("{} ({}:{})", object.key(), source.file, source.line),
        None => object.key().to_string(),
    };
    let message = format!("{} goes before it; rename or delete one of them", from(winner));
    Finding::new(code::COLLISION, loser.field(field), message)
}
