//! Writing statuses to the stores that hold the objects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use heddle_resource::{Key, Object};
use heddle_store::{Precondition, Revision, Store, StoreError};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::{
    pace::Pace,
    report::{ISTIO_KINDS, Report},
    stamp::stamp,
};
use crate::{
    push::{Ask, Convergence},
    world::World,
};

/// How long changes gather before statuses are computed anew.
const GATHER: Duration = Duration::from_millis(50);

/// Keeps the statuses in the stores true.
pub(crate) struct Writer {
    pub(crate) stores: Vec<Arc<dyn Store>>,
    pub(crate) worlds: watch::Receiver<Arc<World>>,
    pub(crate) progress: watch::Receiver<u64>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) asks: mpsc::Sender<Ask>,
}

impl Writer {
    /// Works until the control plane ends.
    pub(crate) async fn run(mut self) {
        if self.ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        let mut pace = Pace::default();
        let mut known = HashSet::new();
        loop {
            let began = Instant::now();
            let Some(statuses) = self.compute().await else { return };
            // A tenth of one core at most, however large the mesh.
            let rest = (began.elapsed() * 9).max(GATHER);
            for key in &known {
                if !statuses.contains_key(key) {
                    pace.forget(key);
                }
            }
            known = statuses.keys().cloned().collect();
            for (key, status) in statuses {
                pace.want(key, status);
            }
            self.write(&mut pace).await;
            if !self.wait(&mut pace, rest).await {
                return;
            }
        }
    }

    /// Waits for something new, writing what falls due meanwhile. False: the control plane has ended.
    async fn wait(&mut self, pace: &mut Pace, rest: Duration) -> bool {
        loop {
            let next = pace.next(Instant::now());
            tokio::select! {
                changed = self.worlds.changed() => if changed.is_err() { return false } else { break },
                changed = self.progress.changed() => if changed.is_err() { return false } else { break },
                () = until(next) => self.write(pace).await,
            }
        }
        tokio::time::sleep(rest).await;
        self.worlds.mark_unchanged();
        self.progress.mark_unchanged();
        true
    }

    async fn compute(&self) -> Option<BTreeMap<Key, Value>> {
        let nodes = self.ask(|reply| Ask::Nodes { reply }).await?;
        let findings = self.ask(|reply| Ask::Findings { reply }).await?;
        let world = self.worlds.borrow().clone();
        let keys =
            ISTIO_KINDS.into_iter().flat_map(|kind| world.objects(kind)).map(|object| object.key()).collect();
        let convergence: HashMap<Key, Convergence> =
            self.ask(|reply| Ask::Convergences { keys, reply }).await?.into_iter().collect();
        let report = Report { world: &world, nodes: &nodes, findings: &findings, convergence: &convergence };
        Some(report.statuses())
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.ok()?;
        answer.await.ok()
    }

    async fn write(&self, pace: &mut Pace) {
        for (key, status) in pace.due(Instant::now()) {
            if let Err(error) = self.write_one(&key, &status).await {
                debug!(%key, %error, "status not written; trying again");
                pace.failed(&key);
            }
        }
    }

    /// Writes one status to the first store that has the object, unless it says so already.
    async fn write_one(&self, key: &Key, status: &Value) -> Result<(), StoreError> {
        for store in &self.stores {
            let Some(object) = store.get(key).await? else { continue };
            let Some(updated) = with_status(&object, status, &now()) else { return Ok(()) };
            let precondition = Revision::of(&object).map_or(Precondition::Any, Precondition::Revision);
            return match store.put(updated, precondition).await {
                // Files take a status all the same, and keep it in memory; other sources need not.
                Err(StoreError::ReadOnly(_)) => Ok(()),
                written => written.map(drop),
            };
        }
        Ok(())
    }
}

/// The object with that status, if it has another one.
fn with_status(object: &Object, status: &Value, now: &str) -> Option<Object> {
    let status = stamp(status, object.json.get("status"), now);
    if object.json.get("status") == Some(&status) {
        return None;
    }
    let mut json = (*object.json).clone();
    if let Some(Value::Object(metadata)) = json.get_mut("metadata") {
        let api_version = object.kind.api_version();
        manage(metadata, &status, &api_version, now);
    }
    json.as_object_mut()?.insert("status".to_owned(), status);
    let spec = object.kind.read(&json).ok()?;
    Some(Object { spec, json: Arc::new(json), ..object.clone() })
}

/// The manager under whose name statuses are written.
const MANAGER: &str = "heddle";

/// Says in `managedFields` that the status is ours, as every write through the API does.
fn manage(metadata: &mut Map<String, Value>, status: &Value, api_version: &str, now: &str) {
    let entries = metadata.entry("managedFields").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(entries) = entries else { return };
    entries.retain(|entry| !(entry["manager"] == MANAGER && entry["subresource"] == "status"));
    let fields = status.as_object().into_iter().flatten();
    let fields: Map<_, _> = fields.map(|(name, _)| (format!("f:{name}"), json!({}))).collect();
    entries.push(json!({
        "manager": MANAGER,
        "operation": "Update",
        "apiVersion": api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": { "f:status": fields },
        "subresource": "status",
    }));
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

/// The time as Kubernetes writes it: RFC 3339, UTC, whole seconds.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days from 0000-03-01, in eras of 400 years (the civil calendar's usual arithmetic).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Whether two states of an object differ in nothing that compilation reads: a write of ours, which must
/// not come back as a change.
pub(crate) fn differ_in_status_only(old: &Object, new: &Object) -> bool {
    // The status of core kinds, and of WorkloadEntries, is input.
    let ours =
        !new.kind.group.is_empty() && new.kind.kind != "WorkloadEntry" && new.kind.kind != "EndpointSlice";
    ours && old.meta.generation == new.meta.generation && without_status(old).eq(without_status(new))
}

/// The content of an object, field by field, without its status and what every write changes.
fn without_status(object: &Object) -> impl Iterator<Item = (&str, &Value)> {
    let fields = |value: Option<&'static str>| {
        let at = match value {
            None => object.json.as_object(),
            Some(field) => object.json.get(field).and_then(Value::as_object),
        };
        at.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    };
    let own = fields(None).filter(|(name, _)| !matches!(*name, "status" | "metadata"));
    let metadata =
        fields(Some("metadata")).filter(|(name, _)| !matches!(*name, "resourceVersion" | "managedFields"));
    own.chain(metadata)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_161_599), "2026-11-20T07:59:59Z");
        assert_eq!(rfc3339(4_107_542_399), "2100-02-28T23:59:59Z");
    }
}
