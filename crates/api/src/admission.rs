//! The way in: every object that a client writes passes `heddle_resource::admit_json`.

use heddle_resource::{
    Admission, AdmitOptions, Diagnostic, Kind, Object, Severity, UnknownFields, admit_json,
};
use serde_json::Value;

use crate::{
    error::{ApiError, Cause},
    query::FieldValidation,
};

/// An object that may be stored, and what its author should know.
pub(crate) struct Admitted {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn admit(
    kind: &'static Kind,
    value: Value,
    namespace: &str,
    validation: FieldValidation,
) -> Result<Admitted, ApiError> {
    let name = crate::meta::text(&value, "name").to_owned();
    let unknown_fields = match validation {
        FieldValidation::Strict => UnknownFields::Refuse,
        FieldValidation::Warn => UnknownFields::Warn,
        FieldValidation::Ignore => UnknownFields::Drop,
    };
    match admit_json(value, &AdmitOptions { unknown_fields, default_namespace: namespace }) {
        Admission::Admitted { object, warnings } => {
            Ok(Admitted { object, warnings: warnings.iter().map(told).collect() })
        }
        Admission::Refused(why) => Err(refused(kind, &name, &why)),
        Admission::NotOurs(why) => Err(ApiError::bad_request(told(&why))),
    }
}

fn refused(kind: &'static Kind, name: &str, why: &[Diagnostic]) -> ApiError {
    let errors = || why.iter().filter(|d| d.severity == Severity::Error);
    if errors().all(is_unknown) {
        let fields: Vec<String> = errors().map(|d| format!("unknown field {:?}", d.field)).collect();
        return ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            kind.kind,
            kind.version,
            kind.kind,
            fields.join(", ")
        ));
    }
    let causes = errors().map(|d| Cause {
        reason: if d.found.is_empty() { "FieldValueRequired" } else { "FieldValueInvalid" },
        field: d.field.clone(),
        message: explained(d),
    });
    ApiError::invalid(kind, name, causes.collect())
}

/// The finding of a field that the schema does not have.
fn is_unknown(diagnostic: &Diagnostic) -> bool {
    diagnostic.code == "HDL0011"
}

/// Message, what was found and expected, in one line.
fn explained(diagnostic: &Diagnostic) -> String {
    let Diagnostic { message, found, expected, code, .. } = diagnostic;
    match (found.is_empty(), expected.is_empty()) {
        (false, false) => format!("{message} (found {found:?}, expected {expected}) [{code}]"),
        (false, true) => format!("{message} (found {found:?}) [{code}]"),
        (true, false) => format!("{message} (expected {expected}) [{code}]"),
        (true, true) => format!("{message} [{code}]"),
    }
}

fn told(diagnostic: &Diagnostic) -> String {
    if is_unknown(diagnostic) {
        return format!("unknown field {:?}", diagnostic.field);
    }
    if diagnostic.field.is_empty() {
        explained(diagnostic)
    } else {
        format!("{}: {}", diagnostic.field, explained(diagnostic))
    }
}
