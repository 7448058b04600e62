//! The rules of `metadata`: who sets which field, and when.

use heddle_resource::{Kind, Object};
use serde_json::{Map, Value, json};

use crate::error::{ApiError, Cause};

/// Kinds that have a `status` written by controllers and not by users.
pub(crate) fn has_status(kind: &Kind) -> bool {
    !matches!(
        kind.kind,
        "ConfigMap" | "Secret" | "ServiceAccount" | "EndpointSlice" | "ReferenceGrant" | "Event"
    )
}

/// `metadata.NAME` as text; empty when absent.
pub(crate) fn text<'v>(object: &'v Value, name: &str) -> &'v str {
    object.get("metadata").and_then(|m| m.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// The object's metadata, made when absent; refused when it is no object.
pub(crate) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let refused = || ApiError::bad_request("metadata: expected an object");
    let top = object.as_object_mut().ok_or_else(|| ApiError::bad_request("expected an object"))?;
    let metadata = top.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut().ok_or_else(refused)
}

/// Seconds precision, as the API's timestamps are.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random version 4 UUID.
pub(crate) fn new_uid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// `generateName` and five characters that spell no word.
pub(crate) fn generated(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let cut = prefix.char_indices().nth(58).map_or(prefix, |(at, _)| &prefix[..at]);
    let tail = (0..5).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]));
    cut.chars().chain(tail).collect()
}

/// Completes the metadata of an object about to be created.
pub(crate) fn prepare_create(kind: &'static Kind, object: &mut Value) -> Result<(), ApiError> {
    let metadata = of(object)?;
    if metadata.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for given_by_server in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        metadata.remove(given_by_server);
    }
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let prefix = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
        if prefix.is_empty() {
            let message = "Required value: name or generateName is required".to_owned();
            let cause = Cause { reason: "FieldValueRequired", field: "metadata.name".to_owned(), message };
            return Err(ApiError::invalid(kind, "", vec![cause]));
        }
        let name = generated(prefix);
        metadata.insert("name".to_owned(), name.into());
    }
    metadata.insert("uid".to_owned(), new_uid().into());
    metadata.insert("creationTimestamp".to_owned(), now().into());
    metadata.remove("generation");
    if object.get("spec").is_some() || kind.kind == "EndpointSlice" {
        of(object)?.insert("generation".to_owned(), 1.into());
    }
    if has_status(kind)
        && let Some(top) = object.as_object_mut()
    {
        top.remove("status");
        if kind.kind == "Namespace" {
            top.insert("status".to_owned(), json!({ "phase": "Active" }));
        }
    }
    Ok(())
}

/// Carries over what a replacement cannot change, and counts the generation.
pub(crate) fn prepare_update(live: &Object, object: &mut Value, subresource: &str) -> Result<(), ApiError> {
    let before = &*live.json;
    if subresource == "status" {
        only_status(before, object)?;
    } else if has_status(live.kind)
        && let Some(top) = object.as_object_mut()
    {
        match before.get("status") {
            Some(status) => top.insert("status".to_owned(), status.clone()),
            None => top.remove("status"),
        };
    }
    let metadata = of(object)?;
    metadata.remove("selfLink");
    let lived = before.get("metadata");
    let kept =
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name"];
    for field in kept.into_iter().chain(["namespace", "generateName", "resourceVersion"]) {
        match lived.and_then(|m| m.get(field)) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    if metadata.get("finalizers").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        metadata.remove("finalizers");
    }
    refuse_late_finalizers(live, object)?;
    let counts = object.get("spec").is_some() || live.meta.generation > 0;
    if counts && content(before) != content(object) {
        of(object)?.insert("generation".to_owned(), (live.meta.generation + 1).into());
    }
    Ok(())
}

/// A status update changes the status, and of the metadata only the managed fields.
fn only_status(before: &Value, object: &mut Value) -> Result<(), ApiError> {
    let status = object.get("status").cloned();
    let managed = of(object)?.get("managedFields").cloned();
    object.clone_from(before);
    if let Some(top) = object.as_object_mut() {
        match status {
            Some(status) => top.insert("status".to_owned(), status),
            None => top.remove("status"),
        };
    }
    if let Some(managed) = managed {
        of(object)?.insert("managedFields".to_owned(), managed);
    }
    Ok(())
}

fn refuse_late_finalizers(live: &Object, object: &Value) -> Result<(), ApiError> {
    if live.meta.deletion_timestamp.is_none() {
        return Ok(());
    }
    let added = finalizers(object).into_iter().find(|f| !live.meta.finalizers.iter().any(|old| old == f));
    let Some(added) = added else { return Ok(()) };
    let message =
        format!("Forbidden: no new finalizers can be added if the object is being deleted, found {added:?}");
    let cause = Cause { reason: "FieldValueForbidden", field: "metadata.finalizers".to_owned(), message };
    Err(ApiError::invalid(live.kind, &live.meta.name, vec![cause]))
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the generation counts changes of: all but metadata and status.
fn content(object: &Value) -> Vec<(&String, &Value)> {
    let top = object.as_object().into_iter().flatten();
    top.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind")).collect()
}
