//! A worker's part of a limit that holds over all workers.
//!
//! `max_requests` is the user's, per proxy, and a count that all workers write for each request is what a proxy of many
//! cores cannot afford. So a worker takes places in batches and gives back what it has too much of: as long as its own
//! requests go up and down by less than a batch, it writes nothing that others read. No more requests than the limit are
//! ever under way. What waits unused in other workers is at most a sixteenth of the limit, so one may be refused so much
//! early. A limit below 32 times the number of workers is exact, at the price of the shared count.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::connect::ConnectError;
use super::limits::Totals;

/// Batches in a limit, for each worker. Two of them may wait unused in each.
const BATCHES: u32 = 32;

/// One worker's places of one cluster.
#[derive(Debug)]
pub(crate) struct Quota {
    totals: Arc<Totals>,
    workers: u32,
    /// Places that this worker has, and those of them that requests have.
    held: Cell<u32>,
    used: Cell<u32>,
    batch: Cell<u32>,
}

/// One request's place, given back when dropped; nothing where there is no limit.
#[derive(Debug, Default)]
pub(crate) struct Granted(Option<Rc<Quota>>);

impl Quota {
    pub(crate) fn new(totals: Arc<Totals>, workers: u32) -> Self {
        Self { totals, workers, held: Cell::new(0), used: Cell::new(0), batch: Cell::new(0) }
    }

    /// A place for one more request.
    pub(crate) fn take(self: &Rc<Self>, limit: Option<u32>) -> Result<Granted, ConnectError> {
        let Some(limit) = limit else { return Ok(Granted::default()) };
        let batch = limit / self.workers.saturating_mul(BATCHES).max(1);
        if self.batch.replace(batch) != batch {
            // The limit is another: what was taken under the old one counts for nothing.
            self.give_back(0);
        }
        if self.used.get() == self.held.get() {
            let taken = claim(&self.totals.requests, batch.max(1), limit);
            if taken == 0 {
                return Err(ConnectError::Overflow);
            }
            self.held.set(self.held.get() + taken);
        }
        self.used.set(self.used.get() + 1);
        Ok(Granted(Some(self.clone())))
    }

    /// Gives back all that is not used but `keep`.
    fn give_back(&self, keep: u32) {
        let spare = (self.held.get() - self.used.get()).saturating_sub(keep);
        if spare > 0 {
            self.held.set(self.held.get() - spare);
            self.totals.requests.fetch_sub(spare, Ordering::Relaxed);
        }
    }
}

/// Takes up to `wanted` of what is left of `limit`.
fn claim(held: &AtomicU32, wanted: u32, limit: u32) -> u32 {
    let claimed = |before: u32| before + wanted.min(limit.saturating_sub(before));
    let before = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(claimed(before)));
    before.map_or(0, |before| claimed(before) - before)
}

impl Drop for Granted {
    fn drop(&mut self) {
        let Some(quota) = &self.0 else { return };
        quota.used.set(quota.used.get() - 1);
        let batch = quota.batch.get();
        if quota.held.get() - quota.used.get() > 2 * batch {
            quota.give_back(batch);
        }
    }
}

#[cfg(test)]
mod quota_test {
    use super::*;

    struct Proxy {
        totals: Arc<Totals>,
        workers: Vec<(Rc<Quota>, Vec<Granted>)>,
        limit: u32,
    }

    impl Proxy {
        fn new(workers: u32, limit: u32) -> Self {
            let totals = Arc::<Totals>::default();
            let quota = || (Rc::new(Quota::new(totals.clone(), workers)), Vec::new());
            let workers = (0..workers).map(|_| quota()).collect();
            Self { totals, workers, limit }
        }

        fn used(&self) -> u32 {
            self.workers.iter().map(|(quota, _)| quota.used.get()).sum()
        }

        fn taken(&self) -> u32 {
            self.totals.requests.load(Ordering::Relaxed)
        }

        fn begin(&mut self, worker: usize) -> bool {
            let (quota, places) = &mut self.workers[worker];
            let place = quota.take(Some(self.limit));
            let came = place.is_ok();
            places.extend(place);
            came
        }

        fn end(&mut self, worker: usize, which: u64) {
            let places = &mut self.workers[worker].1;
            if !places.is_empty() {
                let which = which as usize % places.len();
                drop(places.swap_remove(which));
            }
        }
    }

    /// Whatever comes and goes on up to 64 workers: the limit holds, nobody is refused while more than a sixteenth of it is
    /// free, and all of it comes back.
    #[test]
    fn the_limit_holds_and_nearly_all_of_it_can_be_used() {
        let mut random = fastrand::Rng::with_seed(7);
        for (workers, limit) in
            [(1, 1), (2, 3), (8, 1), (8, 100), (8, 1024), (64, 1024), (64, 100_000), (3, u32::MAX)]
        {
            let mut proxy = Proxy::new(workers, limit);
            for step in 0..200_000 {
                let worker = random.usize(..workers as usize);
                // Load comes in waves, some of them far above the limit.
                let busy = (step / 20_000) % 2 == 0;
                if random.u32(..10) < if busy { 8 } else { 3 } {
                    let before = proxy.used();
                    if !proxy.begin(worker) {
                        assert!(
                            before + limit / 16 >= limit,
                            "{workers} workers, {limit}: refused at {before}"
                        );
                    }
                } else {
                    proxy.end(worker, random.u64(..));
                }
                if step % 64 == 0 {
                    assert!(proxy.used() <= proxy.taken() && proxy.taken() <= limit);
                }
            }
            for (_, places) in &mut proxy.workers {
                places.clear();
            }
            assert!(proxy.taken() <= limit / 16, "{workers} workers keep {} of {limit}", proxy.taken());
        }
    }

    /// A worker whose requests come and go leaves the shared count alone.
    #[test]
    fn what_all_workers_read_is_not_written_for_each_request() {
        let mut proxy = Proxy::new(8, 4096);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..40 {
            assert!(proxy.begin(0));
        }
        let (mut writes, mut before) = (0, proxy.taken());
        for _ in 0..10_000 {
            if proxy.workers[0].1.len() < random.usize(30..50) {
                assert!(proxy.begin(0));
            } else {
                proxy.end(0, random.u64(..));
            }
            writes += u32::from(std::mem::replace(&mut before, proxy.taken()) != proxy.taken());
        }
        assert!(writes <= 100, "{writes} in 10,000 steps");
    }

    #[test]
    fn a_new_limit_is_in_force_at_once() {
        let mut proxy = Proxy::new(2, 6400);
        assert!(proxy.begin(0) && proxy.begin(1));
        assert_eq!(proxy.taken(), 200);
        proxy.limit = 3;
        assert!(!proxy.begin(0), "the other worker has a batch of the old one");
        assert!(proxy.begin(1), "which it gives back when it looks");
        assert!(!proxy.begin(1));
        proxy.end(0, 0);
        proxy.end(1, 0);
        assert!(proxy.begin(0) && proxy.begin(0));
        assert!(!proxy.begin(1));
    }
}
