//! The last good configuration on disk: a proxy starts from it when its control plane is away.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::snapshot::disk::{Kept, StoredResource, decode};

/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// The writer. It works beside the feed; of several changes within a second only the last is written.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    newest: Arc<Newest>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

/// What is to be written, until it is.
#[derive(Debug, Default)]
struct Newest {
    kept: Mutex<Option<Kept>>,
    more: Notify,
}

impl Disk {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, newest: Arc::default(), writer: None }
    }

    /// What is on disk; nothing when there is no file. A damaged file is an error and no reason not to start.
    pub(crate) fn load(&self) -> Result<Vec<StoredResource>, String> {
        match std::fs::read(&self.path) {
            Ok(file) => decode(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes these resources, soon.
    pub(crate) fn save(&mut self, kept: Kept) {
        *self.newest.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        self.newest.more.notify_one();
        if self.writer.is_none() {
            let (newest, path) = (self.newest.clone(), self.path.clone());
            self.writer = Some(tokio::spawn(async move {
                loop {
                    newest.more.notified().await;
                    let kept = newest.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let (Some(kept), to) = (kept, path.clone()) else { continue };
                    let written = tokio::task::spawn_blocking(move || write(&kept, &to)).await;
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
fn write(kept: &Kept, path: &Path) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Private keys are among what is kept.
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let mut file = io::BufWriter::new(file);
    kept.write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_data()?;
    std::fs::rename(&temporary, path)
}
