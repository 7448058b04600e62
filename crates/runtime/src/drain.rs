//! From serving to gone: connections are asked to end, then cut.

use std::time::Duration;

use tokio::sync::watch;

/// Where a process stands between start and end. Phases only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is accepted.
    Serving,
    /// Listeners stay open, connections are asked to end (`Connection: close`, GOAWAY).
    Draining,
    /// Listeners are closed, what is still open may finish.
    Closing,
    /// What is still open is cut.
    Stopped,
}

/// The switch. Dropping it stops everything.
#[derive(Debug)]
pub struct Drain {
    sender: watch::Sender<Phase>,
}

/// The view of the switch that connections and workers have.
#[derive(Clone, Debug)]
pub struct DrainSignal {
    receiver: watch::Receiver<Phase>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { sender: watch::Sender::new(Phase::Serving) }
    }
}

impl Drain {
    /// The default time between the start of a drain and the cut (Istio's `drainDuration`).
    pub const DEFAULT: Duration = Duration::from_secs(45);

    /// A view of the switch.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal { receiver: self.sender.subscribe() }
    }

    /// Moves to `phase`; going back is ignored.
    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.sender.borrow()
    }
}

impl DrainSignal {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.receiver.borrow()
    }

    /// Waits until the phase is at least `phase`. A dropped [`Drain`] counts as stopped.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.receiver.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod drain_test {
    use super::*;

    #[tokio::test]
    async fn phases_move_forward_only() {
        let drain = Drain::default();
        let mut signal = drain.signal();
        assert_eq!(signal.phase(), Phase::Serving);
        drain.advance(Phase::Closing);
        drain.advance(Phase::Draining);
        assert_eq!(drain.phase(), Phase::Closing);
        signal.reached(Phase::Draining).await;
        drop(drain);
        signal.reached(Phase::Stopped).await;
    }
}
