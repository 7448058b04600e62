//! The three walks of server-side apply: which fields a value has, how two values differ, and one
//! value laid over another.

use serde_json::{Map, Value};

use super::{
    set::{Element, FieldSet},
    shape::{Opened, Shape, item_shape, open},
};

/// The fields that a value sets.
pub(crate) fn field_set(shape: &Shape, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match open(shape, value) {
        Opened::Leaf => set.member = true,
        Opened::Object(fields) => {
            for (name, value) in fields {
                let mut below = field_set(&shape.field(name, value), value);
                let empty = value.as_object().is_some_and(Map::is_empty);
                below.member |= value.is_null() || empty || shape.keys_are_data(name);
                set.graft(Element::Field(name.clone()), below);
            }
        }
        Opened::Items(items) => {
            set.member = items.is_empty();
            for (element, value) in items {
                let mut below = field_set(&item_shape(shape), value);
                below.member = true;
                set.graft(element, below);
            }
        }
    }
    set
}

/// How a value became another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    fn graft(&mut self, element: &Element, below: Self) {
        self.added.graft(element.clone(), below.added);
        self.modified.graft(element.clone(), below.modified);
        self.removed.graft(element.clone(), below.removed);
    }

    pub(crate) fn changed(&self) -> FieldSet {
        self.added.union(&self.modified)
    }
}

pub(crate) fn compare(shape: &Shape, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    match (open(shape, old), open(shape, new)) {
        (Opened::Object(old), Opened::Object(new)) => {
            for (name, value) in old {
                let element = Element::Field(name.clone());
                match new.get(name) {
                    Some(after) => {
                        comparison.graft(&element, compare(&shape.field(name, after), value, after))
                    }
                    None => comparison.removed.graft(element, every(&shape.field(name, value), value)),
                }
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                comparison.added.graft(Element::Field(name.clone()), every(&shape.field(name, value), value));
            }
        }
        (Opened::Items(old), Opened::Items(new)) => {
            let shape = item_shape(shape);
            for (element, value) in &old {
                match new.iter().find(|(e, _)| e == element) {
                    Some((_, after)) => comparison.graft(element, compare(&shape, value, after)),
                    None => comparison.removed.graft(element.clone(), every(&shape, value)),
                }
            }
            for (element, value) in new.iter().filter(|(e, _)| !old.iter().any(|(o, _)| o == e)) {
                comparison.added.graft(element.clone(), every(&shape, value));
            }
        }
        _ if old != new => comparison.modified.member = true,
        _ => {}
    }
    comparison
}

/// Every path of a value that is new as a whole (or gone as a whole): containers too.
pub(super) fn every(shape: &Shape, value: &Value) -> FieldSet {
    let mut set = FieldSet::leaf();
    match open(shape, value) {
        Opened::Leaf => {}
        Opened::Object(fields) => {
            for (name, value) in fields {
                set.graft(Element::Field(name.clone()), every(&shape.field(name, value), value));
            }
        }
        Opened::Items(items) => {
            for (element, value) in items {
                set.graft(element, every(&item_shape(shape), value));
            }
        }
    }
    set
}

/// `over` laid over `under`: where both say something, `over` wins.
pub(crate) fn merge(shape: &Shape, under: &Value, over: &Value) -> Value {
    match (open(shape, under), open(shape, over)) {
        (Opened::Object(below), Opened::Object(above)) => {
            let mut merged = below.clone();
            for (name, value) in above {
                let laid = match below.get(name) {
                    Some(under) => merge(&shape.field(name, value), under, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), laid);
            }
            Value::Object(merged)
        }
        (Opened::Items(below), Opened::Items(above)) => merge_items(&item_shape(shape), &below, &above),
        _ => over.clone(),
    }
}

/// The order is that of `above`; items only below keep their place before the next one in common.
fn merge_items(shape: &Shape, below: &[(Element, &Value)], above: &[(Element, &Value)]) -> Value {
    let only_below = |element: &Element| !above.iter().any(|(e, _)| e == element);
    let mut merged = Vec::with_capacity(below.len().max(above.len()));
    let mut next = 0;
    for (element, value) in above {
        match below.iter().position(|(e, _)| e == element) {
            Some(at) => {
                while next < at {
                    if only_below(&below[next].0) {
                        merged.push(below[next].1.clone());
                    }
                    next += 1;
                }
                next = next.max(at + 1);
                merged.push(merge(shape, below[at].1, value));
            }
            None => merged.push((*value).clone()),
        }
    }
    merged.extend(below[next..].iter().filter(|(e, _)| only_below(e)).map(|(_, v)| (*v).clone()));
    Value::Array(merged)
}

/// Takes the members of `gone` out of a value. Containers and items that are empty afterwards go
/// with them, unless `owned` says that somebody wants them there. `None`: nothing is left.
pub(crate) fn remove(shape: &Shape, value: &Value, gone: &FieldSet, owned: &FieldSet) -> Option<Value> {
    if gone.is_empty() {
        return Some(value.clone());
    }
    let none = FieldSet::default();
    match open(shape, value) {
        Opened::Leaf => (!gone.member).then(|| value.clone()),
        Opened::Object(fields) => {
            let mut left = Map::new();
            for (name, value) in fields {
                let element = Element::Field(name.clone());
                let kept = match gone.child(&element) {
                    Some(gone) => {
                        remove(&shape.field(name, value), value, gone, owned.child(&element).unwrap_or(&none))
                    }
                    None => Some(value.clone()),
                };
                left.extend(kept.map(|value| (name.clone(), value)));
            }
            let emptied = left.is_empty() && (!fields.is_empty() || gone.member);
            (!emptied || !owned.is_empty()).then_some(Value::Object(left))
        }
        Opened::Items(items) => {
            let mut left = Vec::new();
            for (element, value) in &items {
                let kept = match gone.child(element) {
                    Some(gone) => remove_item(shape, value, gone, owned.child(element).unwrap_or(&none)),
                    None => Some((*value).clone()),
                };
                left.extend(kept);
            }
            let emptied = left.is_empty() && (!items.is_empty() || gone.member);
            (!emptied || !owned.is_empty()).then_some(Value::Array(left))
        }
    }
}

/// An item of a list goes whole when nobody owns anything of it any more, with the defaults that the server gave it. It keeps
/// its keys as long as anything else of it stays.
fn remove_item(shape: &Shape, value: &Value, gone: &FieldSet, owned: &FieldSet) -> Option<Value> {
    let Shape::ListMap { keys, item } = shape else { return (!gone.member).then(|| value.clone()) };
    if gone.member && owned.is_empty() {
        return None;
    }
    let mut left = remove(item, value, gone, owned).unwrap_or_else(|| Value::Object(Map::new()));
    let is_key = |name: &str| keys.iter().any(|(key, _)| key == name);
    if let (Some(left), Some(before)) = (left.as_object_mut(), value.as_object()) {
        for (name, value) in before.iter().filter(|(name, _)| is_key(name)) {
            left.insert(name.clone(), value.clone());
        }
    }
    Some(left)
}
