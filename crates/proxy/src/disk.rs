//! The last good configuration on disk: a proxy starts from it when its control plane is away.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::snapshot::disk::{StoredResource, decode};

/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// The writer. It works beside the feed; of several changes within a second only the last is written.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    newest: watch::Sender<Vec<u8>>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

impl Disk {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, newest: watch::Sender::default(), writer: None }
    }

    /// What is on disk; nothing when there is no file. A damaged file is an error and no reason not to start.
    pub(crate) fn load(&self) -> Result<Vec<StoredResource>, String> {
        match std::fs::read(&self.path) {
            Ok(file) => decode(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes this file, soon.
    pub(crate) fn save(&mut self, file: Vec<u8>) {
        self.newest.send_replace(file);
        if self.writer.is_none() {
            let (mut newest, path) = (self.newest.subscribe(), self.path.clone());
            newest.mark_changed();
            self.writer = Some(tokio::spawn(async move {
                while newest.changed().await.is_ok() {
                    let (file, to) = (newest.borrow_and_update().clone(), path.clone());
                    let written = tokio::task::spawn_blocking(move || write(&file, &to)).await;
                    if let Ok(Err(error)) = written {
                        tracing::warn!(
                            "{}: {error}; the configuration is in force, but a restart without the control plane would start from an older one. Is the disk full or read-only?",
                            path.display()
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// All or nothing: a file beside it, synced, then renamed over it.
fn write(bytes: &[u8], path: &Path) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Private keys are among what is kept.
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}
