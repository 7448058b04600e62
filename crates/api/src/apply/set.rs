//! Sets of field paths, and their JSON form `FieldsV1`.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of a list that is a map, by its keys as canonical JSON.
    Key(String),
    /// An item of a list that is a set, as JSON.
    Value(String),
    /// An item of a list by position: only in entries that others wrote.
    Index(u64),
}

impl Element {
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (tag, rest) = text.split_once(':')?;
        // Read and printed again, so that the order of keys and the spacing are ours.
        let canonical = || serde_json::from_str::<Value>(rest).ok().map(|v| v.to_string());
        match tag {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => canonical().map(Self::Key),
            "v" => canonical().map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }
}

/// `.field`, `[port=80,protocol="TCP"]`, `[="x"]`, as conflicts name them.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let told: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", told.join(","))
            }
        }
    }
}

/// A set of paths: a tree whose nodes may themselves be members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    pub(crate) member: bool,
    pub(crate) children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    pub(crate) fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub(crate) fn child(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    /// Puts a subtree below; an empty one leaves no trace.
    pub(crate) fn graft(&mut self, element: Element, set: Self) {
        if !set.is_empty() {
            self.children.insert(element, set);
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.member |= other.member;
        for (element, set) in &other.children {
            let merged = all.children.get(element).map_or_else(|| set.clone(), |mine| mine.union(set));
            all.graft(element.clone(), merged);
        }
        all
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut common = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (element, set) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                common.graft(element.clone(), set.intersection(theirs));
            }
        }
        common
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut rest = Self { member: self.member && !other.member, children: BTreeMap::new() };
        for (element, set) in &self.children {
            let left =
                other.children.get(element).map_or_else(|| set.clone(), |theirs| set.difference(theirs));
            rest.graft(element.clone(), left);
        }
        rest
    }

    /// Every member, as conflicts print it.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths(&mut String::new(), &mut out);
        out
    }

    fn collect_paths(&self, prefix: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(prefix.clone());
        }
        for (element, set) in &self.children {
            let length = prefix.len();
            prefix.push_str(&element.to_string());
            set.collect_paths(prefix, out);
            prefix.truncate(length);
        }
    }

    pub(crate) fn to_fields_v1(&self) -> Value {
        let mut fields = Map::new();
        for (element, set) in &self.children {
            let mut below = set.to_fields_v1();
            if set.member
                && !set.children.is_empty()
                && let Some(below) = below.as_object_mut()
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(element.text(), below);
        }
        Value::Object(fields)
    }

    /// `None` for what is not `FieldsV1`.
    pub(crate) fn from_fields_v1(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let mut set = Self::default();
        for (text, below) in fields {
            if text == "." {
                set.member = true;
                continue;
            }
            let mut child = Self::from_fields_v1(below)?;
            if child.children.is_empty() {
                child.member = true;
            }
            set.graft(Element::parse(text)?, child);
        }
        Some(set)
    }

    /// Without one of the branches.
    pub(crate) fn without(mut self, path: &[&str]) -> Self {
        self.prune(path);
        self
    }

    fn prune(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&element);
        } else if let Some(child) = self.children.get_mut(&element) {
            child.prune(rest);
            if child.is_empty() {
                self.children.remove(&element);
            }
        }
    }
}
