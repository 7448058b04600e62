//! Objects from the JSON that a store keeps.

use std::sync::Arc;

use heddle_resource::{Kind, Meta, Object};
use serde::Deserialize;
use serde_json::Value;

/// The object that stored JSON holds. It was admitted when it was stored: it is read, not judged again, so
/// that an older or newer release serves what another one took.
pub(crate) fn decode(bytes: &[u8]) -> Result<Object, String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = Kind::find(group, name).ok_or_else(|| format!("kind {name} of {version} is unknown"))?;
    let metadata = json.get("metadata").ok_or("it has no metadata")?;
    let meta = Meta::deserialize(metadata).map_err(|error| format!("metadata: {error}"))?;
    let spec = kind.read(&json).map_err(|error| error.to_string())?;
    Ok(Object { kind, meta, spec, json: Arc::new(json), source: None })
}
