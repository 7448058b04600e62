//! The schema of whole documents, from the one description that `heddle_resource` keeps of each kind:
//! how they merge ([`Shapes`]) and how they read as JSON schema ([`json_schema`]).

use std::collections::BTreeMap;

use heddle_resource::{
    Kind,
    kind::Content,
    kinds,
    schema::{Effect, Field, Schema},
};
use serde_json::{Map, Value, json};

use crate::{apply::Shape, meta, patch};

/// The shape of every kind.
pub(crate) struct Shapes(BTreeMap<&'static Kind, Shape>);

impl Shapes {
    pub(crate) fn build() -> Self {
        Self(kinds().iter().map(|kind| (*kind, document_shape(kind))).collect())
    }

    pub(crate) fn of(&self, kind: &'static Kind) -> &Shape {
        self.0.get(kind).unwrap_or(&Shape::Atomic)
    }
}

/// The fields of a kind's documents besides `apiVersion`, `kind` and `metadata`.
fn content(kind: &Kind) -> Vec<(&'static str, Schema)> {
    let schema = (kind.schema)();
    let mut fields = match (kind.content, schema) {
        (Content::Spec, schema) => vec![("spec", schema)],
        (Content::Document, Schema::Object(fields)) => {
            // None of the top fields is a keyed list, so nothing is lost.
            fields.iter().map(|f| (f.name, f.schema.clone())).collect()
        }
        (Content::Document, _) => Vec::new(),
    };
    if meta::has_status(kind) && !fields.iter().any(|(name, _)| *name == "status") {
        fields.push(("status", Schema::Any));
    }
    fields
}

fn document_shape(kind: &Kind) -> Shape {
    let mut fields = BTreeMap::from([("metadata".to_owned(), Shape::metadata())]);
    for (name, schema) in content(kind) {
        let shape = match schema {
            Schema::Any if name == "status" => any_status(),
            other => shape_of(&other, &[]),
        };
        fields.insert(name.to_owned(), shape);
    }
    Shape::Struct(fields)
}

/// A status that no schema describes still has conditions by type.
fn any_status() -> Shape {
    let item = Box::new(Shape::Struct(BTreeMap::new()));
    let conditions = Shape::ListMap { keys: vec![("type".to_owned(), None)], item };
    Shape::Struct(BTreeMap::from([("conditions".to_owned(), conditions)]))
}

fn shape_of(schema: &Schema, keys: &[&str]) -> Shape {
    match schema {
        Schema::List(item) if !keys.is_empty() => {
            let keys = keys.iter().map(|key| ((*key).to_owned(), default_of(key))).collect();
            Shape::ListMap { keys, item: Box::new(shape_of(item, &[])) }
        }
        Schema::Map(item) => Shape::Map(Box::new(shape_of(item, &[]))),
        Schema::Object(fields) => {
            let told = fields.iter().map(|f| (f.name.to_owned(), shape_of(&f.schema, f.keys)));
            Shape::Struct(told.collect())
        }
        // Kept but not described: merged by key where it is an object.
        Schema::Any => Shape::Struct(BTreeMap::new()),
        _ => Shape::Atomic,
    }
}

/// The value that a list key has when the item does not say it.
fn default_of(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// The JSON schema of a kind's documents (structural, as CRDs have it), without `metadata`.
pub(crate) fn json_schema(kind: &Kind) -> Map<String, Value> {
    let mut properties = Map::new();
    for (name, schema) in content(kind) {
        let mut path = vec![name];
        properties.insert(name.to_owned(), json_of(kind, &schema, &[], &mut path));
    }
    properties
}

fn json_of<'s>(kind: &Kind, schema: &'s Schema, keys: &[&str], path: &mut Vec<&'s str>) -> Value {
    match schema {
        Schema::String => json!({ "type": "string" }),
        Schema::Duration => json!({ "type": "string", "description": "A duration: 1h, 1m, 1s or 1ms." }),
        Schema::Integer => json!({ "type": "integer", "format": "int64" }),
        Schema::Number => json!({ "type": "number", "format": "double" }),
        Schema::Boolean => json!({ "type": "boolean" }),
        Schema::IntOrString => {
            json!({ "type": "string", "format": "int-or-string", "x-kubernetes-int-or-string": true })
        }
        Schema::Any => json!({ "x-kubernetes-preserve-unknown-fields": true }),
        Schema::Enum(values) => json!({ "type": "string", "enum": values }),
        Schema::Map(item) => {
            path.push("*");
            let item = json_of(kind, item, &[], path);
            path.pop();
            json!({ "type": "object", "additionalProperties": item })
        }
        Schema::List(item) => {
            let merge = patch::merge_key(kind, path);
            path.push("*");
            let item = json_of(kind, item, &[], path);
            path.pop();
            let mut list = json!({ "type": "array", "items": item });
            if keys.is_empty() {
                list["x-kubernetes-list-type"] = "atomic".into();
            } else {
                list["x-kubernetes-list-type"] = "map".into();
                list["x-kubernetes-list-map-keys"] = json!(keys);
            }
            if let Some(key) = merge {
                list["x-kubernetes-patch-strategy"] = "merge".into();
                list["x-kubernetes-patch-merge-key"] = key.into();
            }
            list
        }
        Schema::Object(fields) => {
            let mut properties = Map::new();
            for field in fields.iter() {
                path.push(field.name);
                let mut property = json_of(kind, &field.schema, field.keys, path);
                path.pop();
                let doc = described(field);
                if !doc.is_empty() {
                    property["description"] = doc.into();
                }
                properties.insert(field.name.to_owned(), property);
            }
            json!({ "type": "object", "properties": properties })
        }
    }
}

/// The field's documentation, and what it does in this version if it does not act.
fn described(field: &Field) -> String {
    let doc = field.doc.trim();
    let effect = match field.effect {
        Effect::Acts => "",
        Effect::Later => "Not built yet: accepted with a warning.",
        Effect::Denies => "Not built yet: the traffic concerned is denied.",
    };
    [doc, effect].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join(" ")
}
