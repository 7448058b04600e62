use std::{collections::BTreeMap, time::Duration};

use heddle_resource::kind;
use heddle_xds::{ClientKind, NodeInfo, Refusal};

use super::*;

fn scope(namespace: &str) -> Scope {
    let mut node = NodeInfo { kind: ClientKind::Heddle, ..NodeInfo::default() };
    node.metadata = BTreeMap::from([("NAMESPACE".to_owned(), namespace.into())]);
    Scope::of(&node, |_| false).expect("a scope")
}

fn key() -> Key {
    Key::new(&kind::VIRTUAL_SERVICE, "a", "v")
}

/// Two nodes that a change concerns and one that it does not.
fn tracker(now: Instant) -> Tracker {
    let mut tracker = Tracker::default();
    for (stream, namespace) in [(1, "a"), (2, "a"), (3, "b")] {
        tracker.attach(stream, format!("n{stream}"), scope(namespace), 5);
    }
    tracker.commit([(key(), Some("7".to_owned()))].into_iter(), 6, vec![scope("a")], now);
    tracker
}

#[test]
fn a_change_is_done_when_all_whom_it_concerns_have_answered() {
    let now = Instant::now();
    let (mut tracker, mut metrics) = (tracker(now), PushMetrics::default());
    // Answers about what came before.
    tracker.heard(1, &Event::Synced { generation: 5 }, now, &mut metrics);
    tracker.heard(1, &Event::Synced { generation: 4 }, now, &mut metrics);
    let found = tracker.of(&key()).expect("committed");
    assert_eq!((found.acked, found.total, found.revision.as_str()), (0, 2, "7"));
    assert_eq!(found.laggards, ["n1", "n2"]);
    tracker.heard(1, &Event::Synced { generation: 6 }, now + Duration::from_millis(3), &mut metrics);
    // One that came later already has it.
    tracker.attach(4, "n4".to_owned(), scope("a"), 6);
    tracker.heard(2, &Event::Synced { generation: 8 }, now, &mut metrics);
    assert!(tracker.of(&key()).expect("committed").done());
    assert_eq!(tracker.of(&Key::new(&kind::VIRTUAL_SERVICE, "a", "other")), None);
}

#[test]
fn a_refusal_counts_until_the_resource_is_taken() {
    let now = Instant::now();
    let (mut tracker, mut metrics) = (tracker(now), PushMetrics::default());
    let refusal = Refusal { name: "9080".into(), version: "x".into(), reason: "bad regex".to_owned() };
    let nack = Event::Nacked {
        kind: ResourceType::Route,
        generation: 6,
        refused: vec![refusal],
        accepted: Vec::new(),
        message: String::new(),
    };
    tracker.heard(1, &nack, now, &mut metrics);
    tracker.heard(1, &Event::Synced { generation: 6 }, now, &mut metrics);
    tracker.heard(2, &Event::Synced { generation: 6 }, now, &mut metrics);
    let found = tracker.of(&key()).expect("committed");
    assert!(!found.done());
    assert_eq!((found.refusals[0].reason.as_str(), found.laggards.len()), ("bad regex", 1));
    assert_eq!(metrics.rejects[ResourceType::Route.index()], 1);
    let ack = Event::Acked {
        kind: ResourceType::Route,
        generation: 7,
        resources: vec![("9080".into(), "y".into())],
        removed: Vec::new(),
    };
    tracker.heard(1, &ack, now, &mut metrics);
    assert!(tracker.of(&key()).expect("committed").done());
}
