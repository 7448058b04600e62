//! Resources in files that people write: watched, merged, never written.

mod merge;
mod scan;
mod watcher;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use heddle_resource::{Diagnostic, Key, Object, UnknownFields, kind::Kind};
use serde_json::Value;
use tokio::{
    sync::{Mutex, Notify, watch},
    task::JoinHandle,
};

use self::scan::Files;
use crate::{
    Precondition, Revision, Store, StoreError, Watch,
    ledger::{LOG_EVENTS, Ledger, fresh_start},
};

/// The annotation that says where an object was read: `FILE:LINE`.
pub const SOURCE_ANNOTATION: &str = "heddle.dev/source";

const READ_ONLY: &str = "the object comes from a file and cannot be changed here; edit the file that its \
                         annotation heddle.dev/source names";

/// How files are read.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Default `Refuse`.
    pub unknown_fields: UnknownFields,
    /// The namespace of documents that name none; default `default`.
    pub default_namespace: String,
    /// How often everything is looked at again in case a notification was lost; default 5 s.
    pub rescan: Duration,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            unknown_fields: UnknownFields::Refuse,
            default_namespace: "default".to_owned(),
            rescan: Duration::from_secs(5),
        }
    }
}

/// The objects in files and directories (`*.yaml`, `*.yml`, `*.json`, hidden ones left out), followed as
/// they change.
///
/// One bad document disturbs no other: the last good version of its object stays in force. Of an object
/// that is declared twice the first counts, by the order of the paths given and then of file names. What
/// is wrong stands in [`FileStore::diagnostics`]. Only `status` can be written; it lives in memory.
pub struct FileStore {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    ledger: Arc<Ledger>,
    options: FileOptions,
    files: Arc<Mutex<Files>>,
    diagnostics: watch::Sender<Arc<Vec<Diagnostic>>>,
    changed: Arc<Notify>,
}

impl FileStore {
    /// Reads everything once, then follows changes until dropped. A path that does not exist is an error
    /// now, and only reported when it vanishes later.
    pub async fn open(
        paths: impl IntoIterator<Item = PathBuf>,
        options: FileOptions,
    ) -> Result<Self, StoreError> {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        for path in &paths {
            if let Err(error) = tokio::fs::metadata(path).await {
                return Err(StoreError::Io(format!(
                    "{}: {error}; it was to be read for resources: check the path",
                    path.display()
                )));
            }
        }
        let changed = Arc::new(Notify::new());
        // Watched before the first look, so that no change slips between.
        let watcher = watcher::watch(&paths, changed.clone());
        let inner = Arc::new(Inner {
            ledger: Ledger::new(fresh_start(), LOG_EVENTS),
            options,
            files: Arc::new(Mutex::new(Files::new(paths))),
            diagnostics: watch::Sender::new(Arc::default()),
            changed,
        });
        inner.rescan().await;
        let task = tokio::spawn(follow(Arc::downgrade(&inner), inner.changed.clone(), watcher));
        Ok(Self { inner, task })
    }

    /// Everything wrong with the files now, newest state first seen by the receiver at once.
    pub fn diagnostics(&self) -> watch::Receiver<Arc<Vec<Diagnostic>>> {
        self.inner.diagnostics.subscribe()
    }

    /// Looks at every file now and returns when what changed is in force.
    pub async fn rescan(&self) {
        self.inner.rescan().await;
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    async fn rescan(&self) {
        let mut files = self.files.clone().lock_owned().await;
        let (ledger, options) = (self.ledger.clone(), self.options.clone());
        let looked = tokio::task::spawn_blocking(move || {
            files.look(&options);
            merge::apply(&mut files, &ledger)
        });
        let diagnostics = match looked.await {
            Ok(diagnostics) => diagnostics,
            Err(error) => {
                tracing::error!(%error, "files not read");
                return;
            }
        };
        self.diagnostics.send_if_modified(|current| {
            let differs = **current != diagnostics;
            if differs {
                *current = Arc::new(diagnostics);
            }
            differs
        });
    }
}

/// Looks again whenever the watcher says so and has been quiet for a moment, and now and then anyway.
async fn follow(store: Weak<Inner>, changed: Arc<Notify>, _watcher: Option<notify::RecommendedWatcher>) {
    /// Editors and copies write in steps: half a file is read as little as possible.
    const QUIET: Duration = Duration::from_millis(50);
    const PATIENCE: u32 = 20;
    loop {
        let Some(rescan) = store.upgrade().map(|inner| inner.options.rescan) else { return };
        if tokio::time::timeout(rescan, changed.notified()).await.is_ok() {
            let mut left = PATIENCE;
            while left > 0 && tokio::time::timeout(QUIET, changed.notified()).await.is_ok() {
                left -= 1;
            }
        }
        let Some(inner) = store.upgrade() else { return };
        inner.rescan().await;
    }
}

#[async_trait]
impl Store for FileStore {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, StoreError> {
        Ok(self.inner.ledger.get(key))
    }

    async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<(Vec<Arc<Object>>, Revision), StoreError> {
        Ok(self.inner.ledger.list(kind, namespace))
    }

    async fn watch(&self, kind: &'static Kind, from: Revision) -> Result<Watch, StoreError> {
        self.inner.ledger.watch(kind, from)
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        let stored = self.inner.ledger.get(&object.key());
        let Some(stored) = stored.filter(|stored| declared(&stored.json) == declared(&object.json)) else {
            return Err(StoreError::ReadOnly(READ_ONLY.to_owned()));
        };
        let mut updated = Object::clone(&stored);
        set_status(&mut updated, object.json.get("status").cloned());
        // Against what was compared: should the file change meanwhile, its content must not be undone.
        let precondition = match (precondition, Revision::of(&stored)) {
            (Precondition::Any, Some(revision)) => Precondition::Revision(revision),
            (precondition, _) => precondition,
        };
        self.inner.ledger.put(updated, precondition)
    }

    async fn delete(&self, key: &Key, _: Precondition) -> Result<Arc<Object>, StoreError> {
        match self.inner.ledger.get(key) {
            Some(_) => Err(StoreError::ReadOnly(READ_ONLY.to_owned())),
            None => Err(StoreError::NotFound { key: key.clone() }),
        }
    }

    fn read_only(&self) -> Option<&str> {
        Some(READ_ONLY)
    }
}

/// What a file says of an object: all of it but what the mesh writes.
fn declared(json: &Value) -> Value {
    let mut json = json.clone();
    if let Value::Object(object) = &mut json {
        object.remove("status");
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
    }
    json
}

fn set_status(object: &mut Object, status: Option<Value>) {
    if let Value::Object(json) = Arc::make_mut(&mut object.json) {
        match status {
            Some(status) => json.insert("status".to_owned(), status),
            None => json.remove("status"),
        };
    }
}
