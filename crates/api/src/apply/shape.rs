//! How values of a kind are merged: which parts are atomic, which lists are maps or sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::Element;

/// The structure of a value as far as merging is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Replaced as a whole: scalars, atomic lists, atomic objects.
    Atomic,
    /// Field by field; fields not listed are [`Shape::deduced`].
    Struct(BTreeMap<String, Shape>),
    /// Key by key, all values of one shape.
    Map(Box<Shape>),
    /// A list whose items are told apart by keys, each with the value it has when absent.
    ListMap { keys: Vec<(String, Option<Value>)>, item: Box<Shape> },
    /// A list of distinct scalars.
    ListSet,
}

impl Shape {
    /// Of a value that no schema describes: objects by key, everything else whole.
    pub(crate) fn deduced(value: &Value) -> Self {
        if value.is_object() { Self::Struct(BTreeMap::new()) } else { Self::Atomic }
    }

    /// The shape below a field of an object of this shape.
    pub(crate) fn field(&self, name: &str, value: &Value) -> Self {
        match self {
            Self::Struct(fields) => fields.get(name).cloned().unwrap_or_else(|| Self::deduced(value)),
            Self::Map(item) => (**item).clone(),
            _ => Self::deduced(value),
        }
    }

    /// True when a key in an object of this shape is data and not part of the schema.
    pub(crate) fn keys_are_data(&self, name: &str) -> bool {
        match self {
            Self::Struct(fields) => !fields.contains_key(name),
            _ => true,
        }
    }

    /// `metadata`, the same for every kind.
    pub(crate) fn metadata() -> Self {
        let key = |name: &str| vec![(name.to_owned(), None)];
        let owner = Self::ListMap { keys: key("uid"), item: Box::new(Self::Struct(BTreeMap::new())) };
        Self::Struct(BTreeMap::from([
            ("labels".to_owned(), Self::Map(Box::new(Self::Atomic))),
            ("annotations".to_owned(), Self::Map(Box::new(Self::Atomic))),
            ("finalizers".to_owned(), Self::ListSet),
            ("ownerReferences".to_owned(), owner),
            ("name".to_owned(), Self::Atomic),
            ("namespace".to_owned(), Self::Atomic),
            ("generateName".to_owned(), Self::Atomic),
        ]))
    }
}

/// A value opened up by its shape.
pub(crate) enum Opened<'v> {
    Leaf,
    Object(&'v Map<String, Value>),
    /// Items by their element, in order.
    Items(Vec<(Element, &'v Value)>),
}

/// Opens a value for merging item by item. Lists with doubled or unkeyed items, and values of
/// another type than the shape says, are leaves.
pub(crate) fn open<'v>(shape: &Shape, value: &'v Value) -> Opened<'v> {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => Opened::Object(fields),
        (Shape::ListMap { keys, .. }, Value::Array(items)) => {
            let keyed =
                items.iter().map(|item| Some((key_of(keys, item)?, item))).collect::<Option<Vec<_>>>();
            keyed.filter(|items| distinct(items)).map_or(Opened::Leaf, Opened::Items)
        }
        (Shape::ListSet, Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| (Element::Value(item.to_string()), item)).collect();
            if distinct(&items) { Opened::Items(items) } else { Opened::Leaf }
        }
        _ => Opened::Leaf,
    }
}

fn key_of(keys: &[(String, Option<Value>)], item: &Value) -> Option<Element> {
    let item = item.as_object()?;
    let mut found = Map::new();
    for (key, default) in keys {
        match item.get(key).filter(|v| !v.is_null()).or(default.as_ref()) {
            Some(value) => {
                found.insert(key.clone(), value.clone());
            }
            None if keys.len() > 1 => {}
            None => return None,
        }
    }
    (!found.is_empty()).then(|| Element::Key(Value::Object(found).to_string()))
}

fn distinct(items: &[(Element, &Value)]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    items.iter().all(|(element, _)| seen.insert(element))
}

/// The shape of an item of a list.
pub(crate) fn item_shape(shape: &Shape) -> Shape {
    match shape {
        Shape::ListMap { item, .. } => (**item).clone(),
        _ => Shape::Atomic,
    }
}
