//! A document against its kind's schema: unknown fields, wrong types, missing fields, fields that are not built.

use serde_json::{Map, Value};

use crate::{
    admit::UnknownFields,
    diagnostic::{self, Diagnostic, Severity},
    kind::{Content, Kind},
    schema::{Effect, Field, Schema},
    value::Dur,
};

const LATER: &str = "valid, but not built yet: it has no effect";
const DENIES: &str = "valid, but not built yet: the traffic concerned is denied";

/// Checks the document's own fields. Core kinds have fields that the mesh does not read (a Pod's containers'
/// volumes): those are kept as they are.
pub(crate) fn fields(kind: &Kind, value: &mut Value, unknown: UnknownFields, findings: &mut Vec<Diagnostic>) {
    let lenient = kind.group.is_empty() || kind.group == "discovery.k8s.io";
    let mut walk = Walk { unknown, lenient, findings };
    let Some(document) = value.as_object_mut() else { return };
    let schema = (kind.schema)();
    let Schema::Object(own) = &schema else { return };
    match kind.content {
        Content::Spec => {
            walk.strangers(document, "", &[&HEAD[..], &["spec", "status"]].concat());
            if let Some(spec) = document.get_mut("spec") {
                walk.value(&Place::bare(&schema), spec, "spec");
            }
        }
        Content::Document => {
            let names: Vec<&str> =
                HEAD.into_iter().chain(own.iter().map(|f| f.name)).chain(["status"]).collect();
            walk.strangers(document, "", &names);
            // A status is the control plane's own writing; nobody is warned about it.
            walk.fields(own, document, "", Effect::Acts);
        }
    }
}

const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What is known of a value from the field it stands in.
#[derive(Clone, Copy)]
struct Place<'s> {
    schema: &'s Schema,
    field: Option<&'s Field>,
    /// What has been said of the fields around it already.
    said: Effect,
}

impl<'s> Place<'s> {
    fn bare(schema: &'s Schema) -> Self {
        Self { schema, field: None, said: Effect::Acts }
    }

    fn inner(self, schema: &'s Schema) -> Self {
        Self { schema, ..self }
    }
}

struct Walk<'f> {
    unknown: UnknownFields,
    lenient: bool,
    findings: &'f mut Vec<Diagnostic>,
}

impl Walk<'_> {
    fn value(&mut self, place: &Place<'_>, value: &mut Value, path: &str) {
        match (place.schema, &mut *value) {
            (Schema::Object(fields), Value::Object(object)) => {
                let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
                self.strangers(object, path, &names);
                self.fields(fields, object, path, place.said);
            }
            (Schema::List(item), Value::Array(items)) => {
                for (index, value) in items.iter_mut().enumerate() {
                    self.value(&place.inner(item), value, &format!("{path}[{index}]"));
                }
            }
            (Schema::Map(item), Value::Object(entries)) => {
                for (key, value) in entries.iter_mut() {
                    self.value(&place.inner(item), value, &format!("{path}[{key}]"));
                }
            }
            _ => self.scalar(place, value, path),
        }
    }

    fn fields(&mut self, fields: &[Field], object: &mut Map<String, Value>, path: &str, said: Effect) {
        for field in fields {
            // What is null is absent, as the API conventions have it.
            if object.get(field.name).is_some_and(Value::is_null) {
                object.remove(field.name);
            }
            let inner_path = join(path, field.name);
            let Some(value) = object.get_mut(field.name) else {
                if field.required {
                    self.report(Diagnostic::error("HDL0013", "the field must be there"), &inner_path);
                }
                continue;
            };
            let place = Place { schema: &field.schema, field: Some(field), said: said.max(field.effect) };
            if field.effect > said && !says_nothing(value) {
                self.unbuilt(field.effect, &inner_path, "");
            }
            self.value(&place, value, &inner_path);
        }
    }

    fn scalar(&mut self, place: &Place<'_>, value: &mut Value, path: &str) {
        match mismatch(place, value) {
            None => {
                let (Some(field), Some(word)) = (place.field, value.as_str()) else { return };
                let effect = field.effect_of(word);
                if effect > place.said {
                    self.unbuilt(effect, path, word);
                }
            }
            Some(expected) => {
                let mut found = value.to_string();
                if found.len() > 80 {
                    found = found.chars().take(77).collect::<String>() + "...";
                }
                let wrong = Diagnostic::error("HDL0008", "wrong type of value");
                self.report(wrong.found(found, expected), path);
            }
        }
    }

    fn unbuilt(&mut self, effect: Effect, path: &str, word: &str) {
        let finding = match effect {
            Effect::Acts => return,
            Effect::Later => Diagnostic::warning("HDL0010", LATER),
            Effect::Denies => Diagnostic::warning("HDL0012", DENIES),
        };
        self.report(finding.found(word, ""), path);
    }

    fn report(&mut self, finding: Diagnostic, path: &str) {
        diagnostic::add(self.findings, finding.on("", path));
    }

    /// Reports the fields that nobody knows, and drops them.
    fn strangers(&mut self, object: &mut Map<String, Value>, path: &str, known: &[&str]) {
        if self.lenient {
            return;
        }
        let strangers: Vec<String> =
            object.keys().filter(|k| !known.contains(&k.as_str())).cloned().collect();
        for name in strangers {
            object.remove(&name);
            let expected = match nearest(&name, known) {
                Some(near) => format!("perhaps `{near}`"),
                None => format!("one of {}", known.join(", ")),
            };
            let severity = match self.unknown {
                UnknownFields::Refuse => Severity::Error,
                UnknownFields::Warn => Severity::Warning,
                UnknownFields::Drop => continue,
            };
            let finding = Diagnostic::new("HDL0011", severity, "unknown field");
            self.report(finding.found(name.as_str(), expected), &join(path, &name));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether a value is what the field would be if it were left out.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Number(_) | Value::Object(_) => false,
    }
}

/// What was expected, if the value is something else. Whole numbers written as 1.0 become integers.
fn mismatch(place: &Place<'_>, value: &mut Value) -> Option<String> {
    let expected = match (place.schema, &*value) {
        (Schema::Any, _)
        | (Schema::Boolean, Value::Bool(_))
        | (Schema::Number, Value::Number(_))
        | (Schema::IntOrString, Value::Number(_) | Value::String(_)) => return None,
        (Schema::Integer, Value::Number(number)) => {
            let whole = number
                .as_i64()
                .or_else(|| number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64));
            let range = place.field.and_then(|f| f.range).unwrap_or((i64::MIN, i64::MAX));
            match whole {
                Some(whole) if (range.0..=range.1).contains(&whole) => {
                    *value = whole.into();
                    return None;
                }
                Some(_) => format!("{} to {}", range.0, range.1),
                None => "a whole number".to_owned(),
            }
        }
        (Schema::String, Value::String(text)) => {
            let words = place.field.map_or(&[][..], |f| f.one_of);
            if words.is_empty() || text.is_empty() || words.contains(&text.as_str()) {
                return None;
            }
            format!("one of {}", words.join(", "))
        }
        (Schema::Duration, Value::String(text)) if Dur::parse(text).is_ok() => return None,
        (Schema::Enum(names), Value::String(text)) if names.contains(&text.as_str()) => return None,
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
    Some(expected)
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
    /// The fields of this object that are valid and not built, in the order of the schema. Fields inside a field
    /// that is not built are not named again.
    pub fn unbuilt(&self) -> Vec<Unbuilt> {
        let mut findings = Vec::new();
        let mut value = (*self.json).clone();
        fields(self.kind, &mut value, UnknownFields::Drop, &mut findings);
        // Some values of a field that acts are not built.
        crate::validate::object(self, &mut findings);
        findings
            .into_iter()
            .filter(|d| matches!(d.code, "HDL0010" | "HDL0012"))
            .map(|d| Unbuilt { denies: d.code == "HDL0012", field: d.field })
            .collect()
    }
}
