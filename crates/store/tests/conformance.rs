//! Every store keeps the laws of `Store`.

mod suite;

use std::time::Instant;

use heddle_store::{FileOptions, FileStore, MemoryStore, RedbStore, Revision};

#[tokio::test]
async fn memory() {
    suite::writable(async || MemoryStore::starting_at(Revision(1000), 64)).await;
}

#[tokio::test]
async fn redb() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    suite::writable(|| {
        number += 1;
        let path = directory.path().join(number.to_string());
        async move { RedbStore::open_keeping(&path, Instant::now(), 64).unwrap() }
    })
    .await;
}

#[tokio::test]
async fn files() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [directory.path().to_owned()];
    let store = FileStore::open(paths, FileOptions::default()).await.unwrap();
    let write = async |name: &str, value: Option<&str>| {
        let path = directory.path().join(format!("{name}.json"));
        match value {
            Some(value) => std::fs::write(&path, suite::config_map("a", name, value).json.to_string()),
            None => std::fs::remove_file(&path),
        }
        .unwrap();
        store.rescan().await;
    };
    suite::readable(&store, write).await;
}
