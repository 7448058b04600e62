//! Merging a status that was computed with the one that is stored.
//!
//! A computed status says what holds. When a condition last changed, and what others have written, only
//! the stored one knows.

use serde_json::{Map, Value};

/// The status to store: `wanted`, with the transition times of `stored` where the status of a condition is
/// as it was and `now` elsewhere, and with the conditions and route parents that other writers own.
pub(crate) fn stamp(wanted: &Value, stored: Option<&Value>, now: &str) -> Value {
    let mut result = wanted.clone();
    fill(&mut result, stored, now);
    if let (Value::Object(result), Some(Value::Object(stored))) = (&mut result, stored) {
        keep_foreign(result, stored);
    }
    result
}

fn fill(wanted: &mut Value, stored: Option<&Value>, now: &str) {
    match wanted {
        Value::Object(fields) if is_condition(fields) => {
            let same = stored.filter(|stored| stored["status"] == fields["status"]);
            let time = same.and_then(|stored| stored["lastTransitionTime"].as_str()).unwrap_or(now);
            fields.insert("lastTransitionTime".to_owned(), time.into());
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                fill(value, stored.and_then(|stored| stored.get(name)), now);
            }
        }
        Value::Array(items) => {
            for item in items {
                let twin = stored
                    .and_then(Value::as_array)
                    .and_then(|stored| stored.iter().find(|old| same(item, old)));
                fill(item, twin, now);
            }
        }
        _ => {}
    }
}

fn is_condition(fields: &Map<String, Value>) -> bool {
    ["type", "status", "reason"].iter().all(|name| fields.contains_key(*name))
}

/// Whether two items of a list are about the same thing.
fn same(a: &Value, b: &Value) -> bool {
    ["type", "name", "parentRef", "controllerName"].iter().all(|key| a.get(key) == b.get(key))
}

/// Conditions of types that are not ours, and parents of other controllers, stay.
fn keep_foreign(result: &mut Map<String, Value>, stored: &Map<String, Value>) {
    let list = |name: &str| stored.get(name).and_then(Value::as_array).into_iter().flatten();
    if let Some(Value::Array(conditions)) = result.get_mut("conditions") {
        let ours = |kind: &Value| OURS.iter().any(|ours| kind == ours);
        let foreign: Vec<_> =
            list("conditions").filter(|condition| !ours(&condition["type"])).cloned().collect();
        conditions.extend(foreign);
    }
    if let Some(Value::Array(parents)) = result.get_mut("parents") {
        let foreign: Vec<_> =
            list("parents").filter(|p| p["controllerName"] != super::CONTROLLER).cloned().collect();
        parents.extend(foreign);
    }
}

/// Types of the conditions that are written here: one that is not wanted any more goes.
const OURS: [&str; 3] = ["Accepted", "Programmed", "Unsupported"];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::stamp;

    fn condition(kind: &str, status: &str, time: Option<&str>) -> Value {
        let mut condition = json!({"type": kind, "status": status, "reason": "R"});
        if let Some(time) = time {
            condition["lastTransitionTime"] = time.into();
        }
        condition
    }

    #[test]
    fn a_transition_time_moves_with_the_status_only() {
        let wanted = json!({"conditions": [condition("Accepted", "True", None), condition("Programmed", "True", None)]});
        let stored = json!({"conditions": [
            condition("Accepted", "True", Some("then")), condition("Programmed", "False", Some("then"))]});
        let result = stamp(&wanted, Some(&stored), "now");
        assert_eq!(result["conditions"][0]["lastTransitionTime"], "then");
        assert_eq!(result["conditions"][1]["lastTransitionTime"], "now");
        assert_eq!(stamp(&wanted, Some(&result), "later"), result, "a second write changes nothing");
    }

    #[test]
    fn listeners_are_matched_by_name() {
        let listener =
            |name: &str, time| json!({"name": name, "conditions": [condition("Accepted", "True", time)]});
        let stored = json!({"listeners": [listener("b", Some("then"))]});
        let result =
            stamp(&json!({"listeners": [listener("a", None), listener("b", None)]}), Some(&stored), "now");
        assert_eq!(result["listeners"][0]["conditions"][0]["lastTransitionTime"], "now");
        assert_eq!(result["listeners"][1]["conditions"][0]["lastTransitionTime"], "then");
    }

    #[test]
    fn what_others_wrote_stays() {
        let foreign =
            json!({"controllerName": "example.org/other", "parentRef": {"name": "g"}, "conditions": []});
        let old = json!({"controllerName": super::super::CONTROLLER, "parentRef": {"name": "gone"}, "conditions": []});
        let stored =
            json!({"parents": [foreign, old], "conditions": [condition("Mine", "True", Some("then"))]});
        let result = stamp(&json!({"parents": [], "conditions": []}), Some(&stored), "now");
        assert_eq!(result["parents"], json!([foreign]));
        assert_eq!(result["conditions"][0]["type"], "Mine");
    }
}
