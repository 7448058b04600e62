use proptest::{collection, prelude::*};
use serde_json::json;

use super::*;

/// A field of bytes, or of a number.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
    out.extend(content);
    out
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &types), bytes(2, raw)].concat()
}

#[test]
fn a_service() {
    let meta =
        [bytes(1, b"web"), bytes(3, b""), bytes(11, &[bytes(1, b"app"), bytes(2, b"web")].concat())].concat();
    let target = [number(1, 1), number(2, 0), bytes(3, b"http")].concat();
    let port = [bytes(1, b"http"), number(3, 80), bytes(4, &target), number(5, 0)].concat();
    let spec = [bytes(1, &port), bytes(3, b"None"), number(13, 1)].concat();
    let raw = [bytes(1, &meta), bytes(2, &spec), bytes(3, &bytes(1, b""))].concat();
    let expected = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": {
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
            "clusterIP": "None", "publishNotReadyAddresses": true,
        },
    });
    assert_eq!(decode(&envelope("v1", "Service", &raw)).unwrap(), expected);
}

#[test]
fn a_secret_s_bytes_are_told_in_base64() {
    let raw = [bytes(2, &[bytes(1, b"k"), bytes(2, b"\xff\x00")].concat()), number(5, 0)].concat();
    let secret = decode(&envelope("v1", "Secret", &raw)).unwrap();
    assert_eq!((&secret["data"]["k"], &secret["immutable"]), (&json!("/wA="), &json!(false)));
}

#[test]
fn an_unknown_kind_asks_for_json() {
    let refused = decode(&envelope("apps/v1", "Deployment", b"")).unwrap_err();
    assert_eq!(refused.code, http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

proptest! {
    #[test]
    fn no_bytes_panic(content in collection::vec(any::<u8>(), 0..80)) {
        let _ = decode(&content);
        for kind in ["Service", "Secret", "ConfigMap", "Event", "DeleteOptions"] {
            let _ = decode(&envelope("v1", kind, &content));
        }
    }
}
