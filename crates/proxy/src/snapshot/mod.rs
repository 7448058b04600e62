//! Configuration as the request path reads it: xDS resources compiled to immutable values behind one pointer.
//!
//! [`Snapshot`] is one generation. [`SnapshotBuilder`] takes resources one at a time, refuses what cannot be used by
//! name (the previous version stays in force), and publishes a generation when what it refers to is present.

mod address;
mod builder;
mod cluster;
mod compilation;
pub(crate) mod compile;
mod contexts;
pub mod disk;
mod endpoint;
mod filter;
mod http;
mod listener;
mod name;
mod public;
mod refs;
mod retry;
mod route;
mod tls;

use std::sync::Arc;

pub use crate::access_log::AccessLog;

pub use self::address::{Address, LONGEST_PATH};
pub use self::builder::{Nack, RawResource, SnapshotBuilder, WARMING, WantChange};
pub use self::cluster::*;
pub use self::compile::{Effect, Rule, rules};
pub use self::endpoint::*;
pub use self::filter::*;
pub use self::http::*;
pub use self::listener::*;
pub use self::name::{BuildNameHasher, Name, NameMap, NameRef};
pub use self::retry::*;
pub use self::route::*;
pub use self::tls::*;
use crate::tls::accept::Acceptor;
use crate::tls::originate::Connector;

/// One generation of configuration: complete, immutable, shared structurally with its neighbours.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each publication.
    pub generation: u64,
    /// Listeners by name.
    pub listeners: NameMap<Arc<Listener>>,
    /// Route configurations received by RDS, by name. Inline ones live in their connection manager.
    pub routes: NameMap<Arc<RouteConfig>>,
    /// Clusters by name.
    pub clusters: NameMap<Arc<Cluster>>,
    /// Endpoint sets received by EDS, by service name.
    pub endpoints: NameMap<Arc<EndpointSet>>,
    /// What DNS said for STRICT_DNS and LOGICAL_DNS clusters, by cluster name.
    pub resolved: NameMap<Arc<EndpointSet>>,
    /// Secrets, by name.
    pub secrets: NameMap<Secret>,
    /// TLS contexts of filter chains that are ready, by their keys.
    pub(crate) acceptors: NameMap<Arc<Acceptor>>,
    /// TLS contexts of clusters that are ready, by their keys.
    pub(crate) connectors: NameMap<Arc<Connector>>,
}

impl Snapshot {
    /// The cluster of this name.
    pub fn cluster(&self, name: &Name) -> Option<&Cluster> {
        self.clusters.get(name).map(|c| &**c)
    }

    /// The cluster of a name that came with a request.
    pub fn cluster_named(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(&NameRef::new(name)).map(|c| &**c)
    }

    /// Where this cluster's requests can go; `None` for ORIGINAL_DST and for sets that are not known yet.
    pub fn endpoints<'s>(&'s self, cluster: &'s Cluster) -> Option<&'s Arc<EndpointSet>> {
        match &cluster.discovery {
            Discovery::Static(set) => Some(set),
            Discovery::Eds { service_name } => self.endpoints.get(service_name),
            Discovery::Dns(_) => self.resolved.get(&cluster.name),
            Discovery::OriginalDst { .. } => None,
        }
    }
}

/// Which object and field of the user's resources a compiled value came from
/// (`metadata.filter_metadata["heddle.dev"]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// `VirtualService default/reviews`.
    pub object: Arc<str>,
    /// `spec.http[0]`.
    pub field: Box<str>,
}
