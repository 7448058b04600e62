//! When to check whom, and what the answers come to. No I/O, no clock, no randomness of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use heddle_resource::Key;

use super::spec::CheckSpec;

/// Behind fewer endpoints than this, "most of them fail" says nothing about the checker.
const MANY: usize = 4;
/// The first check of an entry comes at once; those of a plane that starts again are spread out.
const FIRST: Duration = Duration::ZERO;

/// A check to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    pub key: Key,
    /// Given back with the outcome; an outcome for an older declaration is dropped.
    pub generation: u64,
    pub spec: CheckSpec,
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    pub key: Key,
    pub healthy: bool,
    /// Why: the last failure, or that the check passes.
    pub message: String,
}

/// How the checker itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub endpoints: usize,
    pub unhealthy: usize,
    /// Set while so many checks fail that the checker doubts itself and holds the last state.
    pub held: Option<String>,
}

struct Check {
    spec: CheckSpec,
    generation: u64,
    /// `None` until the first outcome.
    healthy: Option<bool>,
    changed: Option<Instant>,
    /// Outcomes in a row that contradict `healthy`.
    streak: u32,
    last_failed: bool,
    /// When the next check is due; `None` while one is under way.
    due: Option<Instant>,
}

/// Every declared check.
pub struct Checks {
    checks: BTreeMap<Key, Check>,
    queue: BTreeSet<(Instant, Key)>,
    in_flight: usize,
    limit: usize,
    generation: u64,
    held: bool,
}

impl Checks {
    /// At most `limit` checks are under way at once.
    pub fn new(limit: usize) -> Self {
        Self {
            checks: BTreeMap::new(),
            queue: BTreeSet::new(),
            in_flight: 0,
            limit: limit.max(1),
            generation: 0,
            held: false,
        }
    }

    /// Takes a declaration. An unchanged one changes nothing. `known`: the verdict an earlier checker
    /// left, which holds until ours; the first check of such an entry comes within an interval, `random`
    /// (0 to 1) saying when.
    pub fn declare(&mut self, key: Key, spec: CheckSpec, known: Option<bool>, now: Instant, random: f64) {
        if self.checks.get(&key).is_some_and(|check| check.spec == spec) {
            return;
        }
        let kept = self.checks.get(&key).and_then(|check| check.healthy);
        self.remove(&key);
        self.generation += 1;
        let healthy = kept.or(known);
        let due = now + if healthy.is_some() { spec.interval.mul_f64(random.clamp(0.0, 1.0)) } else { FIRST };
        self.queue.insert((due, key.clone()));
        self.checks.insert(
            key,
            Check {
                spec,
                generation: self.generation,
                healthy,
                changed: None,
                streak: 0,
                last_failed: false,
                due: Some(due),
            },
        );
        self.check_invariants();
    }

    /// The entry is gone, or no longer declares a check. True when it had one.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(check) = self.checks.remove(key) else { return false };
        if let Some(due) = check.due {
            self.queue.remove(&(due, key.clone()));
        }
        self.check_invariants();
        true
    }

    /// The checks to make now. Each must be answered by [`Checks::on_outcome`].
    pub fn due(&mut self, now: Instant) -> Vec<ProbeRequest> {
        let mut requests = Vec::new();
        while self.in_flight < self.limit
            && let Some((due, _)) = self.queue.first()
            && *due <= now
            && let Some((_, key)) = self.queue.pop_first()
        {
            let Some(check) = self.checks.get_mut(&key) else { continue };
            check.due = None;
            self.in_flight += 1;
            requests.push(ProbeRequest { key, generation: check.generation, spec: check.spec.clone() });
        }
        requests
    }

    /// When the next check is due; `None` while as many as allowed are under way, or none is declared.
    pub fn next_due(&self) -> Option<Instant> {
        let free = self.in_flight < self.limit;
        self.queue.first().filter(|_| free).map(|(due, _)| *due)
    }

    /// Takes an outcome and plans the next check, an interval from now give or take a tenth.
    pub fn on_outcome(
        &mut self,
        request: &ProbeRequest,
        outcome: Result<(), String>,
        now: Instant,
        random: f64,
    ) -> Option<HealthChange> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let check = self.checks.get_mut(&request.key)?;
        if check.generation != request.generation {
            return None;
        }
        let due = now + check.spec.interval.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0));
        check.due = Some(due);
        self.queue.insert((due, request.key.clone()));
        let passed = outcome.is_ok();
        check.last_failed = !passed;
        let wanted = match check.healthy {
            // The first outcome decides at once, as Envoy's.
            None => 1,
            Some(healthy) if healthy == passed => {
                check.streak = 0;
                self.held = self.held && self.mostly_failing(now);
                return None;
            }
            Some(true) => check.spec.unhealthy_threshold,
            Some(false) => check.spec.healthy_threshold,
        };
        check.streak += 1;
        let reached = check.streak >= wanted;
        let first = check.healthy.is_none();
        // What most endpoints suffer at once is more likely the checker's own trouble.
        self.held = !passed && !first && self.mostly_failing(now);
        if !reached || self.held {
            return None;
        }
        let check = self.checks.get_mut(&request.key)?;
        check.healthy = Some(passed);
        check.changed = Some(now);
        check.streak = 0;
        self.check_invariants();
        let message = outcome.err().unwrap_or_else(|| "the check passes".to_owned());
        Some(HealthChange { key: request.key.clone(), healthy: passed, message })
    }

    /// Whether more than half of what was healthy an interval ago fails now.
    fn mostly_failing(&self, now: Instant) -> bool {
        let recently = |check: &Check| {
            check.changed.is_some_and(|at| now.saturating_duration_since(at) <= check.spec.interval)
        };
        let (mut all, mut failing) = (0, 0);
        for check in self.checks.values() {
            let counted = match check.healthy {
                Some(true) => true,
                Some(false) => recently(check),
                None => false,
            };
            all += usize::from(counted);
            failing += usize::from(counted && check.last_failed);
        }
        all >= MANY && failing * 2 > all
    }

    pub fn healthy(&self, key: &Key) -> Option<bool> {
        self.checks.get(key)?.healthy
    }

    pub fn report(&self) -> Report {
        let failing = self.checks.values().filter(|check| check.last_failed).count();
        Report {
            endpoints: self.checks.len(),
            unhealthy: self.checks.values().filter(|check| check.healthy == Some(false)).count(),
            held: self.held.then(|| {
                format!(
                    "{failing} of {} health checks fail: the checker's own network may be at fault, so the last \
                     state is held; check what this control plane can reach",
                    self.checks.len()
                )
            }),
        }
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.queue.len(), self.checks.values().filter(|check| check.due.is_some()).count());
    }
}

#[cfg(test)]
#[path = "checks_test.rs"]
mod checks_test;
