//! A document against its kind's schema: unknown fields, wrong types, fields that are not built.

use serde_json::Value;

use crate::{
    admit::UnknownFields,
    diagnostic::Diagnostic,
    kind::{Content, Kind},
    schema::{Effect, Field, Schema},
    value::Dur,
};

/// Checks the document's own fields. Core kinds have fields that the mesh does not read (a Pod's containers'
/// volumes): those are kept as they are.
pub(crate) fn fields(kind: &Kind, value: &mut Value, unknown: UnknownFields, findings: &mut Vec<Diagnostic>) {
    let schema = (kind.schema)();
    let mut walk =
        Walk { unknown, lenient: kind.group.is_empty() || kind.group == "discovery.k8s.io", findings };
    match kind.content {
        Content::Spec => {
            walk.top(value, &["spec", "status"]);
            if let Some(spec) = value.get_mut("spec") {
                walk.value(&schema, spec, "spec");
            }
        }
        Content::Document => {
            let Schema::Object(own) = &schema else { return };
            let names: Vec<&str> = own.iter().map(|f| f.name).chain(["status"]).collect();
            walk.top(value, &names);
            for field in own.iter() {
                if let Some(inner) = value.get_mut(field.name) {
                    walk.value(&field.schema, inner, field.name);
                }
            }
        }
    }
}

struct Walk<'f> {
    unknown: UnknownFields,
    lenient: bool,
    findings: &'f mut Vec<Diagnostic>,
}

impl Walk<'_> {
    /// The document's top: `apiVersion`, `kind`, `metadata` and the kind's own names.
    fn top(&mut self, value: &mut Value, own: &[&str]) {
        let Some(object) = value.as_object_mut() else { return };
        let known = |name: &str| ["apiVersion", "kind", "metadata"].contains(&name) || own.contains(&name);
        let strangers: Vec<String> = object.keys().filter(|k| !known(k)).cloned().collect();
        for name in strangers {
            if self.stranger("", &name, own) {
                object.remove(&name);
            }
        }
    }

    fn value(&mut self, schema: &Schema, value: &mut Value, path: &str) {
        if value.is_null() {
            return;
        }
        match (schema, &mut *value) {
            (Schema::Object(fields), Value::Object(object)) => {
                let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
                let strangers: Vec<String> =
                    object.keys().filter(|k| !names.contains(&k.as_str())).cloned().collect();
                for name in strangers {
                    if self.stranger(path, &name, &names) {
                        object.remove(&name);
                    }
                }
                // What is null is absent, as the API conventions have it.
                object.retain(|_, v| !v.is_null());
                for field in fields.iter() {
                    if let Some(inner) = object.get_mut(field.name) {
                        self.field(field, inner, &format!("{path}.{}", field.name));
                    }
                }
            }
            (Schema::List(inner), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(inner, item, &format!("{path}[{index}]"));
                }
            }
            (Schema::Map(inner), Value::Object(entries)) => {
                for (key, entry) in entries.iter_mut() {
                    self.value(inner, entry, &format!("{path}[{key}]"));
                }
            }
            (schema, _) => self.scalar(schema, value, path),
        }
    }

    fn field(&mut self, field: &Field, value: &mut Value, path: &str) {
        self.value(&field.schema, value, path);
        let message = match field.effect {
            Effect::Acts => return,
            Effect::Later => "valid, but not built yet: it has no effect",
            Effect::Denies => "valid, but not built yet: the traffic concerned is denied",
        };
        self.findings.push(Diagnostic::warning("HDL0010", message).on("", path));
    }

    fn scalar(&mut self, schema: &Schema, value: &mut Value, path: &str) {
        let expected = match (schema, &*value) {
            (Schema::Any, _)
            | (Schema::String, Value::String(_))
            | (Schema::Boolean, Value::Bool(_))
            | (Schema::Number, Value::Number(_))
            | (Schema::IntOrString, Value::Number(_) | Value::String(_)) => return,
            (Schema::Integer, Value::Number(n)) if n.is_i64() || n.is_u64() => return,
            // A whole number written as 1.0.
            (Schema::Integer, Value::Number(n))
                if n.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 1e15) =>
            {
                *value = (n.as_f64().unwrap_or_default() as i64).into();
                return;
            }
            (Schema::Duration, Value::String(text)) => match Dur::parse(text) {
                Ok(_) => return,
                Err(_) => "a duration: 1h, 1m, 1s, 1ms".to_owned(),
            },
            (Schema::Enum(names), Value::String(text)) if names.contains(&text.as_str()) => return,
            (Schema::Enum(names), _) => format!("one of {}", names.join(", ")),
            (Schema::String, _) => "a string".to_owned(),
            (Schema::Boolean, _) => "true or false".to_owned(),
            (Schema::Number, _) => "a number".to_owned(),
            (Schema::Integer, _) => "a whole number".to_owned(),
            (Schema::IntOrString, _) => "a number or a string".to_owned(),
            (Schema::Duration, _) => "a duration: 1h, 1m, 1s, 1ms".to_owned(),
            (Schema::List(_), _) => "a list".to_owned(),
            (Schema::Map(_) | Schema::Object(_), _) => "an object".to_owned(),
        };
        let mut found = value.to_string();
        if found.len() > 80 {
            found = found.chars().take(77).collect::<String>() + "...";
        }
        self.findings
            .push(Diagnostic::error("HDL0008", "wrong type of value").on("", path).found(found, expected));
    }

    /// True when the field is to be dropped.
    fn stranger(&mut self, path: &str, name: &str, known: &[&str]) -> bool {
        if self.lenient {
            return false;
        }
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let expected = match nearest(name, known) {
            Some(near) => format!("perhaps `{near}`"),
            None => format!("one of {}", known.join(", ")),
        };
        let finding = |severity| {
            Diagnostic::new("HDL0011", severity, "unknown field")
                .on("", full.as_str())
                .found(name, expected.as_str())
        };
        use crate::diagnostic::Severity;
        match self.unknown {
            UnknownFields::Refuse => self.findings.push(finding(Severity::Error)),
            UnknownFields::Warn => self.findings.push(finding(Severity::Warning)),
            UnknownFields::Drop => {}
        }
        true
    }
}

/// The known name within two edits of `name`.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = name.to_lowercase();
    known
        .iter()
        .map(|k| (distance(&lower, &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= 2 && *d < k.len())
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A field of an object that is valid and not built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbuilt {
    pub field: String,
    /// It restricts, encrypts or limits: the traffic concerned is denied.
    pub denies: bool,
}

impl crate::object::Object {
    /// The fields of this object that are valid and not built, in the order of the document.
    pub fn unbuilt(&self) -> Vec<Unbuilt> {
        let mut findings = Vec::new();
        let mut value = (*self.json).clone();
        fields(self.kind, &mut value, UnknownFields::Drop, &mut findings);
        findings
            .into_iter()
            .filter(|d| d.code == "HDL0010")
            .map(|d| Unbuilt { denies: d.message.ends_with("denied"), field: d.field })
            .collect()
    }
}
