//! Outlier detection: what this proxy has seen of an endpoint, and how long it stays away from it for that.
//!
//! The history is the user's, per proxy, so the workers share it; it outlives changes of the configuration. It is touched
//! only where the cluster asks for detection. No I/O and no clock: `now` is time since the proxy's start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::http::head::ResponseHead;
use crate::http::stream::grpc_status;
use crate::snapshot::{Name, OutlierDetection};

/// What one attempt told of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A response with this status.
    Status(u16),
    /// No response: not connected, reset, or out of time.
    Local,
}

impl Told {
    /// What a response's head tells: its status, or for gRPC the status that stands for its code (when the code comes in
    /// trailers, the call was begun well).
    pub(crate) fn of(head: &ResponseHead) -> Self {
        Self::Status(match grpc_status(&head.headers) {
            Some(2 | 13 | 15) => 500,
            Some(12) => 501,
            Some(14) => 503,
            Some(4) => 504,
            _ => head.status,
        })
    }
}

/// The history of one cluster's endpoints.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    hosts: Mutex<HashMap<Name, Weak<History>>>,
    ejected: Arc<AtomicU32>,
}

/// The history of one endpoint.
#[derive(Debug)]
pub(crate) struct History {
    /// In a row: 5xx, gateway errors, local failures.
    errors: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    /// How often it was ejected of late.
    times: AtomicU32,
    /// When the current ejection ends, in milliseconds; 0: it is not ejected.
    until: AtomicU64,
    /// When the last one ended.
    back: AtomicU64,
    /// The cluster's count of ejected endpoints.
    ejected: Arc<AtomicU32>,
}

impl Outliers {
    /// The history of the endpoint of that identity.
    pub(crate) fn history(&self, id: &Name) -> Arc<History> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(id).and_then(Weak::upgrade) {
            return known;
        }
        if hosts.len() >= hosts.capacity() {
            hosts.retain(|_, history| history.strong_count() > 0);
        }
        let history = Arc::new(History::new(self.ejected.clone()));
        hosts.insert(id.clone(), Arc::downgrade(&history));
        history
    }
}

/// At least 1: 0 says that there is no ejection.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl History {
    fn new(ejected: Arc<AtomicU32>) -> Self {
        let (errors, gateway, local, times) = Default::default();
        Self { errors, gateway, local, times, until: AtomicU64::new(0), back: AtomicU64::new(0), ejected }
    }

    /// Takes up what an attempt told. True when the endpoint is ejected for it. `hosts`: endpoints of the cluster.
    pub(crate) fn tell(&self, told: Told, rules: &OutlierDetection, hosts: usize, now: Duration) -> bool {
        // Where local failures are not counted apart, one is what a gateway would answer for it.
        let status = match told {
            Told::Status(status) => status,
            Told::Local if rules.split_local_errors => {
                return self.count(&self.local, true, rules.consecutive_local)
                    && self.eject(rules, hosts, now);
            }
            Told::Local => 503,
        };
        self.count(&self.local, false, 0);
        let gateway = self.count(&self.gateway, (502..=504).contains(&status), rules.consecutive_gateway);
        let errors = self.count(&self.errors, status >= 500, rules.consecutive_5xx);
        (gateway || errors) && self.eject(rules, hosts, now)
    }

    /// Counts failures in a row; true when there are `most` (0: never).
    fn count(&self, counter: &AtomicU32, failed: bool, most: u32) -> bool {
        if !failed {
            // Most have nothing to forget, and a read costs the other workers nothing.
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if most == 0 || count < most {
            return false;
        }
        counter.store(0, Ordering::Relaxed);
        true
    }

    /// Ejects it, unless it is ejected or too many are. One may always go, unless none may.
    fn eject(&self, rules: &OutlierDetection, hosts: usize, now: Duration) -> bool {
        if self.ejected(now) || rules.max_ejection_percent == 0 {
            return false;
        }
        let before = self.ejected.fetch_add(1, Ordering::Relaxed);
        let most = u64::from(rules.max_ejection_percent) * hosts as u64;
        if before > 0 && u64::from(before + 1) * 100 > most {
            self.ejected.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        // Each quiet interval since the last ejection takes one off the count.
        let quiet = millis(now).saturating_sub(self.back.load(Ordering::Relaxed));
        let forgiven = u32::try_from(quiet / millis(rules.interval)).unwrap_or(u32::MAX);
        let times = self.times.load(Ordering::Relaxed).saturating_sub(forgiven) + 1;
        let time = rules.base_ejection.saturating_mul(times).min(rules.max_ejection);
        let until = millis(now + time);
        if self.until.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.ejected.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.times.store(times, Ordering::Relaxed);
        true
    }

    /// Whether it is ejected; the first to see that its time is over takes it back.
    pub(crate) fn ejected(&self, now: Duration) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        if millis(now) < until {
            return true;
        }
        if self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.back.store(until, Ordering::Relaxed);
            self.ejected.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if *self.until.get_mut() != 0 {
            self.ejected.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "outlier_test.rs"]
mod outlier_test;
