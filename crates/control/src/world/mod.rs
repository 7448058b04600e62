//! Everything that was written, indexed by the questions that compilation asks.
//!
//! A [`World`] is immutable. [`World::apply`] makes the next one, which shares all that did not change,
//! and says in [`Dirty`] which [`Fact`]s did. The cost is that of the change, not of the world.

mod address;
mod convert;
pub(crate) mod host;
mod parents;
mod protocol;
mod read;
mod registry;
mod rules;
mod service;

use std::{collections::BTreeMap, sync::Arc};

use heddle_resource::{Key, Kind, Object, Spec};
use imbl::{HashMap, OrdMap};
use rustc_hash::FxHashSet;

pub use host::ExportTo;
pub use parents::ParentId;
pub use protocol::Protocol;
pub use rules::{BackendPolicyEntry, DestinationRuleEntry, GatewayEntry, SidecarEntry, VirtualServiceEntry};
pub use service::{Endpoint, Health, Port, Resolution, Service, ServiceId, Target, Workload};

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
    /// The access log of every proxy. Default none.
    pub access_log: Option<AccessLogConfig>,
}

/// Istio's `accessLogFile`, `accessLogFormat` and `accessLogEncoding`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLogConfig {
    /// Where the proxies write it; `/dev/stdout` is their own output.
    pub file: Arc<str>,
    /// How a line is written.
    pub format: AccessLogFormat,
}

/// How a line of an access log is written, with Envoy's command operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessLogFormat {
    /// A line of text; nothing given: Istio's.
    Text(Option<Arc<str>>),
    /// A JSON object; nothing given: Istio's.
    Json(Option<Arc<serde_json::Map<String, serde_json::Value>>>),
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            gateway_classes: Arc::from(["heddle".into(), "istio".into()]),
            allow_any: true,
            access_log: None,
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
    /// The BackendTLSPolicies for a Service, by namespace and name.
    BackendPolicies(Arc<str>, Arc<str>),
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
