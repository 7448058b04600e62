//! How many retries a cluster may have under way on one worker.
//!
//! Envoy's budget (`circuit_breakers.thresholds.retry_budget`): a share of the active requests, and at least some. Beside
//! it, as in Linkerd, what went well saves up: each answered request adds the same share of one retry. So an endpoint that
//! dies under many requests costs none of them, and one that keeps failing still cannot add more than its share of load.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::limits::{Ticket, Totals};
use crate::snapshot::Breakers;

/// By default a fifth of the active requests, and at least three (DESIGN 7.5).
const DEFAULT: (f64, u32) = (20.0, 3);

/// One retry, in the unit that savings are counted in: percent of a retry.
const RETRY: u32 = 100;

/// The most that is saved: 100 retries.
const MOST: u32 = 100 * RETRY;

/// What a cluster begins with: an endpoint may die before much was answered.
const FIRST: u32 = 20 * RETRY;

/// The retries of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// A declared `max_retries` holds over all workers.
    totals: Arc<Totals>,
    under_way: Rc<Cell<u32>>,
    saved: Cell<u32>,
}

/// One retry under way: from the decision to make it to its response.
#[derive(Debug)]
pub(crate) struct Retrying {
    under_way: Rc<Cell<u32>>,
    /// Its place under `max_retries`.
    _declared: Ticket,
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get() - 1);
    }
}

impl Budget {
    pub(crate) fn new(totals: Arc<Totals>) -> Self {
        Self { totals, saved: Cell::new(FIRST), ..Self::default() }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, breakers: &Breakers) {
        let (percent, _) = breakers.retry_budget.unwrap_or(DEFAULT);
        self.saved.set(self.saved.get().saturating_add(percent as u32).min(MOST));
    }

    /// One more retry with `active` requests under way; `None` when there is no room for it.
    /// `free`: nothing was sent, so that only a declared `max_retries` counts.
    pub(crate) fn take(&self, active: u32, breakers: &Breakers, free: bool) -> Option<Retrying> {
        let under_way = self.under_way.get();
        let declared = self.totals.retry(breakers).ok()?;
        let (percent, least) = breakers.retry_budget.unwrap_or(DEFAULT);
        let share = f64::from(active) * percent / 100.0;
        if !free && f64::from(under_way) >= share.max(f64::from(least)) {
            if percent <= 0.0 {
                return None;
            }
            self.saved.set(self.saved.get().checked_sub(RETRY)?);
        }
        self.under_way.set(under_way + 1);
        Some(Retrying { under_way: self.under_way.clone(), _declared: declared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers(max_retries: Option<u32>) -> Breakers {
        Breakers { max_retries, ..Breakers::default() }
    }

    fn take_all(budget: &Budget, active: u32, breakers: &Breakers) -> Vec<Retrying> {
        std::iter::from_fn(|| budget.take(active, breakers, false)).take(1000).collect()
    }

    #[test]
    fn a_share_of_the_active_and_at_least_three() {
        let budget = Budget::default();
        assert_eq!(take_all(&budget, 0, &breakers(None)).len(), 3);
        assert_eq!(budget.under_way.get(), 0, "given back");
        assert_eq!(take_all(&budget, 50, &breakers(None)).len(), 10);
    }

    #[test]
    fn answered_requests_save_up_and_no_more_than_a_hundred_retries() {
        let budget = Budget::default();
        for _ in 0..50 {
            budget.answered(&breakers(None));
        }
        assert_eq!(take_all(&budget, 16, &breakers(None)).len(), 4 + 10);
        assert_eq!(take_all(&budget, 16, &breakers(None)).len(), 4, "savings are spent once");
        for _ in 0..10_000 {
            budget.answered(&breakers(None));
        }
        assert_eq!(take_all(&budget, 16, &breakers(None)).len(), 4 + 100);
    }

    #[test]
    fn the_first_requests_have_something_to_spend_unless_nothing_may_be() {
        let nothing = Breakers { retry_budget: Some((0.0, 1)), ..Breakers::default() };
        let new = || Budget::new(Arc::default());
        assert_eq!(take_all(&new(), 10, &breakers(None)).len(), 3 + 20);
        assert_eq!(take_all(&new(), 10, &nothing).len(), 1);
    }

    #[test]
    fn what_is_declared_holds_over_all_workers() {
        let totals = Arc::<Totals>::default();
        let (one, two) = (Budget::new(totals.clone()), Budget::new(totals));
        let held = take_all(&one, 0, &breakers(Some(2)));
        assert_eq!(held.len(), 2);
        assert!(two.take(0, &breakers(Some(2)), true).is_none());
        drop(held);
        assert!(two.take(0, &breakers(Some(2)), true).is_some());
    }

    #[test]
    fn what_is_declared_bounds_free_ones_too() {
        let budget = Budget::default();
        let held: Vec<_> = (0..50).filter_map(|_| budget.take(0, &breakers(Some(7)), true)).collect();
        assert_eq!(held.len(), 7);
        assert!(budget.take(0, &breakers(None), true).is_some());
    }
}
