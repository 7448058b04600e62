//! The composition roots: what each role of this binary is made of, and in which order it starts and ends.

pub(crate) mod control;
mod names;
pub(crate) mod proxy;

use tokio::signal::unix::{SignalKind, signal};

/// Completes at SIGTERM or SIGINT.
pub(crate) async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
