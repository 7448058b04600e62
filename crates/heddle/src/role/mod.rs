//! The composition roots: what each role of this binary is made of, and in which order it starts and ends.

pub(crate) mod control;
mod names;
mod notify;
pub(crate) mod proxy;
mod successor;

use tokio::signal::unix::{SignalKind, signal};

/// One message for each SIGTERM and SIGINT.
pub(crate) fn told() -> std::io::Result<tokio::sync::mpsc::Receiver<()>> {
    let (sender, told) = tokio::sync::mpsc::channel(4);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            // Who has been told several times need not hear of more.
            let _ = sender.try_send(());
        }
    });
    Ok(told)
}

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
