//! Ready when every gate is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The conditions that must hold before a process calls itself ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Gate>>>,
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    open: Arc<AtomicBool>,
}

impl Readiness {
    /// A new closed gate; `name` says in `/ready` what is waited for.
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate { name, open: Arc::new(AtomicBool::new(false)) };
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push(gate.clone());
        gate
    }

    /// What is still waited for; empty when ready.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|gate| !gate.is_open())
            .map(|gate| gate.name)
            .collect()
    }
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The condition no longer holds.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// Whether it holds.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod ready_test {
    use super::*;

    #[test]
    fn waits_for_every_gate() {
        let readiness = Readiness::default();
        let (first, second) = (readiness.gate("first"), readiness.gate("second"));
        first.open();
        assert_eq!(readiness.waiting_for(), ["second"]);
        second.open();
        assert!(readiness.waiting_for().is_empty());
        first.close();
        assert_eq!(readiness.waiting_for(), ["first"]);
    }
}
