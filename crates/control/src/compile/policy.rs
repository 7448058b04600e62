//! Which DestinationRule applies to a destination, and what it says there.

use std::sync::Arc;

use heddle_resource::{
    Object, ObjectRef,
    istio::{Subset, TrafficPolicy},
};

use super::cx::Cx;
use crate::world::{DestinationRuleEntry, Service, host};

/// The DestinationRules of one host merged into one, as Istio merges: subsets of all, the first traffic
/// policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    policy: Option<(Arc<Object>, TrafficPolicy)>,
    selects: bool,
    pub(super) subsets: Vec<(Arc<Object>, usize, Subset)>,
}

/// The policy in force for one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effective {
    pub(super) policy: TrafficPolicy,
    /// Where each part of it stands, for provenance and refusals: object and path of the policy.
    pub(super) tls: Option<ObjectRef>,
    pub(super) from: Option<ObjectRef>,
    /// The rule selects the workload by its labels.
    pub(super) selects: bool,
}

/// The rule for a service as a scope sees it: its own namespace's, else the service's, else the root
/// namespace's; in each the most specific host.
pub(super) fn rule(cx: &Cx<'_>, service: &Service) -> Option<Rule> {
    let lists: Vec<_> = host::patterns(&service.host).map(|pattern| cx.destination_rules(&pattern)).collect();
    if lists.iter().all(|list| list.is_empty()) {
        return None;
    }
    let client = cx.namespace();
    let root = &cx.config().root_namespace;
    let mut tried: Vec<&Arc<str>> = Vec::new();
    for namespace in [client, &service.namespace, root] {
        if tried.contains(&namespace) {
            continue;
        }
        tried.push(namespace);
        for list in &lists {
            let applicable: Vec<_> =
                list.iter().filter(|entry| applies(cx, entry, namespace, client)).collect();
            if !applicable.is_empty() {
                return Some(merge(applicable));
            }
        }
    }
    None
}

fn applies(cx: &Cx<'_>, entry: &DestinationRuleEntry, namespace: &Arc<str>, client: &Arc<str>) -> bool {
    if entry.object.meta.namespace != *namespace {
        return false;
    }
    if namespace != client && !entry.export_to.visible_to(client) {
        return false;
    }
    match &entry.spec.workload_selector {
        // A selector chooses clients of the rule's own namespace.
        Some(selector) if !selector.is_empty() => namespace == client && cx.has_labels(selector.all()),
        _ => true,
    }
}

fn merge(mut entries: Vec<&Arc<DestinationRuleEntry>>) -> Rule {
    // Rules that select the workload go before those for all.
    entries.sort_by_key(|entry| entry.spec.workload_selector.is_none());
    let mut rule = Rule::default();
    for entry in entries {
        rule.selects |= entry.spec.workload_selector.is_some();
        if rule.policy.is_none() {
            rule.policy =
                entry.spec.traffic_policy.as_ref().map(|policy| (entry.object.clone(), policy.clone()));
        }
        for (n, subset) in entry.spec.subsets.iter().enumerate() {
            if !rule.subsets.iter().any(|(_, _, known)| known.name == subset.name) {
                rule.subsets.push((entry.object.clone(), n, subset.clone()));
            }
        }
    }
    rule
}

impl Rule {
    /// The policy for a port and subset: the destination's, overridden field by field by the subset's,
    /// and by the settings of the port, which inherit nothing (Istio's `MergeTrafficPolicy`).
    pub(super) fn effective(&self, port: u16, subset: Option<&str>) -> Effective {
        let mut effective = Effective { selects: self.selects, ..Effective::default() };
        if let Some((object, policy)) = &self.policy {
            overlay(&mut effective, policy, port, object, "spec.trafficPolicy");
        }
        let subset = subset.and_then(|name| self.subsets.iter().find(|(_, _, subset)| subset.name == name));
        if let Some((object, n, subset)) = subset
            && let Some(policy) = &subset.traffic_policy
        {
            overlay(&mut effective, policy, port, object, &format!("spec.subsets[{n}].trafficPolicy"));
        }
        effective
    }

    /// Whether there is a subset of that name.
    pub(super) fn has_subset(&self, name: &str) -> bool {
        self.subsets.iter().any(|(_, _, subset)| subset.name == name)
    }
}

fn overlay(effective: &mut Effective, over: &TrafficPolicy, port: u16, object: &Object, path: &str) {
    let into = &mut effective.policy;
    if over.connection_pool.is_some() {
        into.connection_pool.clone_from(&over.connection_pool);
    }
    if over.outlier_detection.is_some() {
        into.outlier_detection.clone_from(&over.outlier_detection);
    }
    if over.load_balancer.is_some() {
        into.load_balancer.clone_from(&over.load_balancer);
    }
    if over.retry_budget.is_some() {
        into.retry_budget.clone_from(&over.retry_budget);
    }
    if over.tls.is_some() {
        into.tls.clone_from(&over.tls);
        effective.tls = Some(object.field(format!("{path}.tls")));
    }
    for (n, settings) in over.port_level_settings.iter().enumerate() {
        let number = settings.port.as_ref().map(|port| port.number);
        if number == Some(port) {
            into.connection_pool.clone_from(&settings.connection_pool);
            into.outlier_detection.clone_from(&settings.outlier_detection);
            into.load_balancer.clone_from(&settings.load_balancer);
            into.tls.clone_from(&settings.tls);
            let of = |field: &str| object.field(format!("{path}.portLevelSettings[{n}]{field}"));
            effective.tls = settings.tls.as_ref().map(|_| of(".tls"));
        }
    }
    effective.from = Some(object.field(path));
}
