//! Services and their endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heddle_resource::{Key, Object, Spec};
use imbl::{HashMap, OrdMap, OrdSet};

use super::{
    Dirty, Fact, MeshConfig,
    address::Addresses,
    convert::{self, Instance},
    service::{Endpoint, Resolution, Service, ServiceId},
};

/// A label of a namespace: how selectors and workloads find each other.
type LabelKey = (Arc<str>, Arc<str>, Arc<str>);

type Objects = OrdMap<Key, Arc<Object>>;

/// The label that binds a workload to a service by name.
pub(super) const SERVICE_LABEL: &str = "heddle.dev/service";

#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    /// By host; the services of one host in order of precedence.
    pub(super) services: OrdMap<Arc<str>, Arc<[Arc<Service>]>>,
    pub(super) endpoints: HashMap<ServiceId, Arc<[Endpoint]>>,
    pub(super) addresses: Addresses,
    /// Services by (namespace, host).
    by_namespace: OrdMap<(Arc<str>, Arc<str>), Arc<Service>>,
    /// Services by one pair of their selector.
    by_selector: HashMap<LabelKey, OrdSet<ServiceId>>,
    /// What declares each service: several ServiceEntries may share one.
    declared: HashMap<ServiceId, Objects>,
    /// EndpointSlices by (namespace, service name).
    slices: HashMap<(Arc<str>, Arc<str>), Objects>,
    /// WorkloadEntries and Pods.
    instances: HashMap<Key, Arc<Instance>>,
    by_label: HashMap<LabelKey, OrdSet<Key>>,
    /// Endpoint sets to be made again before the change is done.
    unsettled: OrdSet<ServiceId>,
}

impl Registry {
    pub(super) fn replace(
        &mut self,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        config: &MeshConfig,
        dirty: &mut Dirty,
    ) {
        let Some(object) = new.or(old) else { return };
        match &object.spec {
            Spec::Service(_) | Spec::ServiceEntry(_) => self.replace_declaration(old, new, config, dirty),
            Spec::EndpointSlice(_) => {
                for (object, present) in
                    old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true)))
                {
                    self.replace_slice(object, present, config);
                }
            }
            Spec::WorkloadEntry(_) | Spec::Pod(_) => self.replace_instance(object.key(), new, config),
            _ => {}
        }
    }

    fn replace_declaration(
        &mut self,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        config: &MeshConfig,
        dirty: &mut Dirty,
    ) {
        let mut touched = BTreeSet::new();
        for (object, present) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
            for service in convert::services(object, config) {
                let id = service.id();
                let mut declared = self.declared.get(&id).cloned().unwrap_or_default();
                if present {
                    declared.insert(object.key(), object.clone());
                } else {
                    declared.remove(&object.key());
                }
                if declared.is_empty() {
                    self.declared.remove(&id);
                } else {
                    self.declared.insert(id.clone(), declared);
                }
                touched.insert(id);
            }
        }
        for id in touched {
            self.rebuild_service(id, config, dirty);
        }
    }

    /// Makes a service again from what declares it.
    fn rebuild_service(&mut self, id: ServiceId, config: &MeshConfig, dirty: &mut Dirty) {
        let place = (id.namespace.clone(), id.host.clone());
        let old = self.by_namespace.get(&place).cloned();
        let new = self.declared.get(&id).and_then(|declared| {
            let services = declared
                .values()
                .flat_map(|object| convert::services(object, config))
                .filter(|service| service.id() == id);
            convert::merge(services)
        });
        self.unsettled.insert(id.clone());
        if old.as_deref() == new.as_ref() {
            return;
        }
        if let Some(old) = &old {
            self.index_selector(old, false);
        }
        let new = new.map(Arc::new);
        match &new {
            Some(new) => {
                self.index_selector(new, true);
                self.by_namespace.insert(place, new.clone());
            }
            None => {
                self.by_namespace.remove(&place);
            }
        }
        let mut same_host: Vec<_> =
            self.services.get(&id.host).map(|services| services.to_vec()).unwrap_or_default();
        same_host.retain(|service| service.namespace != id.namespace);
        same_host.extend(new.clone());
        same_host.sort_by(|a, b| {
            let rank = |s: &Service| (!s.kubernetes, s.created.clone(), s.namespace.clone(), s.name.clone());
            rank(a).cmp(&rank(b))
        });
        if same_host.is_empty() {
            self.services.remove(&id.host);
        } else {
            self.services.insert(id.host.clone(), same_host.into());
        }
        let needs_address =
            new.as_ref().is_some_and(|service| service.addresses.is_empty() && !service.headless);
        self.addresses.set(&id, needs_address, dirty);
        dirty.mark(Fact::Services);
        dirty.mark(Fact::ServicesIn(id.namespace.clone()));
        dirty.mark(Fact::Host(id.host));
    }

    fn index_selector(&mut self, service: &Service, present: bool) {
        let Some((key, value)) = service.selector.iter().next() else { return };
        let place: LabelKey = (service.namespace.clone(), key.as_str().into(), value.as_str().into());
        let mut ids = self.by_selector.get(&place).cloned().unwrap_or_default();
        if present {
            ids.insert(service.id());
        } else {
            ids.remove(&service.id());
        }
        if ids.is_empty() {
            self.by_selector.remove(&place);
        } else {
            self.by_selector.insert(place, ids);
        }
    }

    fn replace_slice(&mut self, object: &Arc<Object>, present: bool, config: &MeshConfig) {
        let Some(name) = object.meta.labels.get("kubernetes.io/service-name") else { return };
        let place = (object.meta.namespace.clone(), Arc::from(name.as_str()));
        let mut slices = self.slices.get(&place).cloned().unwrap_or_default();
        if present {
            slices.insert(object.key(), object.clone());
        } else {
            slices.remove(&object.key());
        }
        if slices.is_empty() {
            self.slices.remove(&place);
        } else {
            self.slices.insert(place, slices);
        }
        self.unsettled.insert(ServiceId {
            host: super::host::resolve(name, &object.meta.namespace, &config.cluster_domain),
            namespace: object.meta.namespace.clone(),
        });
    }

    fn replace_instance(&mut self, key: Key, new: Option<&Arc<Object>>, config: &MeshConfig) {
        if let Some(old) = self.instances.get(&key).cloned() {
            self.index_labels(&key, &old, false, config);
            self.instances.remove(&key);
        }
        if let Some(new) = new.and_then(|object| convert::instance(object)).map(Arc::new) {
            self.index_labels(&key, &new, true, config);
            self.instances.insert(key, new);
        }
    }

    fn index_labels(&mut self, key: &Key, instance: &Instance, present: bool, config: &MeshConfig) {
        for (label, value) in instance.labels.iter() {
            let place: LabelKey = (key.namespace.clone(), label.as_str().into(), value.as_str().into());
            let mut keys = self.by_label.get(&place).cloned().unwrap_or_default();
            if present {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
            for id in self.by_selector.get(&place).into_iter().flatten() {
                self.unsettled.insert(id.clone());
            }
            if keys.is_empty() {
                self.by_label.remove(&place);
            } else {
                self.by_label.insert(place, keys);
            }
        }
        if let Some(service) = instance.labels.get(SERVICE_LABEL) {
            self.unsettled.insert(ServiceId {
                host: super::host::resolve(service, &key.namespace, &config.cluster_domain),
                namespace: key.namespace.clone(),
            });
        }
    }

    /// Makes the endpoint sets again that a change concerned.
    pub(super) fn settle(&mut self, dirty: &mut Dirty) {
        for id in std::mem::take(&mut self.unsettled) {
            let service = self.by_namespace.get(&(id.namespace.clone(), id.host.clone())).cloned();
            let new: Option<Arc<[Endpoint]>> = service.map(|service| self.collect(&service).into());
            let old = self.endpoints.get(&id);
            if old == new.as_ref() {
                continue;
            }
            match new {
                Some(new) => self.endpoints.insert(id.clone(), new),
                None => self.endpoints.remove(&id),
            };
            dirty.mark(Fact::Endpoints(id));
        }
    }

    fn collect(&self, service: &Service) -> Vec<Endpoint> {
        let mut found = Vec::new();
        let id = service.id();
        for object in self.declared.get(&id).into_iter().flat_map(|declared| declared.values()) {
            found.extend(convert::declared_endpoints(object, service));
        }
        let mut from_slices = false;
        if service.kubernetes {
            let place = (service.namespace.clone(), service.name.clone());
            for slice in self.slices.get(&place).into_iter().flat_map(|slices| slices.values()) {
                from_slices = true;
                let labels = |pod: &str| self.workload_labels(&service.namespace, pod);
                found.extend(convert::slice_endpoints(slice, service, labels));
            }
        }
        let keys = self.selected(service);
        let instances = keys.iter().filter_map(|key| self.instances.get(key));
        // Pods stand behind the slices that a cluster keeps for them.
        let instances = instances.filter(|instance| !(from_slices && instance.pod));
        found.extend(instances.filter_map(|instance| convert::instance_endpoint(instance, service)));
        if service.resolution == Resolution::Original {
            found.clear();
        }
        found.sort_by(|a, b| (&a.address, &a.ports).cmp(&(&b.address, &b.ports)));
        found.dedup_by(|a, b| a.address == b.address && a.ports == b.ports);
        found
    }

    /// The instances of a service: those that its selector matches and those that name it.
    fn selected(&self, service: &Service) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let namespace = &service.namespace;
        if let Some((key, value)) = service.selector.iter().next() {
            let place: LabelKey = (namespace.clone(), key.as_str().into(), value.as_str().into());
            for key in self.by_label.get(&place).into_iter().flatten() {
                let matches = self.instances.get(key).is_some_and(|instance| {
                    service.selector.iter().all(|(key, value)| instance.labels.get(key) == Some(value))
                });
                if matches {
                    keys.insert(key.clone());
                }
            }
        }
        if service.kubernetes {
            let place: LabelKey = (namespace.clone(), SERVICE_LABEL.into(), service.name.clone());
            keys.extend(self.by_label.get(&place).into_iter().flatten().cloned());
        }
        keys
    }

    pub(super) fn services_in<'r>(
        &'r self,
        namespace: &str,
    ) -> impl Iterator<Item = &'r Arc<Service>> + use<'r> {
        let namespace: Arc<str> = namespace.into();
        self.by_namespace
            .range((namespace.clone(), Arc::from(""))..)
            .take_while(move |((of, _), _)| *of == namespace)
            .map(|(_, service)| service)
    }

    pub(super) fn workload_labels(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<BTreeMap<String, String>>> {
        let kinds = [&heddle_resource::kind::WORKLOAD_ENTRY, &heddle_resource::kind::POD];
        kinds.into_iter().find_map(|kind| {
            let key = Key::new(kind, namespace, name);
            Some(self.instances.get(&key)?.labels.clone())
        })
    }
}
