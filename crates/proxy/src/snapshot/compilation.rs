//! One resource from its bytes: compiled, or refused.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use heddle_xds::ResourceType;

use super::builder::Id;
use super::compile::apart::decoded;
use super::compile::judge::{Compiled, Listed, Refusal};
use super::compile::{cluster, credentials, endpoint, listener, route};
use super::refs::{self, Reference};
use super::{Cluster, EndpointSet, Listener, RouteConfig, Secret};

/// A compiled resource.
#[derive(Clone, Debug)]
pub(super) enum Compilation {
    Cluster(Arc<Cluster>),
    Endpoints(Arc<EndpointSet>),
    Listener(Arc<Listener>),
    Routes(Arc<RouteConfig>),
    Secret(Secret),
}

impl Compilation {
    /// Compiles `body`. What did not change in a route configuration is taken over from `previous`.
    pub(super) fn of(
        (kind, name): &Id,
        body: &Bytes,
        previous: Option<&RouteConfig>,
        listed: &mut Listed,
    ) -> Compiled<Compilation> {
        let named = |inner: &str| {
            if inner == name.as_str() || (inner.is_empty() && *kind == ResourceType::Listener) {
                return Ok(());
            }
            Err(Refusal::new("name", format!("{inner:?} is not the resource's name")))
        };
        match kind {
            ResourceType::Cluster => {
                let cluster = cluster::compile(&decoded(body)?, listed)?;
                named(cluster.name.as_str())?;
                Ok(Compilation::Cluster(Arc::new(cluster)))
            }
            ResourceType::Endpoint => {
                let value: ClusterLoadAssignment = decoded(body)?;
                named(&value.cluster_name)?;
                Ok(Compilation::Endpoints(Arc::new(endpoint::endpoint_set(&value, listed)?)))
            }
            ResourceType::Listener => {
                let mut listener = listener::compile(&decoded(body)?, listed)?;
                named(listener.name.as_str())?;
                listener.name = name.clone();
                Ok(Compilation::Listener(Arc::new(listener)))
            }
            ResourceType::Route => {
                let config = route::compile_bytes(body, previous, listed)?;
                named(config.name.as_str())?;
                Ok(Compilation::Routes(Arc::new(config)))
            }
            ResourceType::Secret => {
                let value: tls::Secret = decoded(body)?;
                named(&value.name)?;
                Ok(Compilation::Secret(credentials::secret(&value, listed)?))
            }
            ResourceType::VirtualHost | ResourceType::NameTable => {
                Err(Refusal::new("", "resources of this type are not part of the snapshot"))
            }
        }
    }

    /// What it refers to.
    pub(super) fn references(&self) -> Vec<Reference> {
        match self {
            Compilation::Cluster(cluster) => refs::of_cluster(cluster),
            Compilation::Endpoints(_) | Compilation::Secret(_) => Vec::new(),
            Compilation::Listener(listener) => refs::of_listener(listener),
            Compilation::Routes(config) => refs::of_routes(config),
        }
    }
}
