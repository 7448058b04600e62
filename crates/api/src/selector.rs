//! Label and field selectors.

use std::collections::BTreeMap;

use heddle_resource::Object;
use serde_json::Value;

use crate::error::ApiError;

/// A conjunction of requirements on labels. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Above(String, i64),
    Below(String, i64),
}

impl LabelSelector {
    /// `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>3`
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Requirement::parse)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse requirement: labelSelector {text:?}"))
            })
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        if let Some(key) = text.strip_prefix('!') {
            return Some(Self::Absent(label_key(key)?));
        }
        if let Some((head, set)) = text.split_once('(') {
            let values = set.trim_end().strip_suffix(')')?.split(',').map(|v| label_value(v.trim()));
            let values = values.collect::<Option<Vec<_>>>()?;
            let mut words = head.split_whitespace();
            let key = label_key(words.next()?)?;
            let operator = words.next()?;
            return match (operator, words.next()) {
                ("in", None) => Some(Self::In(key, values)),
                ("notin", None) => Some(Self::NotIn(key, values)),
                _ => None,
            };
        }
        if let Some((key, value)) = text.split_once("!=") {
            return Some(Self::NotIn(label_key(key)?, vec![label_value(value.trim())?]));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Some(Self::In(label_key(key)?, vec![label_value(value.trim())?]));
        }
        if let Some((key, value)) = text.split_once('>') {
            return Some(Self::Above(label_key(key)?, value.trim().parse().ok()?));
        }
        if let Some((key, value)) = text.split_once('<') {
            return Some(Self::Below(label_key(key)?, value.trim().parse().ok()?));
        }
        Some(Self::Exists(label_key(text)?))
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
            Self::Above(key, bound) => number(labels, key).is_some_and(|n| n > *bound),
            Self::Below(key, bound) => number(labels, key).is_some_and(|n| n < *bound),
        }
    }
}

fn number(labels: &BTreeMap<String, String>, key: &str) -> Option<i64> {
    labels.get(key)?.parse().ok()
}

fn label_key(text: &str) -> Option<String> {
    let key = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    (!key.is_empty() && key.chars().all(plain)).then(|| key.to_owned())
}

fn label_value(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(plain).then(|| text.to_owned())
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A conjunction of equalities on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// `metadata.name=x,metadata.namespace!=y`, and the paths that `selectable` allows besides.
    pub(crate) fn parse(text: &str, selectable: &[&str]) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|t| !t.is_empty()) {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (field, true, value)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid field selector {term:?}: expected FIELD=VALUE"
                )));
            };
            if !matches!(field, "metadata.name" | "metadata.namespace") && !selectable.contains(&field) {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            terms.push((field.to_owned(), equal, unescape(value)));
        }
        Ok(Self(terms))
    }

    /// True when it reads nothing that changes.
    fn is_of_names(&self) -> bool {
        self.0.iter().all(|(field, _, _)| field.starts_with("metadata."))
    }

    pub(crate) fn matches(&self, json: &Value) -> bool {
        self.0.iter().all(|(field, equal, wanted)| {
            let found = field.split('.').try_fold(json, |value, step| value.get(step));
            (found.and_then(Value::as_str).unwrap_or_default() == wanted) == *equal
        })
    }
}

/// Splits at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `\\`, `\,` and `\=` stand for themselves.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// `None`: all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    /// True when the object is in the namespace asked for.
    pub(crate) fn concerns(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|n| n == &*object.meta.namespace)
    }

    /// True when an object matches all its life or never.
    pub(crate) fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.fields.is_of_names()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.concerns(object)
            && (self.labels.is_empty() || self.labels.matches(&object.meta.labels))
            && self.fields.matches(&object.json)
    }
}

#[cfg(test)]
#[path = "selector_test.rs"]
mod selector_test;
