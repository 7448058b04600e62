//! The running control plane as the API shows it: readiness, metrics, debug views, explanations.

use std::collections::BTreeMap;

use async_trait::async_trait;
use heddle_api::{MeshView, View, ViewError};
use heddle_control::Control;
use heddle_resource::{Key, kinds};
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
            View::Endpointz | View::Configz => Err(ViewError::NotServed),
        }
    }

    async fn explain(&self, question: Value) -> Result<Value, ViewError> {
        let question = explanation::question(question).map_err(ViewError::Invalid)?;
        let answer = question.ask(&self.control.world()).map_err(ViewError::Invalid)?;
        serde_json::to_value(answer).map_err(|e| ViewError::Failed(e.to_string()))
    }
}
