use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Spreads the beginning of streams over time: a bucket that fills at a constant rate.
pub(super) struct Admission {
    interval: Duration,
    burst: Duration,
    /// When the bucket would be full again if nobody came.
    next: Mutex<Instant>,
}

impl Admission {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: interval * burst, next: Mutex::new(Instant::now()) }
    }

    /// Waits for this stream's turn.
    pub(super) async fn turn(&self) {
        tokio::time::sleep_until(self.reserve(Instant::now())).await;
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (*next).max(now);
        *next = slot + self.interval;
        slot.checked_sub(self.burst).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_comes_at_the_rate() {
        let admission = Admission::new(100, 10);
        let now = Instant::now() + Duration::from_secs(1);
        let waits: Vec<_> = (0..30).map(|_| admission.reserve(now) - now).collect();
        assert!(waits[..11].iter().all(Duration::is_zero));
        assert_eq!(waits[20], Duration::from_millis(100));
        let later = now + Duration::from_secs(10);
        assert_eq!(admission.reserve(later), later);
    }
}
