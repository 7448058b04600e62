//! From what a writer wants to an object that may be stored.

use heddle_resource::Object;
use serde_json::Value;

use crate::{
    admission::{self, Admitted},
    apply::{FieldConflict, Managers},
    defaults,
    edit::{Proposal, Target},
    error::{ApiError, Cause},
    meta,
    query::WriteOptions,
    version,
};

/// An update that passed admission; its managed fields are still to be set.
pub(crate) struct Prepared {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
    /// The managed fields that the writer gave.
    pub(crate) given: Option<Value>,
    pub(crate) managers: Option<Managers>,
}

pub(crate) fn prepare(
    target: &Target,
    live: &Object,
    proposal: Proposal,
    options: &WriteOptions,
) -> Result<Prepared, ApiError> {
    let Proposal { object: mut value, managers } = proposal;
    if managers.is_some() {
        version::stamp(target.kind, target.kind.version, &mut value);
    } else {
        version::to_storage(target.kind, target.version, &mut value)?;
    }
    settle_namespace(target, &mut value)?;
    defaults::complete(target.kind, &mut value);
    meta::prepare_update(live, &mut value, &target.subresource)?;
    let given = value.get("metadata").and_then(|m| m.get("managedFields")).cloned();
    let Admitted { object, warnings } =
        admission::admit(target.kind, value, &target.namespace, options.validation)?;
    Ok(Prepared { object, warnings, given, managers })
}

/// The namespace comes from the path; a body that says another is refused.
pub(crate) fn settle_namespace(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let metadata = meta::of(object)?;
    let stated = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !stated.is_empty() && stated != target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if target.namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), target.namespace.as_str().into());
    }
    Ok(())
}

/// What a client wrote into `managedFields` comes through admission untouched.
pub(crate) fn restore_managed(json: &mut Value, given: Option<Value>) -> Result<(), ApiError> {
    let metadata = meta::of(json)?;
    match given {
        Some(given) => metadata.insert("managedFields".to_owned(), given),
        None => metadata.remove("managedFields"),
    };
    Ok(())
}

pub(crate) fn set_managed(json: &mut Value, managers: &Managers) -> Result<(), ApiError> {
    let metadata = meta::of(json)?;
    if managers.0.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), managers.encode());
    }
    Ok(())
}

/// The refusal of an apply that would overwrite what others own.
pub(crate) fn contested(target: &Target, conflicts: &[FieldConflict]) -> ApiError {
    let who = |c: &FieldConflict| {
        let sub = if c.manager.subresource.is_empty() {
            String::new()
        } else {
            format!(" with subresource {:?}", c.manager.subresource)
        };
        format!("{:?}{sub} using {}", c.manager.name, c.manager.api_version)
    };
    let causes = conflicts.iter().map(|c| Cause {
        reason: "FieldManagerConflict",
        field: c.field.clone(),
        message: format!("conflict with {}", who(c)),
    });
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", who(one), one.field),
        many => {
            let mut text = format!("Apply failed with {} conflicts:", many.len());
            let mut last = String::new();
            for conflict in many {
                let by = who(conflict);
                if by != last {
                    text.push_str(&format!(" conflicts with {by}:"));
                    last = by;
                }
                text.push_str(&format!("\n- {}", conflict.field));
            }
            text
        }
    };
    ApiError::new(http::StatusCode::CONFLICT, "Conflict", message)
        .about(target.kind, &target.name)
        .because(causes.collect())
}
