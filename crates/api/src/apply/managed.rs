//! `metadata.managedFields`: who set which fields, and how.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{merge::every, set::FieldSet, shape::Shape};

/// How a manager writes. Two ways of one program are two managers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    /// Server-side apply; else an update of any other kind.
    pub(crate) applies: bool,
    pub(crate) api_version: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) fields: FieldSet,
    /// RFC 3339.
    pub(crate) time: String,
}

/// The managers of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Managers(pub(crate) BTreeMap<Manager, Managed>);

impl Managers {
    /// `None` when the text is not as the API writes it.
    pub(crate) fn decode(entries: &Value) -> Option<Self> {
        let mut managers = BTreeMap::new();
        for entry in entries.as_array()? {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let applies = match text("operation").as_str() {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            let manager = Manager {
                name: text("manager"),
                applies,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            let fields = match entry.get("fieldsV1") {
                Some(fields) => FieldSet::from_fields_v1(fields)?,
                None => FieldSet::default(),
            };
            managers.insert(manager, Managed { fields, time: text("time") });
        }
        Some(Self(managers))
    }

    /// Of an object; empty when it has none that can be read.
    pub(crate) fn of(object: &Value) -> Self {
        object.get("metadata").and_then(|m| m.get("managedFields")).and_then(Self::decode).unwrap_or_default()
    }

    pub(crate) fn encode(&self) -> Value {
        let mut entries: Vec<_> = self.0.iter().collect();
        // Appliers first, then by time, as clients are used to see them.
        entries.sort_by(|(a, x), (b, y)| {
            (!a.applies, &x.time, &a.name, &a.subresource).cmp(&(
                !b.applies,
                &y.time,
                &b.name,
                &b.subresource,
            ))
        });
        entries.into_iter().map(|(manager, managed)| entry(manager, managed)).collect()
    }

    /// What anybody owns.
    pub(crate) fn all(&self) -> FieldSet {
        self.0.values().fold(FieldSet::default(), |all, managed| all.union(&managed.fields))
    }

    /// Without fields that the object does not have: admission drops what it was told to ignore.
    pub(crate) fn present(mut self, shape: &Shape, object: &Value) -> Self {
        let there = every(shape, object);
        for managed in self.0.values_mut() {
            managed.fields = managed.fields.intersection(&there);
        }
        self.drop_empty();
        self
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|_, managed| !managed.fields.is_empty());
    }
}

fn entry(manager: &Manager, managed: &Managed) -> Value {
    let mut entry = json!({
        "manager": manager.name,
        "operation": if manager.applies { "Apply" } else { "Update" },
        "apiVersion": manager.api_version,
        "time": managed.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": managed.fields.to_fields_v1(),
    });
    if !manager.subresource.is_empty() {
        entry["subresource"] = manager.subresource.as_str().into();
    }
    entry
}
