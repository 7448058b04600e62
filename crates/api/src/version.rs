//! One stored version, every served version readable: the versions of a kind share one schema, so a
//! conversion rewrites `apiVersion`.

use heddle_resource::Kind;
use serde_json::Value;

use crate::error::ApiError;

/// `v1`, `networking.istio.io/v1beta1`
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The object as a reader of `version` sees it.
pub(crate) fn read_as(kind: &Kind, version: &str, object: &Value) -> Value {
    let mut object = object.clone();
    stamp(kind, version, &mut object);
    object
}

pub(crate) fn stamp(kind: &Kind, version: &str, object: &mut Value) {
    if let Some(top) = object.as_object_mut() {
        top.insert("apiVersion".to_owned(), api_version(kind.group, version).into());
        top.insert("kind".to_owned(), kind.kind.into());
    }
}

/// Checks that the body is of the resource that the path names, and makes it the stored version.
pub(crate) fn to_storage(kind: &Kind, version: &str, object: &mut Value) -> Result<(), ApiError> {
    let expected = api_version(kind.group, version);
    let given = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (found, found_kind) = (given("apiVersion"), given("kind"));
    if !found.is_empty() && found != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version ({expected})"
        )));
    }
    if !found_kind.is_empty() && found_kind != kind.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({found_kind}) does not match the expected kind ({})",
            kind.kind
        )));
    }
    stamp(kind, kind.version, object);
    Ok(())
}
