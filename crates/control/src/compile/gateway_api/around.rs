//! What judging routes reads, taken from the world: recorded while compiling, plainly for statuses.

use std::{collections::BTreeMap, sync::Arc};

use heddle_resource::{Key, Kind, Object, Spec, kind};

use super::{
    backend::{Destination, ServiceFacts, Surroundings},
    model::{ParentRef, Reference, Route},
    read,
};
use crate::{
    compile::{
        cluster::outbound_name,
        cx::Cx,
        rds, route,
        tls::{self, Credential},
    },
    world::{ParentId, Service, World},
};

/// Reads of the world.
pub(crate) trait Facts {
    fn object(&self, key: &Key) -> Option<&Arc<Object>>;
    fn of_kind(&self, kind: &'static Kind) -> Vec<&Arc<Object>>;
    fn services_of(&self, host: &str) -> &[Arc<Service>];
    /// In order of seniority.
    fn routes_of(&self, parent: &ParentId) -> &[Arc<Route>];
    fn cluster_domain(&self) -> &str;
    /// See [`Surroundings::cluster`].
    fn cluster(&self, to: &Destination) -> Result<String, String>;
    /// See [`Surroundings::usable`].
    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>>;
}

impl Facts for Cx<'_> {
    fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        Cx::object(self, key)
    }

    fn of_kind(&self, kind: &'static Kind) -> Vec<&Arc<Object>> {
        self.objects(kind).collect()
    }

    fn services_of(&self, host: &str) -> &[Arc<Service>] {
        Cx::services_of(self, host)
    }

    fn routes_of(&self, parent: &ParentId) -> &[Arc<Route>] {
        Cx::routes_of(self, parent)
    }

    fn cluster_domain(&self) -> &str {
        &self.config().cluster_domain
    }

    fn cluster(&self, to: &Destination) -> Result<String, String> {
        match Cx::services_of(self, &to.host).first() {
            Some(service) => match route::denied_at(self, service, to.port, "") {
                Some(denied) => Err(denied.to_string()),
                None => Ok(rds::service_cluster(self, service, to.port)),
            },
            None => Ok(self.name(outbound_name(to.port, "", &to.host))),
        }
    }

    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>> {
        tls::usable(self, credential)
    }
}

impl Facts for World {
    fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        World::object(self, key)
    }

    fn of_kind(&self, kind: &'static Kind) -> Vec<&Arc<Object>> {
        self.objects(kind).collect()
    }

    fn services_of(&self, host: &str) -> &[Arc<Service>] {
        World::services_of(self, host)
    }

    fn routes_of(&self, parent: &ParentId) -> &[Arc<Route>] {
        World::routes_of(self, parent)
    }

    fn cluster_domain(&self) -> &str {
        &self.config.cluster_domain
    }

    fn cluster(&self, to: &Destination) -> Result<String, String> {
        Ok(outbound_name(to.port, "", &to.host))
    }

    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>> {
        credential.fault(&|key| World::object(self, key)).map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// [`Surroundings`] over the world.
pub(crate) struct Around<'a, F> {
    facts: &'a F,
    /// References across namespaces need a ReferenceGrant. Not in the mesh: there a client may send to
    /// any service anyway, and the specification's own consumer routes refer to them without a grant.
    granted_only: bool,
}

impl<'a, F: Facts> Around<'a, F> {
    pub(crate) fn new(facts: &'a F) -> Self {
        Self { facts, granted_only: true }
    }

    /// For routes whose parent is a service.
    pub(crate) fn of_mesh(facts: &'a F) -> Self {
        Self { facts, granted_only: false }
    }

    fn facts_of(&self, service: &Service) -> ServiceFacts {
        let object = self.facts.object(&service.object);
        let app_protocol = |number: u16| match object.map(|object| &object.spec) {
            Some(Spec::Service(spec)) => spec
                .spec
                .ports
                .iter()
                .find(|port| port.port == number)
                .and_then(|port| port.app_protocol.clone()),
            _ => None,
        };
        ServiceFacts {
            host: service.host.clone(),
            ports: service.tcp_ports().map(|port| (port.number, app_protocol(port.number))).collect(),
        }
    }

    /// What a route's reference to a service of the mesh leads to.
    pub(crate) fn parent(&self, route: &Route, parent: &ParentRef) -> Option<Arc<ServiceFacts>> {
        let namespace = parent.namespace(route);
        if parent.is_service() {
            return self.service(namespace, &parent.name);
        }
        let entry = self.facts.object(&Key::new(&kind::SERVICE_ENTRY, namespace, &*parent.name))?;
        let Spec::ServiceEntry(spec) = &entry.spec else { return None };
        let host = spec.hosts.first()?;
        let found = self.facts.services_of(host).iter().find(|service| *service.namespace == *namespace)?;
        Some(Arc::new(self.facts_of(found)))
    }
}

impl<F: Facts> Surroundings for Around<'_, F> {
    fn namespace_labels(&self, namespace: &str) -> Option<Arc<BTreeMap<String, String>>> {
        let object = self.facts.object(&Key::new(&kind::NAMESPACE, "", namespace));
        let mut labels = object.map(|object| object.meta.labels.clone()).unwrap_or_default();
        // Namespaces come into being on first use, with the label that Kubernetes gives them.
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| namespace.to_owned());
        Some(Arc::new(labels))
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        let host = format!("{name}.{namespace}.svc.{}", self.facts.cluster_domain());
        let services = self.facts.services_of(&host);
        let found = services.iter().find(|service| service.kubernetes && *service.namespace == *namespace)?;
        Some(Arc::new(self.facts_of(found)))
    }

    fn host(&self, namespace: &str, host: &str) -> Option<Arc<ServiceFacts>> {
        let services = self.facts.services_of(host);
        let found = services.iter().find(|service| service.export_to.visible_to(namespace))?;
        Some(Arc::new(self.facts_of(found)))
    }

    fn permits(&self, group: &str, kind: &str, namespace: &str, to: &Reference) -> bool {
        if !self.granted_only {
            return true;
        }
        let grants = self.facts.of_kind(&kind::REFERENCE_GRANT);
        grants
            .into_iter()
            .filter(|grant| *grant.meta.namespace == *to.namespace)
            .filter_map(|grant| read::grant(grant))
            .any(|grant| grant.permits(group, kind, namespace, to))
    }

    fn cluster(&self, to: &Destination) -> Result<String, String> {
        self.facts.cluster(to)
    }

    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>> {
        self.facts.usable(credential)
    }
}
