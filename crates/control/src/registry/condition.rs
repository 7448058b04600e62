//! The verdict where everybody reads it: the condition `Healthy` of the object's status.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use heddle_resource::{Key, Object};
use heddle_store::{Precondition, Revision, Store, StoreError};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

/// The condition's type.
pub(super) const HEALTHY: &str = "Healthy";

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None`: `Unknown`.
    pub(super) healthy: Option<bool>,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn checked(healthy: bool, message: String) -> Self {
        Self { healthy: Some(healthy), reason: if healthy { "CheckPassed" } else { "CheckFailed" }, message }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self { healthy: None, reason: "InvalidCheck", message }
    }

    fn status(&self) -> &'static str {
        match self.healthy {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// The verdict an object carries.
pub(super) fn read(object: &Object) -> Option<bool> {
    match find(&object.json)?.get("status")?.as_str()? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// Whether the object carries a verdict at all.
pub(super) fn present(object: &Object) -> bool {
    find(&object.json).is_some()
}

fn find(json: &Value) -> Option<&Value> {
    let conditions = json.get("status")?.get("conditions")?.as_array()?;
    conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(HEALTHY))
}

/// Verdicts on their way to the stores: many at once, so that they share commits, but one at a time per
/// object, the newest last.
#[derive(Default)]
pub(super) struct Writes {
    tasks: JoinSet<Written>,
    /// Objects being written, and what is to be written after that.
    busy: HashMap<Key, Option<Write>>,
    failed: HashMap<Key, Write>,
}

#[derive(Clone)]
struct Write {
    store: Arc<dyn Store>,
    verdict: Option<Verdict>,
}

struct Written {
    key: Key,
    write: Write,
    outcome: Result<(), StoreError>,
}

impl Writes {
    /// `None` takes the condition away.
    pub(super) fn start(&mut self, store: Arc<dyn Store>, key: Key, verdict: Option<Verdict>) {
        self.failed.remove(&key);
        let write = Write { store, verdict };
        if let Some(next) = self.busy.get_mut(&key) {
            *next = Some(write);
            return;
        }
        self.spawn(key, write);
    }

    fn spawn(&mut self, key: Key, this: Write) {
        self.busy.insert(key.clone(), None);
        self.tasks.spawn(async move {
            let outcome = write(this.store.as_ref(), &key, this.verdict.as_ref(), SystemTime::now()).await;
            Written { key, write: this, outcome }
        });
    }

    /// Tries again what failed for this object.
    pub(super) fn retry(&mut self, key: &Key) {
        if let Some(write) = self.failed.remove(key) {
            self.spawn(key.clone(), write);
        }
    }

    /// Waits for one write to end; `None` when none is under way. Cancel safe.
    pub(super) async fn finish(&mut self) -> Option<()> {
        let Ok(Written { key, write, outcome }) = self.tasks.join_next().await? else { return Some(()) };
        match (self.busy.remove(&key).flatten(), outcome) {
            (Some(next), _) => self.spawn(key, next),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                tracing::error!(object = %key, %error, "health not written; it is tried again");
                self.failed.insert(key, write);
            }
        }
        Some(())
    }
}

/// Writes the verdict (`None`: takes it away), whatever else happens to the object meanwhile.
async fn write(
    store: &dyn Store,
    key: &Key,
    verdict: Option<&Verdict>,
    now: SystemTime,
) -> Result<(), StoreError> {
    loop {
        let Some(stored) = store.get(key).await? else { return Ok(()) };
        let Some(changed) = with(&stored, verdict, now) else { return Ok(()) };
        let precondition = Revision::of(&stored).map_or(Precondition::Any, Precondition::Revision);
        match store.put(changed, precondition).await {
            Ok(_) => return Ok(()),
            // Somebody else was faster: look again. Each turn means that another writer made progress.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The object with this verdict; `None` when it says so already.
fn with(object: &Object, verdict: Option<&Verdict>, now: SystemTime) -> Option<Object> {
    let old = find(&object.json);
    let text = |name: &str| old.and_then(|old| old.get(name)).and_then(Value::as_str);
    let same = match verdict {
        None => old.is_none(),
        Some(new) => {
            text("status") == Some(new.status())
                && text("reason") == Some(new.reason)
                && text("message") == Some(&new.message)
        }
    };
    if same {
        return None;
    }
    let since = verdict.and_then(|new| {
        let unchanged = text("status") == Some(new.status());
        text("lastTransitionTime").filter(|_| unchanged).map(str::to_owned)
    });
    let mut changed = object.clone();
    let Value::Object(json) = Arc::make_mut(&mut changed.json) else { return None };
    let status = as_object(json.entry("status").or_insert(Value::Null))?;
    let conditions = status.entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Value::Array(conditions) = conditions {
        conditions.retain(|condition| condition.get("type").and_then(Value::as_str) != Some(HEALTHY));
        conditions.extend(verdict.map(|verdict| {
            json!({
                "type": HEALTHY,
                "status": verdict.status(),
                "reason": verdict.reason,
                "message": verdict.message,
                "lastTransitionTime": since.unwrap_or_else(|| rfc3339(now)),
            })
        }));
    }
    Some(changed)
}

/// The value as an object, made one if it is something else.
fn as_object(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// UTC to the second, as Kubernetes writes times. Civil date from days: Howard Hinnant's algorithm.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_does() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_132_799, "2026-11-19T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
