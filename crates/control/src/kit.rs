//! What the tests of this crate share: worlds from YAML, and views decoded.

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster,
    endpoint::v3::ClusterLoadAssignment,
    listener::v3::Listener,
    route::v3::{Route, RouteConfiguration, VirtualHost},
};
use heddle_resource::{Admission, AdmitOptions, Object, admit, parse_documents};
use heddle_xds::{ClientKind, NodeInfo, ResourceType, View};
use prost::Message;
use serde_json::json;

use crate::{Change, MeshConfig, Scope, World, compile::Compiled};

/// The objects of a text, older ones first.
pub(crate) fn objects(text: &str) -> Vec<Arc<Object>> {
    let documents = parse_documents(text, "test.yaml");
    let admitted = documents.into_iter().map(|document| {
        let document = document.unwrap_or_else(|fault| panic!("{fault}"));
        match admit(&document, &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => Arc::new(object),
            Admission::Refused(faults) => panic!("refused: {}", faults[0]),
            Admission::NotOurs(warning) => panic!("not ours: {warning}"),
        }
    });
    admitted.collect()
}

pub(crate) fn puts(text: &str) -> Vec<Change> {
    objects(text).into_iter().map(|object| Change::Put { source: 0, object }).collect()
}

pub(crate) fn world(text: &str) -> World {
    World::new(MeshConfig::default()).apply(&puts(text)).0
}

/// A node of that role and namespace, with metadata.
pub(crate) fn node(role: &str, namespace: &str, client: ClientKind, metadata: serde_json::Value) -> NodeInfo {
    let mut node = NodeInfo {
        id: format!("{role}~127.0.0.1~w.{namespace}~{namespace}.svc.cluster.local"),
        kind: client,
        ..NodeInfo::default()
    };
    node.metadata.insert("NAMESPACE".to_owned(), json!(namespace));
    for (key, value) in metadata.as_object().into_iter().flatten() {
        node.metadata.insert(key.clone(), value.clone());
    }
    node
}

pub(crate) fn scope(world: &World, node: &NodeInfo) -> Scope {
    world.scope(node).expect("a scope")
}

/// What an explicit sidecar of ours in a namespace gets.
pub(crate) fn sidecar(world: &World, namespace: &str) -> Seen {
    sidecar_with(world, namespace, json!({}))
}

pub(crate) fn sidecar_with(world: &World, namespace: &str, mut more: serde_json::Value) -> Seen {
    let outbound = json!("127.0.0.1:15001");
    more.as_object_mut().expect("an object").entry("OUTBOUND").or_insert(outbound);
    let node = node("sidecar", namespace, ClientKind::Heddle, more);
    Seen::of(crate::compile(world, &scope(world, &node)))
}

pub(crate) fn gateway(world: &World, metadata: serde_json::Value) -> Seen {
    let node = node("router", "default", ClientKind::Heddle, metadata);
    Seen::of(crate::compile(world, &scope(world, &node)))
}

/// A compiled view with its resources decoded on demand.
pub(crate) struct Seen {
    pub(crate) view: Arc<View>,
    pub(crate) findings: Vec<String>,
}

impl Seen {
    pub(crate) fn of(compiled: Compiled) -> Self {
        let findings = compiled.findings.iter().map(ToString::to_string).collect();
        Self { view: compiled.view, findings }
    }

    pub(crate) fn names(&self, kind: ResourceType) -> Vec<String> {
        self.view.iter(kind).map(|resource| resource.name.to_string()).collect()
    }

    fn get<M: Message + Default>(&self, kind: ResourceType, name: &str) -> M {
        let Some(resource) = self.view.get(kind, name) else {
            panic!("no {kind} {name}; there are {:?}", self.names(kind))
        };
        M::decode(resource.body.clone()).expect("decodes")
    }

    pub(crate) fn cluster(&self, name: &str) -> Cluster {
        self.get(ResourceType::Cluster, name)
    }

    pub(crate) fn endpoints(&self, name: &str) -> ClusterLoadAssignment {
        self.get(ResourceType::Endpoint, name)
    }

    pub(crate) fn listener(&self, name: &str) -> Listener {
        self.get(ResourceType::Listener, name)
    }

    pub(crate) fn routes(&self, name: &str) -> RouteConfiguration {
        self.get(ResourceType::Route, name)
    }

    /// The virtual host that has a domain.
    pub(crate) fn host(&self, route: &str, domain: &str) -> VirtualHost {
        let config = self.routes(route);
        let found = config.virtual_hosts.iter().find(|host| host.domains.iter().any(|own| own == domain));
        let Some(found) = found else {
            let all: Vec<_> = config.virtual_hosts.iter().map(|host| &host.domains).collect();
            panic!("no {domain} in {route}: {all:?}")
        };
        found.clone()
    }

    /// Its routes, without that for CONNECT.
    pub(crate) fn host_routes(&self, route: &str, domain: &str) -> Vec<Route> {
        let mut routes = self.host(route, domain).routes;
        routes.retain(|route| route.name != "connect");
        routes
    }

    /// Addresses of an endpoint set.
    pub(crate) fn addresses(&self, cluster: &str) -> Vec<String> {
        use envoy_types::pb::envoy::config::{
            core::v3::{address::Address, socket_address::PortSpecifier},
            endpoint::v3::lb_endpoint::HostIdentifier,
        };
        let set = self.endpoints(cluster);
        let all = set.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        all.filter_map(|endpoint| {
            let Some(HostIdentifier::Endpoint(target)) = &endpoint.host_identifier else { return None };
            let address = match target.address.as_ref()?.address.as_ref()? {
                Address::SocketAddress(address) => address,
                Address::Pipe(pipe) => return Some(pipe.path.clone()),
                Address::EnvoyInternalAddress(_) => return None,
            };
            let Some(PortSpecifier::PortValue(port)) = address.port_specifier else { return None };
            Some(format!("{}:{port}", address.address))
        })
        .collect()
    }
}
