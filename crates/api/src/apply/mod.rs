//! Server-side apply: a manager states the fields it wants; the server merges them, remembers who owns
//! what, takes away what the manager no longer states, and refuses to overwrite what others own.
//!
//! No I/O and no clock: values in, a value and its managers out. Every other write passes through
//! [`update`], which moves ownership to the writer of what it changed.

mod managed;
mod merge;
mod set;
mod shape;

use serde_json::{Map, Value};

pub(crate) use managed::{Manager, Managers};
pub(crate) use shape::Shape;

use managed::Managed;
use merge::{Comparison, compare, field_set};
use set::FieldSet;

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldConflict {
    pub(crate) manager: Manager,
    /// `.spec.ports[port=80].name`
    pub(crate) field: String,
}

/// What an apply is about.
pub(crate) struct Application<'a> {
    pub(crate) shape: &'a Shape,
    /// The stored object, if there is one.
    pub(crate) live: Option<&'a Value>,
    /// What the manager states.
    pub(crate) config: &'a Value,
    pub(crate) manager: Manager,
    /// Take over what others own.
    pub(crate) force: bool,
    pub(crate) now: &'a str,
}

/// Merges what a manager states into the live object. The result has no `managedFields`; they are
/// returned beside it.
pub(crate) fn apply(application: &Application<'_>) -> Result<(Value, Managers), Vec<FieldConflict>> {
    let Application { shape, live, config, manager, force, now } = application;
    let empty = Value::Object(Map::new());
    let live_value = live.map_or_else(|| empty.clone(), bare);
    let mut managers = live.map(Managers::of).unwrap_or_default();
    if managers.0.is_empty() && live.is_some() {
        // Written before anybody was counted: owned by a manager of that name, as Kubernetes does.
        let before = Manager {
            name: "before-first-apply".to_owned(),
            applies: false,
            api_version: manager.api_version.clone(),
            subresource: String::new(),
        };
        let fields = owned_fields(field_set(shape, &live_value));
        managers.0.insert(before, Managed { fields, time: (*now).to_owned() });
    }
    let config = stated(&bare(config), &manager.subresource);
    let wanted = owned_fields(field_set(shape, &config));
    let last = managers.0.get(manager).cloned();
    let time = match &last {
        Some(last) if last.fields == wanted => last.time.clone(),
        _ => (*now).to_owned(),
    };
    managers.0.insert(manager.clone(), Managed { fields: wanted, time });

    let merged = merge::merge(shape, &live_value, &config);
    let owned = managers.all();
    let gone = last.map(|last| last.fields.difference(&owned)).unwrap_or_default();
    let new = merge::remove(shape, &merged, &gone, &owned).unwrap_or(empty);
    let comparison = owned_changes(compare(shape, &live_value, &new));
    let conflicts = settle(&mut managers, manager, &comparison, *force);
    if conflicts.is_empty() { Ok((new, managers)) } else { Err(conflicts) }
}

/// The managers after a write that is no apply: the writer owns what it changed.
pub(crate) fn update(
    shape: &Shape,
    live: Option<&Value>,
    new: &Value,
    manager: &Manager,
    now: &str,
) -> Managers {
    let empty = Value::Object(Map::new());
    let live_value = live.map_or(empty, bare);
    // A writer may edit the entries themselves (kubectl does when it moves to server-side apply).
    let given = new.get("metadata").and_then(|m| m.get("managedFields"));
    let mut managers = match given {
        Some(Value::Array(entries))
            if entries.first().is_some_and(|e| e.as_object().is_some_and(Map::is_empty)) =>
        {
            Managers::default()
        }
        Some(entries) if entries.as_array().is_some_and(|e| !e.is_empty()) => {
            Managers::decode(entries).unwrap_or_else(|| live.map(Managers::of).unwrap_or_default())
        }
        _ => live.map(Managers::of).unwrap_or_default(),
    };
    let comparison = owned_changes(compare(shape, &live_value, &bare(new)));
    settle(&mut managers, manager, &comparison, true);
    let changed = comparison.changed();
    if !changed.is_empty() || !comparison.removed.is_empty() {
        let before = managers.0.get(manager).map(|m| m.fields.clone()).unwrap_or_default();
        let fields = before.union(&changed).difference(&comparison.removed);
        managers.0.insert(manager.clone(), Managed { fields, time: now.to_owned() });
    }
    managers.drop_empty();
    managers
}

/// Takes from the others what `manager` changed. Without `force` what they own is a conflict.
fn settle(
    managers: &mut Managers,
    manager: &Manager,
    changes: &Comparison,
    force: bool,
) -> Vec<FieldConflict> {
    let changed = changes.changed();
    let mut conflicts = Vec::new();
    for (other, managed) in managers.0.iter_mut().filter(|(other, _)| *other != manager) {
        let contested = managed.fields.intersection(&changed);
        conflicts.extend(
            contested.paths().into_iter().map(|field| FieldConflict { manager: other.clone(), field }),
        );
        managed.fields = managed.fields.difference(&contested).difference(&changes.removed);
    }
    if force {
        conflicts.clear();
    }
    managers.drop_empty();
    conflicts
}

/// An object without what is no user's to own.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// A configuration without nulls and without what its subresource does not concern.
fn stated(config: &Value, subresource: &str) -> Value {
    let mut config = without_nulls(config);
    if let Some(top) = config.as_object_mut() {
        if subresource == "status" {
            top.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        } else {
            top.remove("status");
        }
    }
    config
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        other => other.clone(),
    }
}

/// The server's own fields, which nobody manages.
fn owned_fields(set: FieldSet) -> FieldSet {
    let mut set = set.without(&["apiVersion"]).without(&["kind"]);
    let by_server =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "resourceVersion"];
    for field in
        by_server.into_iter().chain(["generateName", "deletionTimestamp", "deletionGracePeriodSeconds"])
    {
        set = set.without(&["metadata", field]);
    }
    for top in set.children.values_mut() {
        // The top containers are always there: owning them says nothing.
        top.member &= top.children.is_empty();
    }
    set
}

fn owned_changes(comparison: Comparison) -> Comparison {
    Comparison {
        added: owned_fields(comparison.added),
        modified: owned_fields(comparison.modified),
        removed: owned_fields(comparison.removed),
    }
}

#[cfg(test)]
#[path = "apply_test.rs"]
mod apply_test;
