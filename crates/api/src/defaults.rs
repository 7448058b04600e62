//! Values that the API writes into objects of core kinds where their author is silent, as Kubernetes
//! does: what reads the object need not know them.

use base64::Engine as _;
use heddle_resource::Kind;
use serde_json::{Map, Value, json};

/// Completes an object before it is admitted.
pub(crate) fn complete(kind: &Kind, object: &mut Value) {
    let Some(top) = object.as_object_mut() else { return };
    match (kind.group, kind.kind) {
        ("", "Secret") => secret(top),
        ("", "Service") => service(top),
        ("discovery.k8s.io", "EndpointSlice") => ports(top),
        _ => {}
    }
}

/// Moves a Secret's `stringData`, written in the clear, to `data`, kept in base64.
pub(crate) fn fold_string_data(kind: &Kind, object: &mut Value) {
    if let ("", "Secret", Some(top)) = (kind.group, kind.kind, object.as_object_mut()) {
        fold(top);
    }
}

fn secret(top: &mut Map<String, Value>) {
    fold(top);
    default(top, "type", "Opaque");
}

fn fold(top: &mut Map<String, Value>) {
    // Anything but an object is left for admission to refuse.
    if !top.get("stringData").is_some_and(Value::is_object) {
        return;
    }
    if let Some(Value::Object(clear)) = top.remove("stringData") {
        let data = top.entry("data").or_insert_with(|| json!({}));
        if data.is_null() {
            *data = json!({});
        }
        if let Some(data) = data.as_object_mut() {
            for (name, value) in clear {
                let encoded = match value {
                    Value::String(text) => base64::engine::general_purpose::STANDARD.encode(text).into(),
                    other => other,
                };
                data.insert(name, encoded);
            }
        }
    }
}

fn service(top: &mut Map<String, Value>) {
    let Some(spec) = top.get_mut("spec").and_then(Value::as_object_mut) else { return };
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    ports(spec);
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        if let Some(number) = port.get("port").cloned()
            && port.get("targetPort").is_none_or(Value::is_null)
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

fn ports(of: &mut Map<String, Value>) {
    for port in of.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default(port, "protocol", "TCP");
        }
    }
}

fn default(of: &mut Map<String, Value>, field: &str, value: &str) {
    if of.get(field).is_none_or(|v| v.is_null() || v == "") {
        of.insert(field.to_owned(), value.into());
    }
}
