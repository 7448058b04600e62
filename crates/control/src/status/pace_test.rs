use std::time::{Duration, Instant};

use heddle_resource::{Key, kind};
use serde_json::json;

use super::{INTERVAL, Pace};

fn key() -> Key {
    Key::new(&kind::GATEWAY, "default", "edge")
}

#[test]
fn the_first_is_written_at_once_and_the_next_a_second_later() {
    let (start, mut pace) = (Instant::now(), Pace::default());
    pace.want(key(), json!(1));
    assert_eq!(pace.due(start), [(key(), json!(1))]);
    pace.want(key(), json!(2));
    pace.want(key(), json!(3));
    let soon = start + Duration::from_millis(300);
    assert!(pace.due(soon).is_empty());
    assert_eq!(pace.next(soon), Some(start + INTERVAL));
    assert_eq!(pace.due(start + INTERVAL), [(key(), json!(3))]);
    assert_eq!(pace.next(start + INTERVAL), None);
}

#[test]
fn what_did_not_change_is_not_written() {
    let (start, mut pace) = (Instant::now(), Pace::default());
    pace.want(key(), json!(1));
    pace.due(start);
    pace.want(key(), json!(1));
    assert_eq!(pace.next(start), None);
    assert!(pace.due(start + INTERVAL * 5).is_empty());
}

#[test]
fn a_write_that_failed_is_tried_again() {
    let (start, mut pace) = (Instant::now(), Pace::default());
    pace.want(key(), json!(1));
    pace.due(start);
    pace.failed(&key());
    assert!(pace.due(start).is_empty());
    assert_eq!(pace.due(start + INTERVAL).len(), 1);
    pace.failed(&key());
    pace.forget(&key());
    assert_eq!(pace.next(start), None);
}
