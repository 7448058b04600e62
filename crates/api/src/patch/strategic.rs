//! Strategic merge: like a merge patch, but lists of the core kinds that have a merge key are merged
//! item by item, and directives (`$patch`, `$setElementOrder`, `$deleteFromPrimitiveList`,
//! `$retainKeys`) say what JSON alone cannot.

use heddle_resource::Kind;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// How a list of a core kind is merged, by its path. `*` stands for one list item or map key.
/// From the `patchMergeKey` tags of the Kubernetes API types.
const LISTS: &[(&str, &str, MergeBy)] = &[
    ("*", "metadata.ownerReferences", MergeBy::Key("uid")),
    ("*", "metadata.finalizers", MergeBy::Value),
    ("*", "status.conditions", MergeBy::Key("type")),
    ("Service", "spec.ports", MergeBy::Key("port")),
    ("ServiceAccount", "secrets", MergeBy::Key("name")),
    ("ServiceAccount", "imagePullSecrets", MergeBy::Key("name")),
    ("Pod", "spec.containers", MergeBy::Key("name")),
    ("Pod", "spec.initContainers", MergeBy::Key("name")),
    ("Pod", "spec.ephemeralContainers", MergeBy::Key("name")),
    ("Pod", "spec.volumes", MergeBy::Key("name")),
    ("Pod", "spec.imagePullSecrets", MergeBy::Key("name")),
    ("Pod", "spec.hostAliases", MergeBy::Key("ip")),
    ("Pod", "spec.topologySpreadConstraints", MergeBy::Key("topologyKey")),
    ("Pod", "spec.*.*.ports", MergeBy::Key("containerPort")),
    ("Pod", "spec.*.*.env", MergeBy::Key("name")),
    ("Pod", "spec.*.*.volumeMounts", MergeBy::Key("mountPath")),
    ("Pod", "spec.*.*.volumeDevices", MergeBy::Key("devicePath")),
    ("Pod", "status.podIPs", MergeBy::Key("ip")),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MergeBy {
    Key(&'static str),
    Value,
}

/// The merge key of a list, for the OpenAPI description (`x-kubernetes-patch-merge-key`).
pub(super) fn list_rule(kind: &str, path: &[&str]) -> Option<MergeBy> {
    let fits = |pattern: &str| {
        let mut steps = pattern.split('.');
        path.iter().all(|step| steps.next().is_some_and(|p| p == "*" || p == *step)) && steps.next().is_none()
    };
    LISTS.iter().find(|(of, pattern, _)| (*of == "*" || *of == kind) && fits(pattern)).map(|(_, _, by)| *by)
}

const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";
const DIRECTIVE: &str = "$patch";

pub(super) fn merge(kind: &Kind, live: Value, patch: &Value) -> Result<Value, ApiError> {
    let mut path = Vec::new();
    merge_value(kind.kind, &mut path, Some(live), patch).map(|merged| merged.unwrap_or(Value::Null))
}

/// `None`: the patch deletes the value.
fn merge_value<'p>(
    kind: &str,
    path: &mut Vec<&'p str>,
    live: Option<Value>,
    patch: &'p Value,
) -> Result<Option<Value>, ApiError> {
    match patch {
        Value::Null => Ok(None),
        Value::Object(patch) => merge_object(kind, path, live, patch),
        Value::Array(items) => match list_rule(kind, path) {
            Some(by) => merge_list(kind, path, live, items, by).map(Some),
            None => Ok(Some(patch.clone())),
        },
        scalar => Ok(Some(scalar.clone())),
    }
}

fn merge_object<'p>(
    kind: &str,
    path: &mut Vec<&'p str>,
    live: Option<Value>,
    patch: &'p Map<String, Value>,
) -> Result<Option<Value>, ApiError> {
    let mut object = match live {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
        Some("delete") => return Ok(None),
        Some("replace") => object = Map::new(),
        Some("merge") | None => {}
        Some(other) => return Err(bad(format!("unknown directive $patch: {other:?}"))),
    }
    if let Some(retain) = patch.get(RETAIN) {
        let keys = retain.as_array().ok_or_else(|| bad("$retainKeys is not a list"))?;
        object.retain(|name, _| keys.iter().any(|k| k.as_str() == Some(name)));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            let gone = value.as_array().ok_or_else(|| bad(format!("{name} is not a list")))?;
            if let Some(Value::Array(items)) = object.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        } else if !name.starts_with('$') {
            path.push(name);
            let merged = merge_value(kind, path, object.remove(name), value);
            path.pop();
            object.extend(merged?.map(|merged| (name.clone(), merged)));
        }
    }
    for (name, order) in patch {
        let Some(list) = name.strip_prefix(SET_ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| bad(format!("{name} is not a list")))?;
        path.push(list);
        let by = list_rule(kind, path);
        path.pop();
        if let (Some(by), Some(Value::Array(items))) = (by, object.get_mut(list)) {
            put_in_order(items, order, by);
        }
    }
    Ok(Some(Value::Object(object)))
}

fn merge_list<'p>(
    kind: &str,
    path: &mut Vec<&'p str>,
    live: Option<Value>,
    patch: &'p [Value],
    by: MergeBy,
) -> Result<Value, ApiError> {
    let mut items = match live {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let MergeBy::Key(key) = by else {
        for item in patch {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(Value::Array(items));
    };
    if patch.iter().any(|item| item.get(DIRECTIVE).is_some_and(|d| d == "replace")) {
        let kept = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
        return Ok(kept.cloned().collect());
    }
    for item in patch {
        let identity = item.get(key).ok_or_else(|| {
            bad(format!("{}: a list item of the patch lacks its merge key {key}", path.join(".")))
        })?;
        let at = items.iter().position(|i| i.get(key) == Some(identity));
        path.push("*");
        let merged = merge_value(kind, path, at.map(|at| items[at].clone()), item);
        path.pop();
        match (merged?, at) {
            (Some(merged), Some(at)) => items[at] = merged,
            (Some(merged), None) => items.push(merged),
            (None, Some(at)) => {
                items.remove(at);
            }
            (None, None) => {}
        }
    }
    Ok(Value::Array(items))
}

/// The items named by `order` in that order; the others keep their place behind their predecessor.
fn put_in_order(items: &mut [Value], order: &[Value], by: MergeBy) {
    let rank = |item: &Value| match by {
        MergeBy::Key(key) => order.iter().position(|o| o.get(key) == item.get(key)),
        MergeBy::Value => order.iter().position(|o| o == item),
    };
    let mut last = 0;
    let mut ranked: Vec<(usize, Value)> = Vec::with_capacity(items.len());
    for item in items.iter() {
        last = rank(item).unwrap_or(last);
        ranked.push((last, item.clone()));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    for (slot, (_, item)) in items.iter_mut().zip(ranked) {
        *slot = item;
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(format!("strategic merge patch: {}", message.into()))
}

#[cfg(test)]
#[path = "strategic_test.rs"]
mod strategic_test;
