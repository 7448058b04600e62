//! SIGUSR2: a proxy starts its successor from the binary that is now where it was started from.

use std::ffi::OsString;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::output;

/// The flag that makes a successor of a proxy.
const REPLACE: &str = "--replace";

/// Starts a successor at each SIGUSR2, with the arguments and the environment of this process. One at a time: a signal
/// that comes while one starts is ignored, and says so.
pub(crate) async fn on_signal() {
    let Ok(mut signals) = signal(SignalKind::user_defined2()) else { return };
    let mut child: Option<Child> = None;
    loop {
        let ended = async {
            match &mut child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = ended => {
                child = None;
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                // A successor that took over outlives this process, or has been replaced itself.
                tracing::warn!("the successor started at SIGUSR2 has ended ({status})");
            }
            _ = signals.recv() => match &child {
                Some(child) => {
                    tracing::warn!("SIGUSR2: a successor was started already (process {})", child.id().unwrap_or(0));
                }
                None => match start(std::env::args_os().collect()) {
                    Ok(started) => child = Some(started),
                    Err(error) => output::warning(&format!("SIGUSR2: {error}; serving on")),
                },
            }
        }
    }
}

/// By the name that this process was called by, not by its file: that one may have been replaced, or a link may point
/// elsewhere now.
fn start(arguments: Vec<OsString>) -> Result<Child, String> {
    let (program, rest) = arguments.split_first().ok_or("this process does not know its own name")?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null());
    if !rest.iter().any(|argument| argument == REPLACE) {
        command.arg(REPLACE);
    }
    command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))
}
