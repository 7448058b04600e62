//! What a worker remembers of an endpoint that refuses connections.
//!
//! No health check and no control plane is as quick as the refusal itself: the balancer passes by such an endpoint while
//! others exist, and one request at a time tries it again, after a pause that doubles.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each further refusal doubles it.
const BASE: Duration = Duration::from_millis(250);
/// The longest one: an instance that came back is found within it, health check or not.
const LONGEST: Duration = Duration::from_secs(10);

/// Whether an endpoint can be reached, as far as this worker has seen.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Tries that failed since one succeeded; many connections that fail at once are one.
    failed: Cell<u32>,
    /// A try is under way.
    trying: Cell<bool>,
    until: Cell<Option<Instant>>,
}

impl Reach {
    /// No connection came about.
    pub(crate) fn lost(&self, now: Instant) {
        if self.failed.get() == 0 || self.trying.replace(false) {
            self.failed.set(self.failed.get().saturating_add(1));
            self.pass_by(now);
        }
    }

    /// A connection came about.
    pub(crate) fn found(&self) {
        self.failed.set(0);
    }

    /// How many failures speak against it now; 0 when none does, or when it is time to try again.
    pub(crate) fn badness(&self) -> u32 {
        let failed = self.failed.get();
        // The clock is read only for those that failed.
        if failed == 0 || self.until.get().is_none_or(|until| Instant::now() >= until) { 0 } else { failed }
    }

    /// It was chosen: when this is another try at an endpoint that failed, one is enough.
    pub(crate) fn chosen(&self) {
        if self.failed.get() > 0 {
            self.trying.set(true);
            self.pass_by(Instant::now());
        }
    }

    fn pass_by(&self, now: Instant) {
        let pause = BASE.saturating_mul(1 << self.failed.get().saturating_sub(1).min(16)).min(LONGEST);
        self.until.set(Some(now + pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_tries_again_after_a_pause_that_doubles() {
        let reach = Reach::default();
        assert_eq!(reach.badness(), 0);
        for pause in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            (0..30).for_each(|_| reach.lost(Instant::now()));
            tokio::time::advance(Duration::from_millis(pause - 1)).await;
            assert!(reach.badness() > 0, "{pause}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(reach.badness(), 0, "{pause}");
            reach.chosen();
            assert!(reach.badness() > 0, "only one tries");
        }
        reach.found();
        assert_eq!(reach.badness(), 0);
        reach.chosen();
        assert_eq!(reach.badness(), 0);
    }
}
