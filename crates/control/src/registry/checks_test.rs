use heddle_resource::kind;

use super::*;
use crate::registry::{Probe, Target};

fn key(name: &str) -> Key {
    Key::new(&kind::WORKLOAD_ENTRY, "default", name)
}

fn spec() -> CheckSpec {
    CheckSpec {
        probe: Probe::Tcp,
        target: Target::Tcp("192.0.2.1".into(), 80),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        unhealthy_threshold: 3,
        healthy_threshold: 2,
    }
}

/// Checks and a clock that moves only when told.
struct World {
    checks: Checks,
    now: Instant,
}

impl World {
    fn new(limit: usize) -> Self {
        Self { checks: Checks::new(limit), now: Instant::now() }
    }

    fn declare(&mut self, names: &[&str], known: Option<bool>) {
        for name in names {
            self.checks.declare(key(name), spec(), known, self.now, 0.0);
        }
    }

    /// Answers everything that is due, then moves to the next due time. The changes, as `name up|down`.
    fn round(&mut self, failing: &[&str]) -> Vec<String> {
        let mut changes = Vec::new();
        loop {
            let requests = self.checks.due(self.now);
            if requests.is_empty() {
                break;
            }
            for request in requests {
                let failed = failing.contains(&&*request.key.name);
                let outcome = if failed { Err("refused".to_owned()) } else { Ok(()) };
                if let Some(change) = self.checks.on_outcome(&request, outcome, self.now, 0.5) {
                    changes.push(format!(
                        "{} {}",
                        change.key.name,
                        if change.healthy { "up" } else { "down" }
                    ));
                }
            }
        }
        self.now = self.checks.next_due().unwrap_or(self.now);
        changes
    }
}

#[test]
fn thresholds_count_outcomes_in_a_row() {
    let mut world = World::new(8);
    world.declare(&["a"], None);
    assert_eq!(world.round(&[]), ["a up"], "the first outcome decides");
    assert_eq!(world.round(&["a"]), [""; 0]);
    assert_eq!(world.round(&["a"]), [""; 0]);
    assert_eq!(world.round(&[]), [""; 0], "a success in between starts the count over");
    assert_eq!(world.round(&["a"]), [""; 0]);
    assert_eq!(world.round(&["a"]), [""; 0]);
    assert_eq!(world.round(&["a"]), ["a down"]);
    assert_eq!(world.checks.healthy(&key("a")), Some(false));
    assert_eq!(world.round(&[]), [""; 0]);
    assert_eq!(world.round(&[]), ["a up"]);
}

#[test]
fn the_first_outcome_of_an_entry_decides_at_once() {
    let mut world = World::new(8);
    world.declare(&["a", "b"], None);
    assert_eq!(world.round(&["b"]), ["a up", "b down"]);
}

#[test]
fn checks_come_an_interval_apart_with_jitter() {
    let mut checks = Checks::new(8);
    let start = Instant::now();
    checks.declare(key("a"), spec(), None, start, 0.3);
    assert_eq!(checks.next_due(), Some(start), "a new entry is checked at once");
    for (random, seconds) in [(0.0, 9), (1.0, 11), (0.5, 10)] {
        let now = checks.next_due().unwrap();
        let request = checks.due(now).remove(0);
        assert_eq!(checks.next_due(), None);
        checks.on_outcome(&request, Ok(()), now, random);
        assert_eq!(checks.next_due(), Some(now + Duration::from_secs(seconds)));
    }
    // Known from before: spread over an interval.
    checks.declare(key("b"), spec(), Some(true), start, 0.5);
    assert_eq!(checks.next_due(), Some(start + Duration::from_secs(5)));
}

#[test]
fn no_more_than_the_limit_are_under_way() {
    let mut checks = Checks::new(2);
    let now = Instant::now();
    for name in ["a", "b", "c"] {
        checks.declare(key(name), spec(), None, now, 0.0);
    }
    let first = checks.due(now);
    assert_eq!((first.len(), checks.due(now).len(), checks.next_due()), (2, 0, None));
    // The place of one that was removed meanwhile is freed by its outcome.
    checks.remove(&first[0].key);
    assert_eq!(checks.on_outcome(&first[0], Ok(()), now, 0.0), None);
    assert_eq!(checks.due(now)[0].key, key("c"));
}

#[test]
fn an_outcome_of_an_older_declaration_is_dropped() {
    let mut world = World::new(8);
    world.declare(&["a"], Some(true));
    let old = world.checks.due(world.now).remove(0);
    let changed = CheckSpec { unhealthy_threshold: 1, ..spec() };
    world.checks.declare(key("a"), changed, None, world.now, 0.0);
    assert_eq!(world.checks.on_outcome(&old, Err("refused".into()), world.now, 0.0), None);
    assert_eq!(world.checks.healthy(&key("a")), Some(true), "the verdict outlives the change");
    assert_eq!(world.round(&["a"]), ["a down"]);
}

#[test]
fn when_most_fail_at_once_the_last_state_is_held_and_the_checker_reports_itself() {
    let mut world = World::new(8);
    let all = ["a", "b", "c", "d", "e"];
    world.declare(&all, Some(true));
    for _ in 0..10 {
        assert_eq!(world.round(&["a", "b", "c"]), [""; 0]);
    }
    let held = world.checks.report().held.expect("a report");
    assert!(held.starts_with("3 of 5 health checks fail"), "{held}");
    // One of them comes back: no longer most, so the others are what they seem.
    let mut changes: Vec<String> = (0..4).flat_map(|_| world.round(&["a", "b"])).collect();
    changes.sort();
    assert_eq!(changes, ["a down", "b down"]);
    let report = world.checks.report();
    assert_eq!((report.held, report.unhealthy), (None, 2));
    // Unhealthy for long: they no longer count among those that fail.
    for _ in 0..12 {
        world.round(&["a", "b"]);
    }
    let changes: Vec<String> = (0..12).flat_map(|_| world.round(&["a", "b", "c"])).collect();
    assert_eq!(changes, ["c down"]);
}

#[test]
fn a_few_endpoints_may_all_fail() {
    let mut world = World::new(8);
    world.declare(&["a", "b"], Some(true));
    let mut changes: Vec<String> = (0..6).flat_map(|_| world.round(&["a", "b"])).collect();
    changes.sort();
    assert_eq!(changes, ["a down", "b down"]);
}
