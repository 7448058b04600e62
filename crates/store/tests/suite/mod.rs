//! The laws of `Store`, run on every implementation.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use heddle_resource::{Key, Kind, Meta, Object, kind};
use heddle_store::{Event, Precondition, Revision, Store, StoreError, Watch};
use serde_json::{Value, json};

pub(crate) fn key(namespace: &str, name: &str) -> Key {
    Key::new(&kind::CONFIG_MAP, namespace, name)
}

/// A ConfigMap with one entry.
pub(crate) fn config_map(namespace: &str, name: &str, value: &str) -> Object {
    object(&kind::CONFIG_MAP, namespace, name, json!({"data": {"value": value}}))
}

pub(crate) fn object(kind: &'static Kind, namespace: &str, name: &str, content: Value) -> Object {
    let mut json = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": {"namespace": namespace, "name": name},
    });
    json.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    let meta: Meta = serde_json::from_value(json["metadata"].clone()).unwrap();
    Object { kind, meta, spec: kind.read(&json).unwrap(), json: Arc::new(json), source: None }
}

pub(crate) fn value(object: &Object) -> &str {
    object.json["data"]["value"].as_str().unwrap()
}

/// `PUT name value`, `DELETE name`, `BOOKMARK`, or the error. Waits 20 s at most.
pub(crate) async fn next(watch: &mut Watch) -> String {
    let event =
        tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("an event within 20 s");
    match event {
        None => "END".into(),
        Some(Err(error)) => format!("{error:?}"),
        Some(Ok(Event::Bookmark(_))) => "BOOKMARK".into(),
        Some(Ok(Event::Put(object))) => format!("PUT {} {}", object.meta.name, value(&object)),
        Some(Ok(Event::Delete(object))) => format!("DELETE {}", object.meta.name),
    }
}

async fn names(store: &dyn Store, namespace: Option<&str>) -> Vec<String> {
    let (objects, _) = store.list(&kind::CONFIG_MAP, namespace).await.unwrap();
    objects.iter().map(|o| format!("{}/{}", o.meta.namespace, o.meta.name)).collect()
}

/// Every law of a store that can be written, on fresh stores from `make`. A store must keep 64 events.
pub(crate) async fn writable<S: Store, F: Future<Output = S>>(mut make: impl FnMut() -> F) {
    readable_by_put(&make().await).await;
    put_get_delete(&make().await).await;
    preconditions(&make().await).await;
    lists(&make().await).await;
    watches(&make().await).await;
    slow_watchers(&make().await).await;
    concurrent_writers(&make().await).await;
    limits(&make().await).await;
    leases(&make().await).await;
    let store = make().await;
    let (_, revision) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut watch = store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    drop(store);
    assert_eq!(next(&mut watch).await, "END", "a watch ends with its store");
}

/// The laws of reading, on any store that holds no ConfigMap yet. `write` puts `a/NAME` with a value, or
/// deletes it, and returns when that is done.
pub(crate) async fn readable(store: &dyn Store, mut write: impl AsyncFnMut(&str, Option<&str>)) {
    let (none, start) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    assert!(none.is_empty());
    let mut watch = store.watch(&kind::CONFIG_MAP, start).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    write("y", Some("1")).await;
    write("x", Some("1")).await;
    write("x", Some("2")).await;
    let (objects, listed) = store.list(&kind::CONFIG_MAP, Some("a")).await.unwrap();
    assert_eq!(names(store, None).await, ["a/x", "a/y"]);
    for object in &objects {
        let revision = Revision::of(object).expect("a revision");
        assert!(revision <= listed);
        assert_eq!(object.json["metadata"]["resourceVersion"], object.meta.resource_version);
    }
    write("y", None).await;
    for expected in ["PUT y 1", "PUT x 1", "PUT x 2", "DELETE y"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    assert!(store.get(&key("a", "y")).await.unwrap().is_none());
    assert_eq!(value(&store.get(&key("a", "x")).await.unwrap().unwrap()), "2");
    let mut late = store.watch(&kind::CONFIG_MAP, listed).await.unwrap();
    assert_eq!(next(&mut late).await, "DELETE y");
    assert_eq!(next(&mut late).await, "BOOKMARK");
    assert!(matches!(store.watch(&kind::CONFIG_MAP, Revision(1)).await, Err(StoreError::Compacted)));
}

/// [`readable`] for stores that are written through `Store`.
pub(crate) async fn readable_by_put(store: &dyn Store) {
    let write = async |name: &str, value: Option<&str>| {
        match value {
            Some(value) => store.put(config_map("a", name, value), Precondition::Any).await.map(drop),
            None => store.delete(&key("a", name), Precondition::Any).await.map(drop),
        }
        .unwrap();
    };
    readable(store, write).await;
}

async fn put_get_delete(store: &dyn Store) {
    assert!(store.get(&key("a", "x")).await.unwrap().is_none());
    let first = store.put(config_map("a", "x", "1"), Precondition::Any).await.unwrap();
    let revision = Revision::of(&first).expect("a revision");
    assert_eq!(first.json["metadata"]["resourceVersion"], revision.to_string(), "in the JSON too");
    let got = store.get(&key("a", "x")).await.unwrap().unwrap();
    assert_eq!(got.json, first.json);

    let (_, before) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let same = store.put(config_map("a", "x", "1"), Precondition::Any).await.unwrap();
    assert_eq!(Revision::of(&same), Some(revision), "a put that changes nothing keeps the revision");
    assert_eq!(store.list(&kind::CONFIG_MAP, None).await.unwrap().1, before);

    let second = store.put(config_map("a", "x", "2"), Precondition::Any).await.unwrap();
    assert_ne!(Revision::of(&second), Some(revision));
    let last = store.delete(&key("a", "x"), Precondition::Any).await.unwrap();
    assert_eq!(value(&last), "2", "the last state");
    assert!(Revision::of(&last) > Revision::of(&second), "with the deletion's revision");
    assert_eq!(last.json["metadata"]["resourceVersion"], last.meta.resource_version);
    assert!(store.get(&key("a", "x")).await.unwrap().is_none());
    let again = store.delete(&key("a", "x"), Precondition::Any).await;
    assert_eq!(again.unwrap_err(), StoreError::NotFound { key: key("a", "x") });
}

async fn preconditions(store: &dyn Store) {
    let conflict = |expected, found| StoreError::Conflict { key: key("a", "x"), expected, found };
    let stale = Revision(7);
    let absent = store.put(config_map("a", "x", "0"), Precondition::Revision(stale)).await;
    assert_eq!(absent.unwrap_err(), conflict(Some(stale), None));
    let first = store.put(config_map("a", "x", "1"), Precondition::Absent).await.unwrap();
    let first = Revision::of(&first).unwrap();
    let taken = store.put(config_map("a", "x", "2"), Precondition::Absent).await;
    assert_eq!(taken.unwrap_err(), conflict(None, Some(first)));
    let old = store.put(config_map("a", "x", "2"), Precondition::Revision(stale)).await;
    assert_eq!(old.unwrap_err(), conflict(Some(stale), Some(first)));
    let second = store.put(config_map("a", "x", "2"), Precondition::Revision(first)).await.unwrap();
    let kept = store.delete(&key("a", "x"), Precondition::Revision(first)).await;
    assert_eq!(kept.unwrap_err(), conflict(Some(first), Revision::of(&second)));
    store.delete(&key("a", "x"), Precondition::Revision(Revision::of(&second).unwrap())).await.unwrap();
}

async fn lists(store: &dyn Store) {
    for (namespace, name) in [("b", "y"), ("a", "z"), ("aa", "q"), ("a", "x")] {
        store.put(config_map(namespace, name, "1"), Precondition::Absent).await.unwrap();
    }
    store.put(object(&kind::SERVICE, "a", "s", json!({"spec": {}})), Precondition::Absent).await.unwrap();
    assert_eq!(names(store, None).await, ["a/x", "a/z", "aa/q", "b/y"]);
    assert_eq!(names(store, Some("a")).await, ["a/x", "a/z"]);
    assert_eq!(names(store, Some("nowhere")).await, Vec::<String>::new());
    assert_eq!(store.list(&kind::SERVICE, None).await.unwrap().0.len(), 1);
}

async fn watches(store: &dyn Store) {
    let first = store.put(config_map("a", "one", "1"), Precondition::Any).await.unwrap();
    let (_, listed) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut watch = store.watch(&kind::CONFIG_MAP, listed).await.unwrap();
    let mut other = store.watch(&kind::SERVICE, listed).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    assert_eq!(next(&mut other).await, "BOOKMARK");
    store.put(config_map("a", "two", "1"), Precondition::Any).await.unwrap();
    store.put(config_map("a", "two", "1"), Precondition::Any).await.unwrap();
    store.put(config_map("a", "two", "2"), Precondition::Any).await.unwrap();
    store.delete(&key("a", "one"), Precondition::Any).await.unwrap();
    for expected in ["PUT two 1", "PUT two 2", "DELETE one"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    let service = store.put(object(&kind::SERVICE, "a", "s", json!({"spec": {}})), Precondition::Any).await;
    let event = other.next().await.unwrap().unwrap();
    assert_eq!(Revision::of(event.object().unwrap()), Revision::of(&service.unwrap()), "only its own kind");

    // From an object's own revision: what came after it.
    let mut late = store.watch(&kind::CONFIG_MAP, Revision::of(&first).unwrap()).await.unwrap();
    for expected in ["PUT two 1", "PUT two 2", "DELETE one", "BOOKMARK"] {
        assert_eq!(next(&mut late).await, expected);
    }
    let (_, now) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    for unknown in [Revision(0), Revision(1), Revision(now.0 + 1)] {
        let refused = store.watch(&kind::CONFIG_MAP, unknown).await;
        assert!(matches!(refused, Err(StoreError::Compacted)), "{unknown:?} is of no known history");
    }
}

async fn slow_watchers(store: &dyn Store) {
    let (_, start) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut slow = store.watch(&kind::CONFIG_MAP, start).await.unwrap();
    assert_eq!(next(&mut slow).await, "BOOKMARK");
    for i in 0..100 {
        store.put(config_map("a", "x", &i.to_string()), Precondition::Any).await.unwrap();
    }
    assert_eq!(next(&mut slow).await, "Compacted");
    assert_eq!(next(&mut slow).await, "END");
    assert!(matches!(store.watch(&kind::CONFIG_MAP, start).await, Err(StoreError::Compacted)));
    // Another kind's noise compacts nothing of this one.
    let mut quiet = store.watch(&kind::SERVICE, start).await.unwrap();
    assert_eq!(next(&mut quiet).await, "BOOKMARK");
}

async fn concurrent_writers(store: &dyn Store) {
    let (_, start) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let writer = |writer: usize| async move {
        let mut won = 0;
        while won < 5 {
            let current = store.get(&key("a", "counter")).await.unwrap();
            let count = current.as_ref().map_or(0, |object| value(object).parse::<u32>().unwrap());
            let precondition = match &current {
                Some(object) => Precondition::Revision(Revision::of(object).unwrap()),
                None => Precondition::Absent,
            };
            match store.put(config_map("a", "counter", &(count + 1).to_string()), precondition).await {
                Ok(_) => won += 1,
                Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("writer {writer}: {error}"),
            }
        }
    };
    futures_util::future::join_all((0..8).map(writer)).await;
    let counter = store.get(&key("a", "counter")).await.unwrap().unwrap();
    assert_eq!(value(&counter), "40", "every success counted once");
    let mut watch = store.watch(&kind::CONFIG_MAP, start).await.unwrap();
    for i in 1..=40 {
        assert_eq!(next(&mut watch).await, format!("PUT counter {i}"));
    }
}

async fn limits(store: &dyn Store) {
    let big = "x".repeat(1 << 20);
    match store.put(config_map("a", "big", &big), Precondition::Any).await {
        Err(StoreError::TooLarge { key, size, limit }) => {
            assert_eq!((key.to_string().as_str(), limit), ("ConfigMap a/big", 1 << 20));
            assert!(size > limit);
        }
        other => panic!("{other:?}"),
    }
    let fits = "x".repeat((1 << 20) - 500);
    store.put(config_map("a", "big", &fits), Precondition::Any).await.unwrap();
}

async fn leases(store: &dyn Store) {
    let leases = store.leases().expect("leases");
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let ten = leases.grant(Duration::from_secs(10), at(0)).await.unwrap();
    let twenty = leases.grant(Duration::from_secs(20), at(0)).await.unwrap();
    assert_ne!(ten, twenty);
    let missing = leases.attach(ten, &key("a", "one")).await;
    assert_eq!(missing.unwrap_err(), StoreError::NotFound { key: key("a", "one") });
    for name in ["one", "two", "three"] {
        store.put(config_map("a", name, "1"), Precondition::Any).await.unwrap();
    }
    leases.attach(ten, &key("a", "one")).await.unwrap();
    leases.attach(ten, &key("a", "two")).await.unwrap();
    leases.attach(twenty, &key("a", "two")).await.unwrap();
    assert_eq!(leases.next_expiry(), Some(at(10)));

    let (_, before) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    leases.renew(ten, at(9)).await.unwrap();
    let (_, after) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    assert_eq!(before, after, "a renewal is no revision");
    assert!(leases.expire(at(18)).await.unwrap().is_empty());
    let gone = leases.expire(at(19)).await.unwrap();
    assert_eq!(gone.iter().map(|o| &*o.meta.name).collect::<Vec<_>>(), ["one"], "two moved to the other");
    assert_eq!(leases.renew(ten, at(19)).await.unwrap_err(), StoreError::NoLease(ten));
    assert_eq!(names(store, None).await, ["a/three", "a/two"]);

    // Deleted and made again: the new one is not bound by the old one's lease.
    store.delete(&key("a", "two"), Precondition::Any).await.unwrap();
    store.put(config_map("a", "two", "2"), Precondition::Any).await.unwrap();
    assert!(leases.expire(at(100)).await.unwrap().is_empty());
    let kept = leases.grant(Duration::from_secs(1), at(100)).await.unwrap();
    leases.attach(kept, &key("a", "two")).await.unwrap();
    leases.revoke(kept).await.unwrap();
    assert!(leases.expire(at(200)).await.unwrap().is_empty());
    assert_eq!(leases.attach(kept, &key("a", "two")).await.unwrap_err(), StoreError::NoLease(kept));
    assert_eq!(leases.held(), []);
    assert_eq!(leases.next_expiry(), None);
}
