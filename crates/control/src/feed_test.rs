use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use heddle_store::{MemoryStore, Precondition, Revision, Watch};

use super::*;
use crate::kit;

/// A store whose watches end as told, and whose lists fail now and then.
struct Troubled {
    store: MemoryStore,
    /// How the next watches end; afterwards they are the store's.
    ends: Mutex<Vec<StoreError>>,
    lists: AtomicUsize,
}

#[async_trait]
impl Store for Troubled {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, StoreError> {
        self.store.get(key).await
    }
    async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<(Vec<Arc<Object>>, Revision), StoreError> {
        // Every second list fails.
        if self.lists.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return Err(StoreError::Io("no answer".to_owned()));
        }
        self.store.list(kind, namespace).await
    }
    async fn watch(&self, kind: &'static Kind, from: Revision) -> Result<Watch, StoreError> {
        let end = self.ends.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match end {
            Some(end) => Ok(Watch::new(futures_util::stream::iter([Err(end)]))),
            None => self.store.watch(kind, from).await,
        }
    }
    async fn put(&self, object: Object, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        self.store.put(object, precondition).await
    }
    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Arc<Object>, StoreError> {
        self.store.delete(key, precondition).await
    }
}

fn service(name: &str) -> Object {
    let text =
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}");
    (*kit::objects(&text)[0]).clone()
}

#[tokio::test]
async fn a_troubled_store_takes_nothing_away_and_loses_nothing() {
    let ends = vec![StoreError::Io("torn".to_owned()), StoreError::Compacted];
    let store = Troubled { store: MemoryStore::new(), ends: Mutex::new(ends), lists: AtomicUsize::new(0) };
    let store = Arc::new(store);
    let first = store.put(service("first"), Precondition::Any).await.expect("stored");
    let (into, mut fed) = mpsc::channel(8);
    let feed = Feed {
        source: 0,
        store: store.clone(),
        kind: &heddle_resource::kind::SERVICE,
        known: HashMap::new(),
        into,
    };
    let running = tokio::spawn(feed.run());
    let Fed { changes, listed } = fed.recv().await.expect("a list");
    assert!(listed && changes.len() == 1);
    // While watches end and lists fail, one object comes and the other goes.
    store.put(service("second"), Precondition::Any).await.expect("stored");
    store.delete(&first.key(), Precondition::Any).await.expect("deleted");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Fed { changes, listed } = fed.recv().await.expect("changes");
        assert!(!listed, "only the first list is the first");
        seen.extend(changes.into_iter().map(|change| match change {
            Change::Put { object, .. } => format!("+{}", object.meta.name),
            Change::Delete { key, .. } => format!("-{}", key.name),
        }));
    }
    seen.sort();
    assert_eq!(seen, ["+second", "-first"]);
    drop(fed);
    store.put(service("third"), Precondition::Any).await.expect("stored");
    running.await.expect("ends with its reader");
}
