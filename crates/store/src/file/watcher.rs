//! The operating system's word that something changed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches directories whole, and files through their directory, as editors replace files by renaming.
/// `None` where the system refuses (too many watches): the periodic look still finds every change.
pub(super) fn watch(paths: &[PathBuf], changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Reading is an event as well, and ours would wake us for ever.
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            changed.notify_one();
        }
    };
    let mut watcher = match notify::recommended_watcher(handler) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; they are looked at periodically");
            return None;
        }
    };
    for path in paths {
        let (target, mode) = if path.is_dir() {
            (path.as_path(), RecursiveMode::Recursive)
        } else {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)
        };
        if let Err(error) = watcher.watch(target, mode) {
            tracing::warn!(path = %target.display(), %error, "not watched; it is looked at periodically");
        }
    }
    Some(watcher)
}
