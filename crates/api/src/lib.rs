//! The Kubernetes API conventions over the stores, so that kubectl, client libraries and GitOps tools
//! manage a mesh with or without Kubernetes; health, metrics and debug views beside them.
//!
//! A request passes the doors ([`doors`]), is parsed into what it names ([`path`], [`query`]), and is
//! answered from the stores read as one ([`sources`]). Every write is admitted by `heddle_resource`
//! and has its fields' owners recorded ([`apply`]).

mod admission;
mod apply;
mod body;
pub mod client;
mod collect;
mod defaults;
mod delete;
mod discovery;
mod doors;
mod edit;
mod error;
mod lease;
mod mesh;
mod meta;
mod negotiate;
mod openapi;
mod operate;
mod patch;
mod path;
mod present;
mod propose;
mod protobuf;
mod query;
mod read;
mod routes;
mod schema;
mod selector;
mod server;
mod sources;
mod table;
mod version;
mod virtuals;
mod watch;

use std::{future::Future, io, sync::Arc};

use heddle_resource::Kind;
use heddle_store::{Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
};

pub use mesh::{MeshView, NoMesh, View, ViewError};

/// What an API is made of.
pub struct ApiConfig {
    pub listener: TcpListener,
    /// The writable store first, then read-only sources. An object in an earlier one hides its
    /// namesake in a later one.
    pub stores: Vec<Arc<dyn Store>>,
    pub mesh: Arc<dyn MeshView>,
    /// Host names or addresses, without port, under which the API may be called besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Largest request body, in bytes. Kubernetes has 3 MiB.
    pub max_body: usize,
    /// Watches open at a time; one more is answered 429.
    pub max_watches: usize,
}

impl ApiConfig {
    /// With the usual limits: 3 MiB bodies, 16,384 watches, loopback only.
    pub fn new(listener: TcpListener, stores: Vec<Arc<dyn Store>>, mesh: Arc<dyn MeshView>) -> Self {
        Self { listener, stores, mesh, allowed_hosts: Vec::new(), max_body: 3 << 20, max_watches: 16_384 }
    }
}

/// What all requests share.
pub(crate) struct Api {
    sources: sources::Sources,
    mesh: Arc<dyn MeshView>,
    doors: doors::Doors,
    events: virtuals::Events,
    snapshots: read::Snapshots,
    shapes: schema::Shapes,
    documents: openapi::Documents,
    watchers: Arc<Semaphore>,
    max_watches: usize,
    max_body: usize,
    /// Where this API listens, for discovery.
    address: String,
    /// Something was deleted: see what follows from it.
    collect: Notify,
    /// A lease was granted or moved: the next to lapse may be another.
    leases_changed: Notify,
    stopping: tokio::sync::watch::Receiver<bool>,
}

/// Serves until `shutdown` completes; then ends watches, lets requests finish, and returns.
pub async fn serve(config: ApiConfig, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let address = config.listener.local_addr()?.to_string();
    let api = Arc::new(Api {
        sources: sources::Sources::new(config.stores),
        mesh: config.mesh,
        doors: doors::Doors::new(&config.allowed_hosts),
        events: virtuals::Events::default(),
        snapshots: read::Snapshots::default(),
        shapes: schema::Shapes::build(),
        documents: openapi::Documents::default(),
        watchers: Arc::new(Semaphore::new(config.max_watches)),
        max_watches: config.max_watches,
        max_body: config.max_body,
        address,
        collect: Notify::new(),
        leases_changed: Notify::new(),
        stopping,
    });
    api.make_default_namespace().await;
    server::run(api, config.listener, stop, shutdown).await
}

impl Api {
    /// Completes when the API stops.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut stopping = self.stopping.clone();
        async move {
            // An error means that the server is gone, which is a stop too.
            let _ = stopping.wait_for(|stop| *stop).await.is_ok();
        }
    }

    /// `default` exists in every mesh that can be written.
    async fn make_default_namespace(&self) {
        let Some(kind) = Kind::find("", "Namespace") else { return };
        let Some(store) = self.sources.primary() else { return };
        let key = heddle_resource::Key::new(kind, "", "default");
        let made = match store.get(&key).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.make_namespace(kind, "default").await.map_err(|e| e.message),
            Err(error) => Err(StoreError::to_string(&error)),
        };
        if let Err(error) = made {
            tracing::warn!("namespace default could not be made: {error}; check the store");
        }
    }
}
