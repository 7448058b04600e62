//! The only way in which compilation reads: everything that is read is recorded.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use heddle_resource::{Key, Kind, Object, ObjectRef};
use heddle_xds::{ClientKind, Encoded, ResourceType};
use prost::Message;
use rustc_hash::FxHashSet;

use super::{
    cache::{Cache, VariantId},
    canonical,
    gateway_api::model::Route,
    unit::{Unit, Value},
    visible::{Policy, Visible},
};
use crate::{
    finding::Finding,
    scope::{Attribute, Scope},
    world::{
        BackendPolicyEntry, DestinationRuleEntry, Endpoint, Fact, GatewayEntry, MeshConfig, ParentId,
        Service, ServiceId, SidecarEntry, VirtualServiceEntry, World,
    },
};

/// What a compilation has read.
#[derive(Default, Debug)]
pub(crate) struct Reads {
    pub(crate) facts: FxHashSet<Fact>,
    pub(crate) attributes: BTreeSet<Attribute>,
    pub(crate) inputs: FxHashSet<VariantId>,
}

/// The world, the scope and other units, read by name.
pub(crate) struct Cx<'a> {
    cache: &'a Cache,
    world: &'a World,
    scope: &'a Scope,
    reads: RefCell<Reads>,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(cache: &'a Cache, world: &'a World, scope: &'a Scope) -> Self {
        Self { cache, world, scope, reads: RefCell::default(), findings: RefCell::default() }
    }

    pub(super) fn finish(self) -> (Reads, Vec<Finding>) {
        (self.reads.into_inner(), self.findings.into_inner())
    }

    fn read(&self, fact: Fact) -> &'a World {
        self.reads.borrow_mut().facts.insert(fact);
        self.world
    }

    fn attribute(&self, attribute: Attribute) -> &'a Scope {
        self.reads.borrow_mut().attributes.insert(attribute);
        self.scope
    }

    /// Another unit's value.
    pub(crate) fn unit(&self, unit: &Unit) -> Value {
        let found = self.cache.demand(self.world, self.scope, unit);
        let mut reads = self.reads.borrow_mut();
        reads.inputs.insert(found.id);
        reads.attributes.extend(found.attributes.iter().cloned());
        self.findings.borrow_mut().extend(found.output.findings.iter().cloned());
        found.output.value
    }

    /// Says something about the configuration to its author.
    pub(crate) fn report(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// Encodes a resource, counting it.
    pub(crate) fn encode(&self, kind: ResourceType, name: &str, message: &impl Message) -> Arc<Encoded> {
        self.encoded(kind, name, message.encode_to_vec())
    }

    /// Takes up a resource that is encoded already, counting it.
    pub(crate) fn encoded(&self, kind: ResourceType, name: &str, bytes: Vec<u8>) -> Arc<Encoded> {
        self.cache.counters.encoded(kind);
        Encoded::from_bytes(kind, name, bytes.into())
    }

    /// Where a value comes from, for clients that can read it.
    pub(crate) fn provenance(&self, of: &ObjectRef) -> Option<Vec<u8>> {
        (self.client() == ClientKind::Heddle).then(|| canonical::provenance(of))
    }
}

/// The scope.
impl<'a> Cx<'a> {
    pub(crate) fn client(&self) -> ClientKind {
        self.attribute(Attribute::Client).client
    }

    pub(crate) fn role(&self) -> crate::scope::Role {
        self.attribute(Attribute::Role).role
    }

    pub(crate) fn namespace(&self) -> &'a Arc<str> {
        &self.attribute(Attribute::Namespace).namespace
    }

    pub(crate) fn label(&self, key: &str) -> Option<&'a str> {
        self.attribute(Attribute::Label(key.into())).label(key).map(|value| &**value)
    }

    /// Whether the scope's workload has all of these labels.
    pub(crate) fn has_labels<'l>(&self, labels: impl IntoIterator<Item = (&'l String, &'l String)>) -> bool {
        labels.into_iter().all(|(key, value)| self.label(key) == Some(value.as_str()))
    }

    pub(crate) fn scope_outbound(&self) -> &'a Scope {
        self.attribute(Attribute::Outbound)
    }

    pub(crate) fn scope_inbound(&self) -> &'a [crate::scope::Inbound] {
        &self.attribute(Attribute::Inbound).inbound
    }

    pub(crate) fn scope_gateway(&self) -> Option<&'a crate::scope::GatewayRef> {
        self.attribute(Attribute::Gateway).gateway.as_ref()
    }

    /// The address that a gateway binds.
    pub(crate) fn bind(&self) -> std::net::IpAddr {
        let any = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        self.attribute(Attribute::Bind).bind.unwrap_or(any)
    }

    pub(crate) fn interception(&self) -> crate::scope::Interception {
        self.attribute(Attribute::Interception).interception
    }

    /// A resource's name in this scope: as it is, or marked where a proxy carries several scopes.
    pub(crate) fn name(&self, name: impl Into<String>) -> String {
        let mut name = name.into();
        if let Some(suffix) = &self.attribute(Attribute::Suffix).suffix {
            name.push('~');
            name.push_str(suffix);
        }
        name
    }

    /// Every label of the scope, for selectors that run the other way round (services that select it).
    pub(crate) fn selected_by(&self, selector: &std::collections::BTreeMap<String, String>) -> bool {
        !selector.is_empty() && self.has_labels(selector)
    }
}

/// The world.
impl<'a> Cx<'a> {
    /// Never changes while a world lives.
    pub(crate) fn config(&self) -> &'a MeshConfig {
        &self.world.config
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &'a Arc<Service>> + use<'a> {
        self.read(Fact::Services).services()
    }

    pub(crate) fn services_of(&self, host: &str) -> &'a [Arc<Service>] {
        self.read(Fact::Host(host.into())).services_of(host)
    }

    /// One service; visibility does not count.
    pub(crate) fn service(&self, id: &ServiceId) -> Option<&'a Arc<Service>> {
        self.services_of(&id.host).iter().find(|service| service.namespace == id.namespace)
    }

    pub(crate) fn services_in(&self, namespace: &str) -> Vec<&'a Arc<Service>> {
        self.read(Fact::ServicesIn(namespace.into())).services_in(namespace).collect()
    }

    pub(crate) fn endpoints(&self, service: &ServiceId) -> Arc<[Endpoint]> {
        self.read(Fact::Endpoints(service.clone())).endpoints(service)
    }

    /// The addresses of a service: its own, else those that stand for it.
    pub(crate) fn addresses(&self, service: &Service) -> Vec<std::net::IpAddr> {
        if !service.addresses.is_empty() {
            return service.addresses.clone();
        }
        let id = service.id();
        match self.read(Fact::Address(id.clone())).address(&id) {
            Some((v4, v6)) => vec![v4, v6],
            None => Vec::new(),
        }
    }

    pub(crate) fn mesh_hosts(&self) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        self.read(Fact::MeshHosts).mesh_hosts()
    }

    pub(crate) fn mesh_routes(&self, pattern: &str) -> &'a [Arc<VirtualServiceEntry>] {
        self.read(Fact::MeshRoutes(pattern.into())).mesh_routes(pattern)
    }

    pub(crate) fn gateway_routes(&self, gateway: &str) -> &'a [Arc<VirtualServiceEntry>] {
        self.read(Fact::GatewayRoutes(gateway.into())).gateway_routes(gateway)
    }

    pub(crate) fn destination_rules(&self, pattern: &str) -> &'a [Arc<DestinationRuleEntry>] {
        self.read(Fact::DestinationRules(pattern.into())).destination_rules(pattern)
    }

    pub(crate) fn sidecars(&self, namespace: &str) -> &'a [Arc<SidecarEntry>] {
        self.read(Fact::Sidecars(namespace.into())).sidecars(namespace)
    }

    pub(crate) fn gateways(&self) -> &'a [Arc<GatewayEntry>] {
        self.read(Fact::Gateways).gateways()
    }

    pub(crate) fn backend_policies(&self, service: &Service) -> &'a [Arc<BackendPolicyEntry>] {
        let (namespace, name) = (&service.namespace, &service.name);
        self.read(Fact::BackendPolicies(namespace.clone(), name.clone())).backend_policies(namespace, name)
    }

    pub(crate) fn routes_of(&self, parent: &ParentId) -> &'a [Arc<Route>] {
        self.read(Fact::RoutesOf(parent.clone())).routes_of(parent)
    }

    pub(crate) fn object(&self, key: &Key) -> Option<&'a Arc<Object>> {
        self.read(Fact::Object(key.clone())).object(key)
    }

    pub(crate) fn objects(&self, kind: &'static Kind) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.read(Fact::Kind(kind)).objects(kind)
    }

    /// What the scope's `Sidecar` says.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        match self.unit(&Unit::Policy) {
            Value::Policy(policy) => policy,
            _ => Arc::default(),
        }
    }

    /// The service of a host as this scope sees it: of its own namespace first, else the first that is
    /// exported to it.
    pub(crate) fn seen(&self, host: &str) -> Option<&'a Arc<Service>> {
        let services = self.services_of(host);
        if services.is_empty() {
            return None;
        }
        let namespace = self.namespace();
        let mut seen = services.iter().filter(|service| service.export_to.visible_to(namespace));
        let first = seen.next()?;
        if first.namespace == *namespace {
            return Some(first);
        }
        Some(seen.find(|service| service.namespace == *namespace).unwrap_or(first))
    }

    /// What this scope sees.
    pub(crate) fn visible(&self) -> Arc<Visible> {
        match self.unit(&Unit::Visible) {
            Value::Visible(visible) => visible,
            _ => Arc::default(),
        }
    }
}
