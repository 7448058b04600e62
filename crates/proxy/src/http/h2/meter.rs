//! What an HTTP/2 peer may ask of us without giving anything: SETTINGS and PING to answer, windows, priorities, resets
//! and empty frames.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::{self, Head};

/// Frames that carry nothing and may come in one burst.
const BURST: u32 = 2000;
/// How many of them each frame with fields or data, in either direction, makes good.
const EARNED: u32 = 8;
/// How many become free in a second, whatever else happens: keep-alives of idle connections.
const PER_SECOND: u32 = 100;
/// The kind of frame that there were too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// SETTINGS, PING, RST_STREAM, unknown frames.
    Control,
    WindowUpdate,
    Priority,
    /// DATA or fields without content.
    Empty,
}

impl Flood {
    /// Envoy's names, in the order of the variants.
    pub(crate) const NAMES: [&str; 4] = [
        "outbound_control_flood",
        "inbound_window_update_frames_flood",
        "inbound_priority_frames_flood",
        "inbound_empty_frames_flood",
    ];
}

/// Streams of one connection that its client broke off early (CVE-2023-44487).
#[derive(Debug, Default)]
pub(crate) struct Resets {
    closed: Cell<u32>,
    early: Cell<u32>,
}

impl Resets {
    /// Envoy's `overload.premature_reset_total_stream_count`.
    const STREAMS: u32 = 500;
    /// A stream that lived longer was no attack (Envoy's `overload.premature_reset_min_stream_lifetime_seconds`).
    pub(crate) const EARLY: Duration = Duration::from_secs(1);

    /// A stream has ended. `early`: its client broke it off within [`Resets::EARLY`].
    pub(crate) fn closed(&self, early: bool) {
        self.closed.set(self.closed.get().saturating_add(1));
        self.early.set(self.early.get().saturating_add(u32::from(early)));
    }

    /// More than half of all streams, of at least [`Resets::STREAMS`].
    pub(crate) fn too_many(&self) -> bool {
        self.early.get() > self.closed.get().max(Self::STREAMS) / 2
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    left: u32,
    refilled: Option<Instant>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { left: BURST, refilled: None }
    }
}

impl Meter {
    /// A frame that came. `now` is asked for rarely.
    pub(super) fn came(&mut self, frame: Head, now: impl Fn() -> Instant) -> Option<Flood> {
        let cost = match frame.kind {
            // With END_STREAM, or content, it moves something.
            frame::DATA | frame::HEADERS if frame.len > 0 || frame.has(frame::END_STREAM) => {
                self.sent();
                return None;
            }
            frame::DATA | frame::HEADERS => Flood::Empty,
            frame::CONTINUATION if frame.len > 0 => return None,
            frame::CONTINUATION => Flood::Empty,
            frame::PRIORITY => Flood::Priority,
            frame::WINDOW_UPDATE => Flood::WindowUpdate,
            _ => Flood::Control,
        };
        if self.left == 0 {
            let now = now();
            // What was not used since the last time is free again.
            let since = self.refilled.replace(now).map_or(Duration::ZERO, |then| now.duration_since(then));
            let free = since.as_millis().saturating_mul(u128::from(PER_SECOND)) / 1000;
            self.left = u32::try_from(free).unwrap_or(BURST).min(BURST);
        }
        match self.left.checked_sub(1) {
            Some(less) => {
                self.left = less;
                None
            }
            None => Some(cost),
        }
    }

    /// A frame with fields or data was sent.
    pub(super) fn sent(&mut self) {
        self.left = (self.left + EARNED).min(BURST);
    }
}

#[cfg(test)]
#[path = "meter_test.rs"]
mod meter_test;
