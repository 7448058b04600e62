//! The statuses that are true now, of every object that has one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use heddle_resource::{Key, Kind, Object, Spec, kind};
use serde_json::{Value, json};

use super::{
    CONTROLLER, Condition,
    gateway_api::{self, Deployed},
};
use crate::{
    compile::{
        gateway_api::{
            around::Around,
            attachment::{self, Attachment, ParentOutcome},
            backend::Surroundings,
            backend_tls, mesh,
            model::Route,
            read,
        },
        tls::Credential,
    },
    finding::{Finding, code},
    push::{Convergence, NodeStatus},
    scope::GatewayFamily,
    world::{BackendPolicyEntry, ParentId, World},
};

/// What a report is made of.
pub(crate) struct Report<'a> {
    pub(crate) world: &'a World,
    pub(crate) nodes: &'a [NodeStatus],
    pub(crate) findings: &'a [Finding],
    /// How far the last change of each object has come.
    pub(crate) convergence: &'a HashMap<Key, Convergence>,
}

/// Kinds of Istio's whose objects are told what became of them.
pub(crate) const ISTIO_KINDS: [&Kind; 5] = [
    &kind::VIRTUAL_SERVICE,
    &kind::DESTINATION_RULE,
    &kind::SERVICE_ENTRY,
    &kind::ISTIO_GATEWAY,
    &kind::SIDECAR,
];

/// How much of what is wrong with an object its status says.
const SAID: usize = 5;

const ROUTE_KINDS: [&Kind; 4] = [&kind::HTTP_ROUTE, &kind::GRPC_ROUTE, &kind::TCP_ROUTE, &kind::TLS_ROUTE];

impl Report<'_> {
    /// The status of every object that is told one.
    pub(crate) fn statuses(&self) -> BTreeMap<Key, Value> {
        let mut all = BTreeMap::new();
        self.classes(&mut all);
        let attachments = self.gateways(&mut all);
        self.routes(&attachments, &mut all);
        self.backend_policies(&attachments, &mut all);
        for kind in ISTIO_KINDS {
            for object in self.world.objects(kind) {
                all.insert(object.key(), self.istio(object));
            }
        }
        all
    }

    fn is_ours(&self, class: &str) -> bool {
        self.world.config.gateway_classes.iter().any(|ours| **ours == *class)
    }

    fn classes(&self, all: &mut BTreeMap<Key, Value>) {
        for object in self.world.objects(&kind::GATEWAY_CLASS) {
            let Spec::GatewayClass(class) = &object.spec else { continue };
            if class.spec.controller_name == CONTROLLER || self.is_ours(&object.meta.name) {
                let parameters = class.spec.parameters_ref.as_ref().map(|parameters| {
                    let field = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
                    format!("{} {}", field("kind"), field("name"))
                });
                let status = gateway_api::gateway_class(object.meta.generation, parameters.as_deref());
                all.insert(object.key(), status);
            }
        }
    }

    fn gateways(&self, all: &mut BTreeMap<Key, Value>) -> Vec<Attachment> {
        let mut attachments = Vec::new();
        let gateways =
            self.world.objects(&kind::GATEWAY).filter_map(|object| Some((object, read::gateway(object)?)));
        for (object, gateway) in gateways.filter(|(_, gateway)| self.is_ours(&gateway.class)) {
            let id = ParentId::gateway(&object.meta.namespace, &object.meta.name);
            let attachment = attachment::judge(self.world, &id, gateway);
            let proxies = self.deployed(&id);
            let mut status = gateway_api::gateway(&attachment, &proxies);
            self.tell_more(object, &mut status);
            all.insert(object.key(), status);
            for outcome in &attachment.sets {
                let mut status = gateway_api::listener_set(&attachment, outcome, &proxies);
                if let Some(object) = self.world.object(&outcome.set.key) {
                    self.tell_more(object, &mut status);
                }
                all.insert(outcome.set.key.clone(), status);
            }
            attachments.push(attachment);
        }
        attachments
    }

    /// Conditions of ours beside those of the specification: what is not built, and certificates out of their time.
    fn tell_more(&self, object: &Object, status: &mut Value) {
        let (key, generation) = (object.key(), object.meta.generation);
        let untimely = self.findings.iter().filter(|f| f.code == code::UNTIMELY && f.of.key == key);
        let told: Vec<_> = untimely.map(|f| format!("{}: {}", f.of.field, f.message)).collect();
        let untimely =
            (!told.is_empty()).then(|| Condition::no("CertificatesInTime", "OutOfTime", told.join("; ")));
        if let Some(conditions) = status["conditions"].as_array_mut() {
            let more = unsupported(object).into_iter().chain(untimely);
            conditions.extend(more.map(|condition| gateway_api::condition(&condition, generation)));
        }
    }

    /// The proxies that serve a Gateway.
    fn deployed(&self, id: &ParentId) -> Vec<Deployed> {
        let serves = |node: &&NodeStatus| {
            node.gateway.as_ref().is_some_and(|gateway| {
                gateway.family != Some(GatewayFamily::Istio)
                    && gateway.namespace == id.namespace
                    && gateway.name == id.name
            })
        };
        let mut deployed: Vec<_> = self
            .nodes
            .iter()
            .filter(serves)
            .map(|node| Deployed {
                address: node.bind,
                current: node.synced >= node.wanted,
                refused: node
                    .refusals
                    .first()
                    .map(|refused| format!("{}: {}", refused.resource, refused.reason)),
            })
            .collect();
        deployed.sort();
        deployed
    }

    fn routes(&self, attachments: &[Attachment], all: &mut BTreeMap<Key, Value>) {
        let mut outcomes: BTreeMap<&Key, Vec<&ParentOutcome>> = BTreeMap::new();
        for outcome in attachments.iter().flat_map(|attachment| &attachment.routes) {
            outcomes.entry(&outcome.route.key).or_default().extend(&outcome.parents);
        }
        let around = Around::of_mesh(self.world);
        for object in ROUTE_KINDS.into_iter().flat_map(|kind| self.world.objects(kind)) {
            let Some(route) = read::route(object) else { continue };
            let of_mesh = mesh::judge(&route, &around, |parent| around.parent(&route, parent));
            let of_gateways = outcomes.remove(&object.key()).unwrap_or_default();
            let mut parents: Vec<_> = of_gateways.into_iter().chain(&of_mesh).collect();
            if parents.is_empty() && !was_ours(object) {
                continue;
            }
            parents.sort_by_key(|outcome| place(&route, outcome));
            let mut status = gateway_api::route(parents, object.meta.generation);
            if let Some(unsupported) = unsupported(object) {
                for parent in status["parents"].as_array_mut().into_iter().flatten() {
                    if let Some(conditions) = parent["conditions"].as_array_mut() {
                        conditions.push(gateway_api::condition(&unsupported, object.meta.generation));
                    }
                }
            }
            all.insert(object.key(), status);
        }
    }

    /// The status of every BackendTLSPolicy, towards each Gateway that routes to what it is for.
    fn backend_policies(&self, attachments: &[Attachment], all: &mut BTreeMap<Key, Value>) {
        let usable = |credential: &Credential| Around::new(self.world).usable(credential);
        for object in self.world.objects(&kind::BACKEND_TLS_POLICY) {
            let Spec::BackendTlsPolicy(spec) = &object.spec else { continue };
            let entry = BackendPolicyEntry { object: object.clone(), spec: spec.clone() };
            let outcome = backend_tls::judge(&entry, &usable);
            let accepted = self.conflict(object, &entry).unwrap_or(outcome.accepted);
            let ancestors = attachments.iter().filter(|attachment| self.leads_to(attachment, &entry));
            let ancestors: Vec<_> = ancestors.map(|attachment| &attachment.gateway.key).collect();
            let told = object.json["status"]["ancestors"].as_array().is_some_and(|told| !told.is_empty());
            if !ancestors.is_empty() || told {
                let generation = object.meta.generation;
                let status = gateway_api::policy(&ancestors, [&accepted, &outcome.resolved], generation);
                all.insert(object.key(), status);
            }
        }
    }

    /// Whether an older policy holds for everything that this one is for.
    fn conflict(&self, object: &Object, entry: &BackendPolicyEntry) -> Option<Condition> {
        let mut winner = None;
        for target in entry.spec.spec.target_refs.iter().filter(|to| to.kind == "Service") {
            let name: Arc<str> = target.name.as_str().into();
            let same = |other: &&Arc<BackendPolicyEntry>| {
                other.spec.spec.target_refs.iter().any(|to| {
                    to.kind == target.kind && to.name == target.name && to.section_name == target.section_name
                })
            };
            let first = self.world.backend_policies(&object.meta.namespace, &name).iter().find(same)?;
            if first.object.key() == object.key() {
                return None;
            }
            winner = Some(first.object.key());
        }
        let message = format!("spec.targetRefs: {}, which is older, is for the same", winner?);
        Some(Condition::no("Accepted", "Conflicted", message))
    }

    /// Whether a route of a Gateway has a backend that a policy is for.
    fn leads_to(&self, attachment: &Attachment, entry: &BackendPolicyEntry) -> bool {
        let namespace = &entry.object.meta.namespace;
        let backends =
            attachment.routes.iter().flat_map(|outcome| &outcome.route.rules).flat_map(|r| &r.backends);
        let mut services =
            backends.filter(|backend| backend.to.group.is_empty() && backend.to.kind == "Service");
        services.any(|backend| {
            *backend.to.namespace == **namespace
                && entry
                    .spec
                    .spec
                    .target_refs
                    .iter()
                    .any(|to| to.name == backend.to.name && to.kind == "Service")
        })
    }

    /// `status` of an Istio kind: `Accepted`, `Programmed` k of n with the first refusal, `Unsupported`.
    fn istio(&self, object: &Object) -> Value {
        let key = object.key();
        let mut conditions = vec![self.accepted(&key)];
        conditions.extend(self.programmed(&key));
        conditions.extend(unsupported(object));
        let conditions: Vec<_> = conditions
            .iter()
            .map(|condition| gateway_api::condition(condition, object.meta.generation))
            .collect();
        let mut status = json!({ "conditions": conditions, "observedGeneration": object.meta.generation });
        if let Spec::ServiceEntry(spec) = &object.spec {
            let addresses: Vec<_> = spec.hosts.iter().flat_map(|host| self.allocated(&key, host)).collect();
            if !addresses.is_empty() {
                status["addresses"] = addresses.into();
            }
        }
        status
    }

    /// The addresses that stand for a host of a ServiceEntry which declares none, as Istio writes them.
    fn allocated(&self, entry: &Key, host: &str) -> Vec<Value> {
        let services = self.world.services_of(&host.to_ascii_lowercase());
        let service = services.iter().find(|service| service.object == *entry);
        let ours = service.filter(|service| service.addresses.is_empty());
        let pair = ours.and_then(|service| self.world.address(&service.id()));
        let each = pair.into_iter().flat_map(|(v4, v6)| [v4, v6]);
        each.map(|ip| json!({ "host": host, "value": ip.to_string() })).collect()
    }

    fn accepted(&self, key: &Key) -> Condition {
        let of_it: Vec<_> = self.findings.iter().filter(|finding| finding.of.key == *key).collect();
        let say = |finding: &Finding| format!("{}: {}", finding.of.field, finding.message);
        if let Some(finding) = of_it.iter().find(|finding| finding.code == code::COLLISION) {
            return Condition::no("Accepted", "Conflicted", say(finding));
        }
        if of_it.is_empty() {
            return Condition::yes("Accepted", "Accepted");
        }
        let mut said: Vec<_> = of_it.iter().take(SAID).map(|finding| say(finding)).collect();
        if of_it.len() > SAID {
            said.push(format!("and {} more; `heddle analyze` has them all", of_it.len() - SAID));
        }
        Condition::yes("Accepted", "PartiallyInvalid").with_message(said.join("; "))
    }

    fn programmed(&self, key: &Key) -> Option<Condition> {
        let convergence = self.convergence.get(key)?;
        let message = format!("{} of {} proxies serve it", convergence.acked, convergence.total);
        Some(match convergence.refusals.first() {
            Some(refused) => Condition::no(
                "Programmed",
                "Refused",
                format!("{message}; {} refused {}: {}", refused.node, refused.resource, refused.reason),
            ),
            None if convergence.done() => Condition::yes("Programmed", "Programmed").with_message(message),
            None => Condition::unknown("Programmed", "Pending", message),
        })
    }
}

/// Where among a route's references this one is.
fn place(route: &Route, outcome: &ParentOutcome) -> usize {
    route.parents.iter().position(|parent| *parent == outcome.parent).unwrap_or(usize::MAX)
}

/// Whether the stored status has a parent that we judged before.
fn was_ours(object: &Object) -> bool {
    let parents = object.json["status"]["parents"].as_array();
    parents.into_iter().flatten().any(|parent| parent["controllerName"] == CONTROLLER)
}

/// The fields of an object that are valid and not built.
fn unsupported(object: &Object) -> Option<Condition> {
    let unbuilt = object.unbuilt();
    let denies = unbuilt.iter().any(|field| field.denies);
    let fields: Vec<_> = unbuilt.into_iter().map(|field| field.field).collect();
    if fields.is_empty() {
        return None;
    }
    let what =
        if denies { "not built yet, so that the traffic concerned is denied" } else { "not built yet" };
    let reason = if denies { "Denied" } else { "NotBuilt" };
    Some(Condition::yes("Unsupported", reason).with_message(format!("{what}: {}", fields.join(", "))))
}
