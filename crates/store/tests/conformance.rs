//! Every store keeps the laws of `Store`.

mod suite;

use std::time::Instant;

use heddle_store::{MemoryStore, RedbStore, Revision};

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
