//! What a world answers.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use heddle_resource::{Key, Kind, Object};
use heddle_xds::NodeInfo;
use imbl::OrdMap;

use super::{
    BackendPolicyEntry, DestinationRuleEntry, Endpoint, GatewayEntry, ParentId, Service, ServiceId,
    SidecarEntry, VirtualServiceEntry, World, registry,
};
use crate::{
    compile::gateway_api::model::Route,
    finding::{Finding, code},
    scope::{Identity, Scope},
};

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

    /// The BackendTLSPolicies for a Service, older first.
    pub fn backend_policies(&self, namespace: &Arc<str>, name: &Arc<str>) -> &[Arc<BackendPolicyEntry>] {
        self.rules.backend_tls.get(&(namespace.clone(), name.clone())).map_or(&[], |entries| entries)
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
