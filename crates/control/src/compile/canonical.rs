//! Encoding of messages that hold maps, always in one order.
//!
//! The generated messages keep maps in hash order, which differs from run to run, while versions are
//! hashes of the bytes. Maps are therefore written here, by key; the rest is appended as the generated
//! code writes it (protobuf takes fields in any order).

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::config::route::v3::{Route, VirtualHost},
    google::protobuf::Any,
};
use heddle_resource::ObjectRef;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use serde_json::Value;

/// Appends a length-delimited field.
pub(crate) fn field(into: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + value.len() + 8);
    field(&mut bytes, 1, key.as_bytes());
    field(&mut bytes, 2, value);
    bytes
}

/// `google.protobuf.Struct`.
pub(crate) fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Vec<u8> {
    let sorted: BTreeMap<_, _> = fields.into_iter().collect();
    let mut bytes = Vec::new();
    for (key, value) in sorted {
        field(&mut bytes, 1, &entry(key, &self::value(value)));
    }
    bytes
}

/// `google.protobuf.Value`.
fn value(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Null => {
            encode_key(1, WireType::Varint, &mut bytes);
            encode_varint(0, &mut bytes);
        }
        Value::Number(number) => {
            encode_key(2, WireType::SixtyFourBit, &mut bytes);
            bytes.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
        }
        Value::String(text) => field(&mut bytes, 3, text.as_bytes()),
        Value::Bool(flag) => {
            encode_key(4, WireType::Varint, &mut bytes);
            encode_varint(u64::from(*flag), &mut bytes);
        }
        Value::Object(map) => {
            field(&mut bytes, 5, &structure(map.iter().map(|(key, value)| (key.as_str(), value))));
        }
        Value::Array(list) => {
            let mut values = Vec::new();
            for item in list {
                field(&mut values, 1, &self::value(item));
            }
            field(&mut bytes, 6, &values);
        }
    }
    bytes
}

/// `envoy.config.core.v3.Metadata` with one `filter_metadata` entry, `heddle.dev`.
pub(crate) fn metadata(fields: &BTreeMap<&str, Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let structure = structure(fields.iter().map(|(key, value)| (*key, value)));
    field(&mut bytes, 1, &entry("heddle.dev", &structure));
    bytes
}

/// Which object and field a compiled value comes from, as metadata `heddle.dev`.
pub(crate) fn provenance(of: &ObjectRef) -> Vec<u8> {
    metadata(&BTreeMap::from([
        ("object", Value::String(of.key.to_string())),
        ("field", Value::String(of.field.to_string())),
    ]))
}

/// A route before encoding: `route` without metadata and per-filter configuration, which stand beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteDraft {
    pub(crate) route: Route,
    /// `typed_per_filter_config` by filter name.
    pub(crate) filters: BTreeMap<&'static str, Any>,
    /// For heddle clients only.
    pub(crate) provenance: Option<ObjectRef>,
}

impl RouteDraft {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.route.encode_to_vec();
        if let Some(of) = &self.provenance {
            field(&mut bytes, 4, &provenance(of));
        }
        for (name, config) in &self.filters {
            field(&mut bytes, 13, &entry(name, &config.encode_to_vec()));
        }
        bytes
    }
}

/// `envoy.config.route.v3.VirtualHost`.
pub(crate) fn virtual_host(head: &VirtualHost, routes: &[RouteDraft]) -> Vec<u8> {
    let mut bytes = head.encode_to_vec();
    for route in routes {
        field(&mut bytes, 3, &route.encode());
    }
    bytes
}

/// A virtual host that was decoded, in the order of its maps' keys.
pub(crate) fn sorted_host(host: &VirtualHost) -> Vec<u8> {
    let mut head = host.clone();
    let routes = std::mem::take(&mut head.routes);
    let mut bytes = head.encode_to_vec();
    for mut route in routes {
        let filters: BTreeMap<_, _> =
            std::mem::take(&mut route.typed_per_filter_config).into_iter().collect();
        let metadata = route.metadata.take();
        let mut encoded = route.encode_to_vec();
        let ours = metadata.and_then(|mut metadata| metadata.filter_metadata.remove("heddle.dev"));
        if let Some(ours) = ours {
            let fields: BTreeMap<_, _> = ours.fields.iter().collect();
            let mut structure = Vec::new();
            for (key, value) in fields {
                field(&mut structure, 1, &entry(key, &value.encode_to_vec()));
            }
            let mut metadata = Vec::new();
            field(&mut metadata, 1, &entry("heddle.dev", &structure));
            field(&mut encoded, 4, &metadata);
        }
        for (name, config) in filters {
            field(&mut encoded, 13, &entry(&name, &config.encode_to_vec()));
        }
        field(&mut bytes, 3, &encoded);
    }
    bytes
}

/// A message with its `metadata` field (of that tag) appended.
pub(crate) fn with_metadata(message: &impl Message, tag: u32, metadata: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    if let Some(metadata) = metadata {
        field(&mut bytes, tag, metadata);
    }
    bytes
}

#[cfg(test)]
#[path = "canonical_test.rs"]
mod canonical_test;
