//! Admission: the only validation there is. Files, the API, the stores and `heddle analyze` all call it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    check,
    diagnostic::{Diagnostic, Severity},
    document::Document,
    elsewhere::{Absence, absence},
    kind::{Content, Kind},
    object::{Meta, Object},
    validate,
};

/// What becomes of a field that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    Refuse,
    /// Dropped with a warning.
    Warn,
    /// Dropped.
    Drop,
}

#[derive(Clone, Copy, Debug)]
pub struct AdmitOptions<'o> {
    pub unknown_fields: UnknownFields,
    /// The namespace of a namespaced object that names none.
    pub default_namespace: &'o str,
}

impl Default for AdmitOptions<'_> {
    fn default() -> Self {
        Self { unknown_fields: UnknownFields::Refuse, default_namespace: "default" }
    }
}

/// The verdict on one document.
#[derive(Clone, Debug)]
pub enum Admission {
    Admitted {
        object: Object,
        warnings: Vec<Diagnostic>,
    },
    Refused(Vec<Diagnostic>),
    /// A kind that is not read: a warning.
    NotOurs(Diagnostic),
}

impl Admission {
    pub fn object(self) -> Option<Object> {
        match self {
            Self::Admitted { object, .. } => Some(object),
            _ => None,
        }
    }

    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Admitted { warnings, .. } => warnings,
            Self::Refused(errors) => errors,
            Self::NotOurs(warning) => std::slice::from_ref(warning),
        }
    }
}

/// Judges a document that came as JSON.
pub fn admit_json(value: Value, options: &AdmitOptions<'_>) -> Admission {
    admit(&Document::from_json(value), options)
}

/// Judges one document.
pub fn admit(document: &Document, options: &AdmitOptions<'_>) -> Admission {
    let kind = match find_kind(document) {
        Ok(kind) => kind,
        Err(verdict) => return *verdict,
    };
    let mut value = document.value.clone();
    let mut findings = Vec::new();
    let meta = metadata(kind, &mut value, options, &mut findings);
    check::fields(kind, &mut value, options.unknown_fields, &mut findings);
    let object =
        if has_error(&findings) { None } else { read(kind, meta.clone(), value, document, &mut findings) };
    if let Some(object) = &object {
        validate::object(object, &mut findings);
    }
    let name = name_of(kind, &meta);
    let findings = findings.into_iter().map(|d| placed(d, &name, document)).collect::<Vec<_>>();
    match object {
        Some(object) if !has_error(&findings) => Admission::Admitted { object, warnings: findings },
        _ => Admission::Refused(findings),
    }
}

fn has_error(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|d| d.severity == Severity::Error)
}

fn placed(mut finding: Diagnostic, object: &str, document: &Document) -> Diagnostic {
    if finding.object.is_empty() {
        object.clone_into(&mut finding.object);
    }
    let place = document.place(&finding.field);
    finding.at(place)
}

fn name_of(kind: &Kind, meta: &Meta) -> String {
    if meta.namespace.is_empty() {
        format!("{} {}", kind.kind, meta.name)
    } else {
        format!("{} {}/{}", kind.kind, meta.namespace, meta.name)
    }
}

fn find_kind(document: &Document) -> Result<&'static Kind, Box<Admission>> {
    let refuse = |d: Diagnostic| Box::new(Admission::Refused(vec![d.at(document.source.clone())]));
    let text = |field: &str| document.value.get(field).and_then(Value::as_str).unwrap_or_default();
    if !document.value.is_object() {
        return Err(refuse(
            Diagnostic::error("HDL0003", "the document is no object").found("", "apiVersion, kind, metadata"),
        ));
    }
    let (api_version, name) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() || name.is_empty() {
        let missing = if name.is_empty() { "kind" } else { "apiVersion" };
        return Err(refuse(Diagnostic::error("HDL0003", format!("the document has no `{missing}`"))));
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let Some(kind) = Kind::find(group, name) else {
        return Err(Box::new(stranger(document, group, name, api_version)));
    };
    if !kind.served.contains(&version) {
        let served: Vec<String> = kind.served.iter().map(|v| kind.api_version_of(v)).collect();
        return Err(refuse(
            Diagnostic::error("HDL0005", format!("{name} is not served in this version"))
                .on(name, "apiVersion")
                .found(api_version, served.join(" or ")),
        ));
    }
    Ok(kind)
}

/// The verdict on a kind that is not in the table.
fn stranger(document: &Document, group: &str, name: &str, api_version: &str) -> Admission {
    let what = match absence(group, name) {
        Some(Absence::Unprotected) => {
            let object = document.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let message =
                "not built yet, and it restricts or encrypts: refused, because nothing would enforce it";
            let what = Diagnostic::error("HDL0014", message)
                .on(format!("{name} {object}"), "kind")
                .found(format!("{name} ({api_version})"), "");
            return Admission::Refused(vec![what.at(document.place("kind"))]);
        }
        Some(Absence::Harmless) => Diagnostic::warning(
            "HDL0015",
            format!("{name} ({api_version}) is not built yet: it has no effect"),
        ),
        None => Diagnostic::warning(
            "HDL0004",
            format!("{name} ({api_version}) is no kind of the mesh; left alone"),
        ),
    };
    Admission::NotOurs(what.at(document.source.clone()))
}

/// Reads the metadata, sets the namespace, and writes the storage version.
fn metadata(
    kind: &'static Kind,
    value: &mut Value,
    options: &AdmitOptions<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Meta {
    let Some(document) = value.as_object_mut() else { return Meta::default() };
    document.insert("apiVersion".to_owned(), kind.api_version().into());
    let metadata = document.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        if kind.namespaced {
            let named = metadata.get("namespace").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
            if !named {
                metadata.insert("namespace".to_owned(), options.default_namespace.into());
            }
        } else {
            metadata.remove("namespace");
        }
    }
    let meta: Meta = match serde_json::from_value(metadata.clone()) {
        Ok(meta) => meta,
        Err(error) => {
            findings.push(
                Diagnostic::error("HDL0006", format!("the metadata is not readable: {error}"))
                    .on("", "metadata"),
            );
            return Meta::default();
        }
    };
    let generated = metadata.get("generateName").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    if !(meta.name.is_empty() && generated) {
        check_name(&meta.name, "metadata.name", findings);
    }
    if kind.namespaced {
        check_name(&meta.namespace, "metadata.namespace", findings);
    }
    meta
}

/// A DNS subdomain (RFC 1123), as Kubernetes asks of names.
fn check_name(name: &str, field: &str, findings: &mut Vec<Diagnostic>) {
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let expected = "lower-case letters, digits, `-` and `.`, at most 253, beginning and ending with a letter or digit";
        findings.push(Diagnostic::error("HDL0007", "not a usable name").on("", field).found(name, expected));
    }
}

fn read(
    kind: &'static Kind,
    meta: Meta,
    value: Value,
    document: &Document,
    findings: &mut Vec<Diagnostic>,
) -> Option<Object> {
    match kind.read(&value) {
        Ok(spec) => Some(Object { kind, meta, spec, json: Arc::new(value), source: document.source.clone() }),
        Err(error) => {
            let field = if kind.content == Content::Spec { "spec" } else { "" };
            findings.push(Diagnostic::error("HDL0009", error.to_string()).on("", field));
            None
        }
    }
}
