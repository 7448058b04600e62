use std::collections::BTreeMap;

use proptest::{collection, option, prelude::*};
use serde_json::{Map, Value, json};

use super::{merge::field_set, set::FieldSet, *};

/// A kind with one of everything.
fn shape() -> Shape {
    let of = |fields: Vec<(&str, Shape)>| {
        Shape::Struct(
            fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect::<BTreeMap<_, _>>(),
        )
    };
    let item = of(vec![("name", Shape::Atomic), ("value", Shape::Atomic), ("more", Shape::Atomic)]);
    let items = Shape::ListMap { keys: vec![("name".to_owned(), None)], item: Box::new(item) };
    let ports = Shape::ListMap {
        keys: vec![("port".to_owned(), None), ("protocol".to_owned(), Some("TCP".into()))],
        item: Box::new(of(vec![
            ("port", Shape::Atomic),
            ("protocol", Shape::Atomic),
            ("target", Shape::Atomic),
        ])),
    };
    let spec = of(vec![
        ("one", Shape::Atomic),
        ("two", Shape::Atomic),
        ("map", Shape::Map(Box::new(Shape::Atomic))),
        ("items", items),
        ("ports", ports),
        ("set", Shape::ListSet),
        ("whole", Shape::Atomic),
    ]);
    of(vec![("metadata", Shape::metadata()), ("spec", spec)])
}

fn manager(name: &str) -> Manager {
    Manager { name: name.to_owned(), applies: true, api_version: "v1".to_owned(), subresource: String::new() }
}

type Applied = Result<(Value, Managers), Vec<FieldConflict>>;

fn apply_as(name: &str, live: Option<&Value>, config: &Value, force: bool, now: &str) -> Applied {
    apply(&Application { shape: &shape(), live, config, manager: manager(name), force, now })
}

/// The object as the store would have it after an apply.
fn stored(applied: &(Value, Managers)) -> Value {
    let mut object = applied.0.clone();
    object["metadata"]["managedFields"] = applied.1.encode();
    object
}

fn applied(name: &str, live: Option<&Value>, config: &Value) -> Value {
    stored(&apply_as(name, live, config, true, "t").unwrap())
}

fn fields_of(object: &Value, name: &str) -> FieldSet {
    Managers::of(object).0.get(&manager(name)).map(|m| m.fields.clone()).unwrap_or_default()
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![(0..3_i64).prop_map(Value::from), Just(Value::from("x")), Just(Value::from(true))]
}

fn keyed(key: &'static str) -> impl Strategy<Value = Value> {
    let entry = (option::of(scalar()), option::of(scalar()));
    collection::btree_map("[abc]", entry, 0..3).prop_map(move |entries| {
        entries
            .into_iter()
            .map(|(name, (value, more))| {
                let mut item = Map::from_iter([(key.to_owned(), Value::from(name))]);
                item.extend(value.map(|v| ("value".to_owned(), v)));
                item.extend(more.map(|v| ("more".to_owned(), v)));
                Value::Object(item)
            })
            .collect()
    })
}

prop_compose! {
    fn config()(
        one in option::of(scalar()),
        two in option::of(scalar()),
        map in option::of(collection::btree_map("[abc]", scalar(), 0..3)),
        labels in option::of(collection::btree_map("[ab]", "[xy]", 0..2)),
        items in option::of(keyed("name")),
        set in option::of(collection::btree_set("[abc]", 0..3)),
        whole in option::of(collection::vec(scalar(), 0..3)),
    ) -> Value {
        let mut spec = Map::new();
        let fields = [
            ("one", one), ("two", two), ("map", map.map(|m| json!(m))), ("items", items),
            ("set", set.map(|s| json!(s))), ("whole", whole.map(Value::Array)),
        ];
        spec.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let mut config = json!({ "apiVersion": "v1", "kind": "Test", "metadata": { "name": "n" }, "spec": spec });
        if let Some(labels) = labels {
            config["metadata"]["labels"] = json!(labels);
        }
        config
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in config(), other in config(), again in config()) {
        let live = applied("b", Some(&applied("a", None, &first)), &other);
        let once = apply_as("a", Some(&live), &again, true, "t1").unwrap();
        let twice = apply_as("a", Some(&stored(&once)), &again, false, "t2").unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_applied_is_there(before in config(), config in config()) {
        let live = applied("b", None, &before);
        let (value, _) = apply_as("a", Some(&live), &config, true, "t").unwrap();
        prop_assert_eq!(merge::merge(&shape(), &value, &config), value);
    }

    #[test]
    fn what_one_manager_no_longer_applies_is_gone(first in config(), second in config()) {
        let both = applied("a", Some(&applied("a", None, &first)), &second);
        let alone = applied("a", None, &second);
        prop_assert_eq!(both, alone);
    }

    #[test]
    fn what_another_owns_stays(first in config(), second in config()) {
        let live = applied("a", None, &first);
        let Ok(agreed) = apply_as("b", Some(&live), &second, false, "t") else { return Ok(()) };
        let after = stored(&agreed);
        // No conflict: everything that `a` stated holds still, and `a` owns it still.
        prop_assert_eq!(fields_of(&live, "a"), fields_of(&after, "a"));
        let again = apply_as("a", Some(&after), &first, false, "t").unwrap();
        prop_assert_eq!(&again.0, &agreed.0);
        // And when `b` leaves, what `a` stated is left.
        let nothing = json!({ "metadata": { "name": "n" } });
        let (left, _) = apply_as("b", Some(&after), &nothing, false, "t").unwrap();
        prop_assert_eq!(merge::merge(&shape(), &left, &first), left);
    }

    #[test]
    fn only_a_disagreement_conflicts(first in config(), second in config()) {
        let live = applied("a", None, &first);
        let refused = apply_as("b", Some(&live), &second, false, "t").is_err();
        let (forced, managers) = apply_as("b", Some(&live), &second, true, "t").unwrap();
        let lost = managers.0.get(&manager("a")).map(|m| m.fields.clone()).unwrap_or_default()
            != fields_of(&live, "a");
        prop_assert_eq!(refused, lost, "{} {:?}", forced, managers);
    }

    #[test]
    fn owned_fields_exist(first in config(), second in config(), third in config()) {
        let live = applied("a", Some(&applied("b", Some(&applied("a", None, &first)), &second)), &third);
        let mut there = field_set(&shape(), &live);
        mark_all(&mut there);
        prop_assert_eq!(Managers::of(&live).all().difference(&there), FieldSet::default());
    }

    #[test]
    fn a_writer_owns_what_it_changes(first in config(), second in config()) {
        let live = applied("a", None, &first);
        let writer = Manager { applies: false, ..manager("w") };
        let managers = update(&shape(), Some(&live), &second, &writer, "t");
        let owned = managers.0.get(&writer).map(|m| m.fields.clone()).unwrap_or_default();
        let a = managers.0.get(&manager("a")).map(|m| m.fields.clone()).unwrap_or_default();
        prop_assert_eq!(owned.intersection(&a), FieldSet::default());
        // Nobody owns what the writer took away.
        let mut there = field_set(&shape(), &second);
        mark_all(&mut there);
        prop_assert_eq!(managers.all().difference(&there), FieldSet::default());
        // Writing the same again changes no owner.
        let mut stored = second.clone();
        stored["metadata"]["managedFields"] = managers.encode();
        prop_assert_eq!(update(&shape(), Some(&stored), &stored, &writer, "later"), managers);
    }

    #[test]
    fn sets_survive_their_json(first in config(), second in config()) {
        let all = field_set(&shape(), &first).union(&field_set(&shape(), &second));
        prop_assert_eq!(FieldSet::from_fields_v1(&all.to_fields_v1()), Some(all));
    }

    #[test]
    fn sets_are_sets(first in config(), second in config()) {
        let (a, b) = (field_set(&shape(), &first), field_set(&shape(), &second));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert_eq!(a.union(&b).difference(&b), a.difference(&b));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
    }

    #[test]
    fn merging_and_comparing_agree(first in config(), second in config()) {
        let merged = merge::merge(&shape(), &first, &second);
        let comparison = compare(&shape(), &merged, &merged);
        prop_assert_eq!(comparison, Comparison::default());
        let back = compare(&shape(), &first, &merged);
        prop_assert!(back.removed.is_empty());
    }

    #[test]
    fn nothing_panics_on_strange_entries(text in "[.a-z:{}\"0-9]{0,12}") {
        let entries = json!([{ "manager": "m", "operation": "Apply", "fieldsV1": { text.clone(): { text: {} } } }]);
        let _ = Managers::decode(&entries);
    }
}

fn mark_all(set: &mut FieldSet) {
    set.member = true;
    set.children.values_mut().for_each(mark_all);
}

#[test]
fn conflicts_name_manager_and_field() {
    let live = applied("a", None, &json!({ "spec": { "ports": [{ "port": 80, "target": 1 }] } }));
    let theirs = json!({ "spec": { "ports": [{ "port": 80, "protocol": "TCP", "target": 2 }] } });
    let conflicts = apply_as("b", Some(&live), &theirs, false, "t").unwrap_err();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].manager, manager("a"));
    assert_eq!(conflicts[0].field, ".spec.ports[port=80,protocol=\"TCP\"].target");
}

#[test]
fn an_object_that_nobody_managed_belongs_to_before_first_apply() {
    let live = json!({ "metadata": { "name": "n" }, "spec": { "one": 1 } });
    let conflicts = apply_as("a", Some(&live), &json!({ "spec": { "one": 2 } }), false, "t").unwrap_err();
    assert_eq!(conflicts[0].manager.name, "before-first-apply");
}

#[test]
fn items_keep_the_order_of_the_configuration() {
    let item = |name: &str| json!({ "name": name });
    let live = applied("a", None, &json!({ "spec": { "items": [item("x"), item("y")] } }));
    let (value, _) =
        apply_as("b", Some(&live), &json!({ "spec": { "items": [item("z"), item("x")] } }), false, "t")
            .unwrap();
    assert_eq!(value["spec"]["items"], json!([item("z"), item("x"), item("y")]));
}

#[test]
fn the_server_s_fields_are_nobody_s() {
    let config =
        json!({ "metadata": { "name": "n", "uid": "u", "labels": { "a": "b" } }, "status": { "x": 1 } });
    let (_, managers) = apply_as("a", None, &config, false, "t").unwrap();
    let fields = managers.0[&manager("a")].fields.to_fields_v1();
    assert_eq!(fields, json!({ "f:metadata": { "f:labels": { "f:a": {} } } }));
}

#[test]
fn a_writer_may_clear_the_entries() {
    let live = applied("a", None, &json!({ "metadata": { "name": "n" }, "spec": { "one": 1 } }));
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    let writer = Manager { applies: false, ..manager("w") };
    assert_eq!(update(&shape(), Some(&live), &new, &writer, "t"), Managers::default());
}
