//! A server whose names follow the control plane, and outlive it.

use std::{path::PathBuf, sync::Arc};

use prost::Message;
use tokio::sync::{mpsc, watch};

use crate::{NameTable, Names, Server, ServerConfig, load, save, serve};

/// Serves the names of the newest table that arrives, starting with the one saved at `saved`. Each table
/// that arrives is saved there. One that cannot be read is reported, and the one before stays in force.
/// Ends when `shutdown` resolves; that no more tables come does not end it.
pub async fn follow<B: AsRef<[u8]>>(
    server: Server,
    mut tables: mpsc::UnboundedReceiver<B>,
    saved: Option<PathBuf>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) {
    let first = match saved.as_deref().map(load) {
        Some(Ok(Some(table))) => table,
        Some(Err(error)) => {
            tracing::warn!(%error, "names of the last run not read");
            NameTable::default()
        }
        Some(Ok(None)) | None => NameTable::default(),
    };
    let (sender, names) = watch::channel(index(&first));
    let update = async {
        while let Some(bytes) = tables.recv().await {
            match NameTable::decode(bytes.as_ref()) {
                Ok(table) => {
                    sender.send_replace(index(&table));
                    keep(saved.clone(), table).await;
                }
                Err(error) => {
                    tracing::error!(%error, "name table not readable; the one before stays in force")
                }
            }
        }
    };
    let serving = serve(server, names, config, shutdown);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        () = &mut serving => return,
        () = update => {}
    }
    serving.await;
}

fn index(table: &NameTable) -> Arc<Names> {
    let (names, faults) = Names::new(table);
    for fault in faults {
        tracing::warn!("{fault}");
    }
    Arc::new(names)
}

async fn keep(path: Option<PathBuf>, table: NameTable) {
    let Some(path) = path else { return };
    let saved = tokio::task::spawn_blocking(move || save(&path, &table)).await;
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "names not saved; they are lost when the proxy restarts"),
        Err(error) => tracing::warn!(%error, "names not saved"),
    }
}
