//! Patches of three kinds: JSON (RFC 6902), merge (RFC 7386), strategic merge (Kubernetes).

mod strategic;

use heddle_resource::Kind;
use serde_json::Value;

use crate::{body::BodyType, error::ApiError};

/// The patch types that are not server-side apply.
pub(crate) const ACCEPTED: &str =
    "application/json-patch+json,application/merge-patch+json,application/apply-patch+yaml";
/// More operations than anybody writes by hand; a bound on work per request.
const MAX_OPERATIONS: usize = 10_000;

/// The key by which a strategic merge patch tells the items of this list apart, if it merges them.
pub(crate) fn merge_key(kind: &Kind, path: &[&str]) -> Option<&'static str> {
    if !takes_strategic(kind) {
        return None;
    }
    match strategic::list_rule(kind.kind, path) {
        Some(strategic::MergeBy::Key(key)) => Some(key),
        _ => None,
    }
}

/// The kinds that are built into Kubernetes. For all others it takes no strategic merge patch.
fn takes_strategic(kind: &Kind) -> bool {
    matches!(kind.group, "" | "discovery.k8s.io")
}

/// A parsed patch.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub(crate) fn read(kind: &Kind, of: BodyType, body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::bad_request(format!("the patch is not valid JSON: {e}")))?;
        match of {
            BodyType::JsonPatch => {
                let patch: json_patch::Patch = serde_json::from_value(value)
                    .map_err(|e| ApiError::bad_request(format!("the body is not a JSON patch: {e}")))?;
                if patch.0.len() > MAX_OPERATIONS {
                    return Err(ApiError::too_large(format!(
                        "the patch has {} operations, at most {MAX_OPERATIONS} are taken",
                        patch.0.len()
                    )));
                }
                Ok(Self::Json(patch))
            }
            BodyType::StrategicPatch if !takes_strategic(kind) => {
                // As Kubernetes has it for resources that are not built in.
                Err(ApiError::media_type("application/strategic-merge-patch+json", ACCEPTED))
            }
            BodyType::StrategicPatch | BodyType::MergePatch if !value.is_object() => {
                Err(ApiError::bad_request("the patch is not an object"))
            }
            BodyType::StrategicPatch => Ok(Self::Strategic(value)),
            BodyType::MergePatch => Ok(Self::Merge(value)),
            _ => Err(ApiError::media_type("", ACCEPTED)),
        }
    }

    pub(crate) fn apply(&self, kind: &'static Kind, name: &str, live: &Value) -> Result<Value, ApiError> {
        let mut object = live.clone();
        match self {
            Self::Json(patch) => {
                json_patch::patch(&mut object, patch).map_err(|e| {
                    let cause = crate::error::Cause {
                        reason: "FieldValueInvalid",
                        field: String::new(),
                        message: format!(
                            "the server rejected our request due to an error in our request: {e}"
                        ),
                    };
                    ApiError::invalid(kind, name, vec![cause])
                })?;
            }
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Strategic(patch) => object = strategic::merge(kind, object, patch)?,
        }
        if object.is_object() { Ok(object) } else { Err(ApiError::bad_request("the patch leaves no object")) }
    }
}
