//! A timer for deadlines that are nearly always moved before they pass.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer, armed for the earliest time anybody asked for. Moving a deadline further away costs nothing: the timer goes
/// off at the old time, sees that it is early, and is armed again.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready when `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// The earlier of two deadlines.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod alarm_test {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moved_deadline_is_kept() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let early = start + Duration::from_secs(1);
        assert!(alarm.poll(&mut cx, Some(early)).is_pending());
        let late = start + Duration::from_secs(9);
        poll_fn(|cx| alarm.poll(cx, Some(late))).await;
        assert_eq!(Instant::now(), late);
        let sooner = late + Duration::from_secs(2);
        assert!(alarm.poll(&mut cx, Some(late + Duration::from_secs(60))).is_pending());
        poll_fn(|cx| alarm.poll(cx, Some(sooner))).await;
        assert_eq!(Instant::now(), sooner);
    }
}
