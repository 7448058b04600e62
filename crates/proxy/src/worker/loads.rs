//! How many connections each worker has, and which worker serves the next one.
//!
//! The system spreads connections over the workers' sockets by a hash: of sixteen, one worker of eight often gets five and
//! another none, and a long connection of HTTP/2 stays where it is. So whoever has far more than the least loaded hands
//! over what it accepts, as Envoy does with `connection_balance_config.exact_balance`. The counts are written when a
//! connection opens, moves or closes, never for a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The client connections of each worker.
#[derive(Debug, Default)]
pub(crate) struct Loads(Box<[AtomicU32]>);

impl Loads {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn add(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn take(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// No worker has a connection, and none is on its way from one to another.
    pub(crate) fn none(&self) -> bool {
        self.0.iter().all(|load| load.load(Ordering::Relaxed) == 0)
    }

    /// Counts a connection that is to come.
    pub(crate) fn expect(self: &Arc<Self>, worker: usize) -> Expected {
        self.add(worker);
        Expected { loads: self.clone(), worker }
    }

    /// The least loaded worker, when `own` has too many more to serve what it has just accepted: two, and a quarter of
    /// what the other has. Moving a connection costs a wake-up, so small differences stay.
    pub(crate) fn elsewhere(&self, own: usize) -> Option<usize> {
        let of = |load: &AtomicU32| load.load(Ordering::Relaxed);
        let mine = of(self.0.get(own)?);
        // Nobody can be that much below.
        if mine < 2 {
            return None;
        }
        let (least, worker) = self.0.iter().enumerate().map(|(worker, load)| (of(load), worker)).min()?;
        (mine >= least + 2 + least / 4).then_some(worker)
    }
}

/// A connection that is to come to a worker, counted there until this is dropped: by then it has been opened, or none came.
#[derive(Debug)]
pub(crate) struct Expected {
    loads: Arc<Loads>,
    pub(crate) worker: usize,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.loads.take(self.worker);
    }
}

#[cfg(test)]
mod loads_test {
    use super::*;

    /// Places `connections` where a hash would, moved where they are to be, and returns the most on one worker.
    fn most(workers: usize, connections: usize, seed: u64) -> u32 {
        let loads = Loads::new(workers);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..connections {
            let accepted = random.usize(..workers);
            loads.add(loads.elsewhere(accepted).unwrap_or(accepted));
        }
        loads.0.iter().map(|load| load.load(Ordering::Relaxed)).max().unwrap()
    }

    #[test]
    fn few_connections_are_spread_evenly_over_many_workers() {
        for seed in 0..1000 {
            assert!(most(8, 16, seed) <= 3, "seed {seed}: more than 1.5 of the mean");
            assert!(most(64, 128, seed) <= 3, "seed {seed}");
            assert!(most(64, 6400, seed) <= 127, "seed {seed}: more than 1.27 of the mean");
            assert_eq!(most(1, 9, seed), 9);
        }
    }

    /// Connections come and go: whoever is left with many gives the next ones away.
    #[test]
    fn what_has_gone_out_of_balance_comes_back() {
        let loads = Loads::new(4);
        (0..40).for_each(|_| loads.add(2));
        let mut moved = 0;
        for _ in 0..100 {
            let worker = loads.elsewhere(2).unwrap_or(2);
            moved += u32::from(worker != 2);
            loads.add(worker);
        }
        assert!(moved >= 90, "{moved}: {loads:?}");
        assert!(!loads.none());
    }
}
