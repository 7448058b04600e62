//! Routing rules, by what they are looked up by.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use heddle_resource::{
    Object, Spec,
    gateway::BackendTlsPolicy,
    istio::{DestinationRule, Gateway, Sidecar, VirtualService},
};
use imbl::{HashMap, OrdMap};

use super::{
    Dirty, Fact, MeshConfig,
    host::{ExportTo, resolve},
};

/// A VirtualService with its names resolved.
#[derive(Debug)]
pub struct VirtualServiceEntry {
    pub object: Arc<Object>,
    pub spec: Arc<VirtualService>,
    /// Full names and patterns.
    pub hosts: Vec<Arc<str>>,
    /// `mesh` and `NAMESPACE/NAME`.
    pub gateways: Vec<Arc<str>>,
    pub export_to: ExportTo,
}

/// A DestinationRule with its host resolved.
#[derive(Debug)]
pub struct DestinationRuleEntry {
    pub object: Arc<Object>,
    pub spec: Arc<DestinationRule>,
    pub host: Arc<str>,
    pub export_to: ExportTo,
}

#[derive(Debug)]
pub struct SidecarEntry {
    pub object: Arc<Object>,
    pub spec: Arc<Sidecar>,
}

#[derive(Debug)]
pub struct GatewayEntry {
    pub object: Arc<Object>,
    pub spec: Arc<Gateway>,
}

impl GatewayEntry {
    /// `NAMESPACE/NAME`, as VirtualServices bind to it.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.object.meta.namespace, self.object.meta.name)
    }
}

/// A BackendTLSPolicy.
#[derive(Debug)]
pub struct BackendPolicyEntry {
    pub object: Arc<Object>,
    pub spec: Arc<BackendTlsPolicy>,
}

/// What rule indexes hold.
trait Entry {
    fn object(&self) -> &Arc<Object>;
}

macro_rules! entries {
    ($($entry:ident),*) => { $(impl Entry for $entry {
        fn object(&self) -> &Arc<Object> {
            &self.object
        }
    })* };
}
entries!(VirtualServiceEntry, DestinationRuleEntry, SidecarEntry, GatewayEntry, BackendPolicyEntry);

/// The older object first, then by namespace and name.
pub(super) fn older(a: &Object, b: &Object) -> Ordering {
    let rank = |object: &Object| {
        (object.meta.creation_timestamp.clone(), object.meta.namespace.clone(), object.meta.name.clone())
    };
    rank(a).cmp(&rank(b))
}

type List<T> = Arc<[Arc<T>]>;

#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) mesh: OrdMap<Arc<str>, List<VirtualServiceEntry>>,
    pub(super) by_gateway: HashMap<Arc<str>, List<VirtualServiceEntry>>,
    pub(super) destination: HashMap<Arc<str>, List<DestinationRuleEntry>>,
    pub(super) sidecars: HashMap<Arc<str>, List<SidecarEntry>>,
    pub(super) gateways: Arc<Vec<Arc<GatewayEntry>>>,
    /// By namespace and name of the Service.
    pub(super) backend_tls: HashMap<(Arc<str>, Arc<str>), List<BackendPolicyEntry>>,
}

impl Rules {
    pub(super) fn replace(
        &mut self,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        config: &MeshConfig,
        dirty: &mut Dirty,
    ) {
        if let Some(old) = old {
            self.remove(old, config, dirty);
        }
        if let Some(new) = new {
            self.insert(new, config, dirty);
        }
    }

    fn insert(&mut self, object: &Arc<Object>, config: &MeshConfig, dirty: &mut Dirty) {
        match &object.spec {
            Spec::VirtualService(spec) => {
                let entry = Arc::new(virtual_service(object, spec, config));
                for (gateway, host) in bindings(&entry) {
                    if gateway == "mesh" {
                        if !self.mesh.contains_key(&host) {
                            dirty.mark(Fact::MeshHosts);
                        }
                        let list = with(self.mesh.get(&host), &entry);
                        self.mesh.insert(host.clone(), list);
                        dirty.mark(Fact::MeshRoutes(host));
                    } else {
                        let gateway: Arc<str> = gateway.into();
                        let list = with(self.by_gateway.get(&gateway), &entry);
                        self.by_gateway.insert(gateway.clone(), list);
                        dirty.mark(Fact::GatewayRoutes(gateway));
                    }
                }
            }
            Spec::DestinationRule(spec) => {
                let host = resolve(&spec.host, &object.meta.namespace, &config.cluster_domain);
                let export_to = ExportTo::parse(spec.export_to.iter().map(|e| &**e), &object.meta.namespace);
                let entry = Arc::new(DestinationRuleEntry {
                    object: object.clone(),
                    spec: spec.clone(),
                    host: host.clone(),
                    export_to,
                });
                let list = with(self.destination.get(&host), &entry);
                self.destination.insert(host.clone(), list);
                dirty.mark(Fact::DestinationRules(host));
            }
            Spec::Sidecar(spec) => {
                let namespace = object.meta.namespace.clone();
                let entry = Arc::new(SidecarEntry { object: object.clone(), spec: spec.clone() });
                let list = with(self.sidecars.get(&namespace), &entry);
                self.sidecars.insert(namespace.clone(), list);
                dirty.mark(Fact::Sidecars(namespace));
            }
            Spec::IstioGateway(spec) => {
                let entry = Arc::new(GatewayEntry { object: object.clone(), spec: spec.clone() });
                let gateways = Arc::make_mut(&mut self.gateways);
                gateways.push(entry);
                gateways.sort_by(|a, b| older(&a.object, &b.object));
                dirty.mark(Fact::Gateways);
            }
            Spec::BackendTlsPolicy(spec) => {
                let entry = Arc::new(BackendPolicyEntry { object: object.clone(), spec: spec.clone() });
                for target in targets(object, spec) {
                    let list = with(self.backend_tls.get(&target), &entry);
                    self.backend_tls.insert(target.clone(), list);
                    dirty.mark(Fact::BackendPolicies(target.0, target.1));
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, object: &Arc<Object>, config: &MeshConfig, dirty: &mut Dirty) {
        match &object.spec {
            Spec::VirtualService(spec) => {
                for (gateway, host) in bindings(&virtual_service(object, spec, config)) {
                    if gateway == "mesh" {
                        match without(self.mesh.get(&host), object) {
                            Some(list) => self.mesh.insert(host.clone(), list),
                            None => {
                                dirty.mark(Fact::MeshHosts);
                                self.mesh.remove(&host)
                            }
                        };
                        dirty.mark(Fact::MeshRoutes(host));
                    } else {
                        let gateway: Arc<str> = gateway.into();
                        match without(self.by_gateway.get(&gateway), object) {
                            Some(list) => self.by_gateway.insert(gateway.clone(), list),
                            None => self.by_gateway.remove(&gateway),
                        };
                        dirty.mark(Fact::GatewayRoutes(gateway));
                    }
                }
            }
            Spec::DestinationRule(spec) => {
                let host = resolve(&spec.host, &object.meta.namespace, &config.cluster_domain);
                match without(self.destination.get(&host), object) {
                    Some(list) => self.destination.insert(host.clone(), list),
                    None => self.destination.remove(&host),
                };
                dirty.mark(Fact::DestinationRules(host));
            }
            Spec::Sidecar(_) => {
                let namespace = object.meta.namespace.clone();
                match without(self.sidecars.get(&namespace), object) {
                    Some(list) => self.sidecars.insert(namespace.clone(), list),
                    None => self.sidecars.remove(&namespace),
                };
                dirty.mark(Fact::Sidecars(namespace));
            }
            Spec::IstioGateway(_) => {
                Arc::make_mut(&mut self.gateways).retain(|entry| entry.object.key() != object.key());
                dirty.mark(Fact::Gateways);
            }
            Spec::BackendTlsPolicy(spec) => {
                for target in targets(object, spec) {
                    match without(self.backend_tls.get(&target), object) {
                        Some(list) => self.backend_tls.insert(target.clone(), list),
                        None => self.backend_tls.remove(&target),
                    };
                    dirty.mark(Fact::BackendPolicies(target.0, target.1));
                }
            }
            _ => {}
        }
    }
}

/// The Services that a policy is for, each once.
fn targets(object: &Object, policy: &BackendTlsPolicy) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let of_services = policy.spec.target_refs.iter().filter(|to| to.group.is_empty() && to.kind == "Service");
    of_services.map(|to| (object.meta.namespace.clone(), to.name.as_str().into())).collect()
}

/// Where a VirtualService is looked up: each pair of gateway and host once; gateways other than `mesh`
/// once in all.
fn bindings(entry: &VirtualServiceEntry) -> Vec<(String, Arc<str>)> {
    let mut found = Vec::new();
    for gateway in &entry.gateways {
        if &**gateway == "mesh" {
            found.extend(entry.hosts.iter().map(|host| (gateway.to_string(), host.clone())));
        } else if let Some(host) = entry.hosts.first() {
            found.push((gateway.to_string(), host.clone()));
        }
    }
    found
}

fn virtual_service(
    object: &Arc<Object>,
    spec: &Arc<VirtualService>,
    config: &MeshConfig,
) -> VirtualServiceEntry {
    let namespace = &object.meta.namespace;
    let mut hosts: Vec<_> =
        spec.hosts.iter().map(|host| resolve(host, namespace, &config.cluster_domain)).collect();
    let mut seen = BTreeSet::new();
    hosts.retain(|host| seen.insert(host.clone()));
    let mut gateways: Vec<Arc<str>> =
        spec.gateways.iter().map(|gateway| gateway_reference(gateway, namespace)).collect();
    if gateways.is_empty() {
        gateways.push("mesh".into());
    }
    let mut seen = BTreeSet::new();
    gateways.retain(|gateway| seen.insert(gateway.clone()));
    let export_to = ExportTo::parse(spec.export_to.iter().map(|e| &**e), namespace);
    VirtualServiceEntry { object: object.clone(), spec: spec.clone(), hosts, gateways, export_to }
}

/// `mesh`, or a Gateway's `NAMESPACE/NAME`. The old form `NAME.NAMESPACE.svc.DOMAIN` is understood.
pub(crate) fn gateway_reference(gateway: &str, namespace: &str) -> Arc<str> {
    if gateway == "mesh" || gateway.contains('/') {
        return match gateway.strip_prefix("./") {
            Some(name) => format!("{namespace}/{name}").into(),
            None => gateway.into(),
        };
    }
    match gateway.split_once('.') {
        Some((name, rest)) => {
            let of = rest.split('.').next().unwrap_or(rest);
            format!("{of}/{name}").into()
        }
        None => format!("{namespace}/{gateway}").into(),
    }
}

fn with<T: Entry>(list: Option<&List<T>>, entry: &Arc<T>) -> List<T> {
    let mut entries: Vec<_> = list.map(|list| list.to_vec()).unwrap_or_default();
    entries.push(entry.clone());
    entries.sort_by(|a, b| older(a.object(), b.object()));
    entries.into()
}

fn without<T: Entry>(list: Option<&List<T>>, object: &Object) -> Option<List<T>> {
    let key = object.key();
    let entries: Vec<_> =
        list.into_iter().flat_map(|list| list.iter()).filter(|e| e.object().key() != key).cloned().collect();
    (!entries.is_empty()).then(|| entries.into())
}

/// The label keys that an object's selectors read of workloads.
pub(super) fn label_keys(object: &Object) -> BTreeSet<Arc<str>> {
    let mut keys = BTreeSet::new();
    match &object.spec {
        Spec::VirtualService(spec) => {
            let http = spec.http.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
            let tcp = spec.tcp.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
            let tls = spec.tls.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
            for labels in http.chain(tcp).chain(tls) {
                keys.extend(labels.keys().map(|key| Arc::from(key.as_str())));
            }
        }
        Spec::DestinationRule(spec) => {
            if let Some(selector) = &spec.workload_selector {
                keys.extend(selector.all().map(|(key, _)| Arc::from(key.as_str())));
            }
        }
        Spec::Sidecar(spec) => {
            if let Some(selector) = &spec.workload_selector {
                keys.extend(selector.all().map(|(key, _)| Arc::from(key.as_str())));
            }
        }
        Spec::IstioGateway(spec) => keys.extend(spec.selector.keys().map(|key| Arc::from(key.as_str()))),
        Spec::ServiceEntry(spec) => {
            if let Some(selector) = &spec.workload_selector {
                keys.extend(selector.all().map(|(key, _)| Arc::from(key.as_str())));
            }
        }
        Spec::Service(spec) => keys.extend(spec.spec.selector.keys().map(|key| Arc::from(key.as_str()))),
        _ => {}
    }
    keys
}
