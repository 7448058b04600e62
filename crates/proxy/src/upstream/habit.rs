//! How long an endpoint leaves idle connections open, as far as it shows.
//!
//! A request that is sent while its endpoint closes the connection is lost, and only some may be sent again. Few servers say
//! after what time they close; the others show it: what was open at one look and closed at the next.

use std::cell::Cell;
use std::time::Duration;

/// Taken off what an endpoint says: for its answer's way, and the next request's.
const MARGIN: Duration = Duration::from_secs(1);
/// A connection that was closed sooner shows nothing: servers are restarted.
const LEAST: Duration = Duration::from_secs(2);

/// What one endpoint has shown to one worker.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    most: Cell<Option<Duration>>,
}

impl Habit {
    /// True when a connection that has been idle for so long may still be relied on.
    pub(crate) fn trusts(&self, idle: Duration) -> bool {
        self.most.get().is_none_or(|most| idle <= most)
    }

    /// A response said that its connection is left open for so long (`Keep-Alive: timeout=`).
    pub(crate) fn said(&self, open: Duration) {
        self.most.set(Some(open.saturating_sub(MARGIN)));
    }

    /// A connection was found closed that had been idle for `idle` when it was last seen open.
    pub(crate) fn closed(&self, idle: Duration) {
        if idle >= LEAST && self.trusts(idle) {
            self.most.set(Some(idle));
        }
    }

    /// A connection is open after so long: whatever closed others, it was not their age.
    pub(crate) fn open(&self, idle: Duration) {
        if !self.trusts(idle) {
            self.most.set(Some(idle));
        }
    }
}

#[cfg(test)]
mod habit_test {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_is_seen_is_believed_until_more_is_seen() {
        let habit = Habit::default();
        assert!(habit.trusts(secs(3600)));
        // A server that closes after 5 s: open at 4 s, closed at 6.
        habit.closed(secs(4));
        assert!(habit.trusts(secs(4)) && !habit.trusts(secs(5)));
        // A restart, which closes young and old.
        habit.closed(secs(1));
        habit.closed(secs(30));
        assert!(habit.trusts(secs(4)) && !habit.trusts(secs(5)));
        habit.closed(secs(3));
        assert!(!habit.trusts(secs(4)));
        habit.open(secs(58));
        assert!(habit.trusts(secs(58)) && !habit.trusts(secs(59)));
    }

    #[test]
    fn what_is_said_counts_less_a_second() {
        let habit = Habit::default();
        habit.said(secs(5));
        assert!(habit.trusts(secs(4)) && !habit.trusts(secs(5)));
        habit.said(secs(1));
        assert!(!habit.trusts(Duration::from_millis(1)));
    }
}
