//! The demo's mesh as processes: this same binary as control plane, sidecars and gateway.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use crate::settings::Ports;

/// A role of this binary, running in a process of its own. Dropping it kills the process.
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) ports: Ports,
    dir: PathBuf,
    child: Child,
}

impl Role {
    /// Starts `heddle ARGS...` with its data and log in `dir`, and waits until it has written its ports.
    ///
    /// # Errors
    /// When it does not start or ends before it is up: with the end of its log.
    pub(crate) async fn start(name: &str, dir: PathBuf, args: &[String]) -> Result<Self, String> {
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let log =
            std::fs::File::create(dir.join("log")).map_err(|e| format!("{}/log: {e}", dir.display()))?;
        let binary = std::env::current_exe().map_err(|e| format!("where is this binary? {e}"))?;
        let child = Command::new(binary)
            .args(args)
            .arg("--data-dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("{name}: {e}"))?;
        let mut role = Self { name: name.to_owned(), ports: Ports::default(), dir, child };
        role.wait_for_ports().await?;
        Ok(role)
    }

    async fn wait_for_ports(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut poll = tokio::time::interval(Duration::from_millis(10));
        while Instant::now() < deadline {
            poll.tick().await;
            if let Some(ports) = Ports::read(&self.dir) {
                self.ports = ports;
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended at once ({status}):\n{}", self.name, tail(&self.dir)));
            }
        }
        Err(format!("{} is not up after 30 s:\n{}", self.name, tail(&self.dir)))
    }

    /// Ends the process as `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// The last lines of a role's log.
fn tail(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
