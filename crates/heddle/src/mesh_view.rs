//! The running control plane as the API shows it: readiness, metrics, debug views, explanations.

use std::collections::BTreeMap;

use async_trait::async_trait;
use heddle_api::{MeshView, View, ViewError};
use heddle_control::{Control, World};
use heddle_resource::{Key, kind::SECRET, kinds};
use serde_json::{Value, json};

use crate::explanation;

pub(crate) struct Mesh {
    control: Control,
}

impl Mesh {
    pub(crate) fn new(control: Control) -> Self {
        Self { control }
    }

    /// Which proxies are connected, and what each has refused.
    async fn syncz(&self) -> Value {
        let nodes = self.control.nodes().await;
        let proxies: Vec<Value> = nodes
            .iter()
            .map(|node| {
                let state = if node.synced >= node.wanted { "SYNCED" } else { "STALE" };
                json!({
                    "node": node.id,
                    "scope": node.scope,
                    "state": state,
                    "refused": node.refused,
                    "refusals": node.refusals.iter().map(|r| json!({"resource": r.resource, "reason": r.reason})).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({ "proxies": proxies })
    }

    /// How far the last change of `object=PLURAL[.GROUP]/[NAMESPACE/]NAME` has come; with `generation=N`, of that
    /// generation or a later one.
    async fn convergence(&self, query: &BTreeMap<String, String>) -> Result<Value, ViewError> {
        let name = query
            .get("object")
            .ok_or_else(|| ViewError::Invalid("name an object: ?object=KIND/NAMESPACE/NAME".to_owned()))?;
        let key = parse_object(name).map_err(ViewError::Invalid)?;
        let wanted: i64 = query.get("generation").and_then(|g| g.parse().ok()).unwrap_or(0);
        let world = self.control.world();
        let found = world.object(&key).map(|o| (o.meta.generation, o.meta.resource_version.clone()));
        let Some(convergence) = self.control.convergence(&key).await else {
            return Ok(
                json!({"object": name, "converged": false, "programmed": 0, "connected": 0, "laggards": [], "refusals": []}),
            );
        };
        let taken = found
            .is_some_and(|(generation, revision)| generation >= wanted && convergence.revision == revision);
        Ok(json!({
            "object": name,
            "converged": taken && convergence.done(),
            "programmed": convergence.acked,
            "connected": convergence.total,
            "laggards": convergence.laggards,
            "refusals": convergence.refusals.iter().map(|r| json!({"node": r.node, "resource": r.resource, "reason": r.reason})).collect::<Vec<_>>(),
        }))
    }
}

/// Every service's endpoints as the control plane knows them.
fn endpoints(world: &World) -> Value {
    let services: Vec<Value> = world
        .services()
        .map(|service| {
            let of_it = world.endpoints(&service.id());
            let each = of_it.iter().map(|endpoint| {
                json!({
                    "address": endpoint.address,
                    "ports": endpoint.ports,
                    "health": format!("{:?}", endpoint.health),
                    "workload": endpoint.workload.name,
                    "namespace": endpoint.workload.namespace,
                    "labels": *endpoint.labels,
                })
            });
            json!({"host": service.host, "namespace": service.namespace, "endpoints": each.collect::<Vec<_>>()})
        })
        .collect();
    json!({ "services": services })
}

/// The resources in force, without what is secret.
fn resources(world: &World) -> Value {
    let told = kinds().iter().filter(|kind| **kind != &SECRET);
    let items: Vec<&Value> = told.flat_map(|kind| world.objects(kind)).map(|object| &*object.json).collect();
    json!({ "generation": world.generation, "items": items })
}

/// `virtualservices.networking.istio.io/default/reviews`
fn parse_object(text: &str) -> Result<Key, String> {
    let wrong = || format!("`{text}` names no object: expected PLURAL[.GROUP]/[NAMESPACE/]NAME");
    let (kind, rest) = text.split_once('/').ok_or_else(wrong)?;
    let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
    let kind = kinds().iter().find(|k| k.plural == plural && k.group == group).ok_or_else(wrong)?;
    match (kind.namespaced, rest.split_once('/')) {
        (true, Some((namespace, name))) => Ok(Key::new(kind, namespace, name)),
        (false, None) => Ok(Key::new(kind, "", rest)),
        _ => Err(wrong()),
    }
}

#[async_trait]
impl MeshView for Mesh {
    fn ready(&self) -> Result<(), String> {
        if self.control.ready() { Ok(()) } else { Err("the stores have not been read yet".to_owned()) }
    }

    fn metrics(&self) -> String {
        self.control.metrics()
    }

    async fn view(&self, view: View, query: &BTreeMap<String, String>) -> Result<Value, ViewError> {
        match view {
            View::Syncz => Ok(self.syncz().await),
            View::Convergence => self.convergence(query).await,
            View::Endpointz => Ok(endpoints(&self.control.world())),
            View::Configz => Ok(resources(&self.control.world())),
        }
    }

    async fn explain(&self, question: Value) -> Result<Value, ViewError> {
        let question = explanation::question(question).map_err(ViewError::Invalid)?;
        let answer = question.ask(&self.control.world()).map_err(ViewError::Invalid)?;
        serde_json::to_value(answer).map_err(|e| ViewError::Failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heddle_control::{Change, MeshConfig};
    use heddle_resource::{AdmitOptions, admit, parse_documents};

    use super::*;

    #[test]
    fn debug_views_show_what_is_in_force_and_no_secret() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: v1
kind: Secret
metadata: {name: key}
data: {key: c2VjcmV0}
";
        let changes: Vec<_> = parse_documents(text, "test.yaml")
            .into_iter()
            .filter_map(|document| admit(&document.unwrap(), &AdmitOptions::default()).object())
            .map(|object| Change::Put { source: 0, object: Arc::new(object) })
            .collect();
        assert_eq!(changes.len(), 2);
        let world = World::new(MeshConfig::default()).apply(&changes).0;
        let seen = endpoints(&world);
        assert_eq!(seen["services"][0]["host"], "web.example");
        assert_eq!(seen["services"][0]["endpoints"][0]["address"], "10.0.0.1");
        let told = resources(&world)["items"].as_array().unwrap().clone();
        let kinds: Vec<_> = told.iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["ServiceEntry"]);
    }
}
