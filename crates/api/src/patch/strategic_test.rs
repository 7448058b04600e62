use heddle_resource::kind;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn merged(live: Value, patch: Value) -> Value {
    merge(&kind::SERVICE, live, &patch).unwrap()
}

fn ports(numbers: &[(u16, u16)]) -> Value {
    numbers.iter().map(|(port, target)| json!({ "port": port, "targetPort": target })).collect()
}

#[test]
fn lists_merge_by_their_key() {
    let live = json!({ "spec": { "ports": ports(&[(80, 1), (90, 2)]) } });
    let cases = [
        (json!([{ "port": 90, "targetPort": 3 }]), ports(&[(80, 1), (90, 3)])),
        (json!([{ "port": 70, "targetPort": 4 }]), ports(&[(80, 1), (90, 2), (70, 4)])),
        (json!([{ "port": 80, "$patch": "delete" }]), ports(&[(90, 2)])),
        (json!([{ "$patch": "replace" }, { "port": 1, "targetPort": 1 }]), ports(&[(1, 1)])),
        (Value::Null, Value::Null),
    ];
    for (patch, expected) in cases {
        let result = merged(live.clone(), json!({ "spec": { "ports": patch } }));
        assert_eq!(result["spec"]["ports"], expected);
    }
    let patch = json!({ "spec": { "$setElementOrder/ports": [{ "port": 90 }, { "port": 80 }] } });
    assert_eq!(merged(live.clone(), patch)["spec"]["ports"], ports(&[(90, 2), (80, 1)]));
    assert!(merge(&kind::SERVICE, live, &json!({ "spec": { "ports": [{ "name": "x" }] } })).is_err());
}

#[test]
fn directives() {
    let live = json!({ "metadata": { "finalizers": ["a", "b"] }, "spec": { "selector": { "a": "b", "c": "d" }, "type": "x" } });
    let gone = merged(live.clone(), json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"] } }));
    assert_eq!(gone["metadata"]["finalizers"], json!(["b"]));
    let more = merged(live.clone(), json!({ "metadata": { "finalizers": ["c", "a"] } }));
    assert_eq!(more["metadata"]["finalizers"], json!(["a", "b", "c"]));
    let replaced = merged(live.clone(), json!({ "spec": { "selector": { "$patch": "replace", "e": "f" } } }));
    assert_eq!(replaced["spec"]["selector"], json!({ "e": "f" }));
    let retained = merged(live.clone(), json!({ "spec": { "$retainKeys": ["selector"] } }));
    assert_eq!(retained["spec"].get("type"), None);
    let deleted = merged(live.clone(), json!({ "spec": { "selector": { "$patch": "delete" } } }));
    assert_eq!(deleted["spec"].get("selector"), None);
    // Lists without a merge key are replaced.
    let live = json!({ "spec": { "externalIPs": ["1.1.1.1"] } });
    let ips = merged(live, json!({ "spec": { "externalIPs": ["2.2.2.2"] } }));
    assert_eq!(ips["spec"]["externalIPs"], json!(["2.2.2.2"]));
}

proptest! {
    /// A patch that is a whole object has the effect of stating it: merged again, nothing changes.
    #[test]
    fn merging_twice_is_merging_once(a in 0..4_u16, b in 0..4_u16, t in 0..9_u16) {
        let live = json!({ "spec": { "ports": ports(&[(a, 1)]) } });
        let patch = json!({ "spec": { "ports": ports(&[(b, t)]) } });
        let once = merged(live, patch.clone());
        prop_assert_eq!(merged(once.clone(), patch), once);
    }

    #[test]
    fn no_patch_panics(name in "(\\$patch|\\$setElementOrder/ports|\\$retainKeys|ports|x)", value in "(null|7|\\[\\]|\\[7\\]|\\{\\}|\"delete\"|\\[\\{\"port\":80\\}\\])") {
        let value: Value = serde_json::from_str(&value).unwrap();
        let patch = json!({ "spec": { name: value } });
        let _ = merge(&kind::SERVICE, json!({ "spec": { "ports": ports(&[(80, 1)]) } }), &patch);
    }
}
