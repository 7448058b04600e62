//! The table of kinds.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    core, gateway, istio,
    schema::{Described, Schema},
};

/// One kind of resource: its names in the API, where its content stands, and how it is read.
pub struct Kind {
    /// Empty for core kinds.
    pub group: &'static str,
    /// The version in which objects are stored.
    pub version: &'static str,
    /// Every version in which they are served, newest first. All of them have the same schema.
    pub served: &'static [&'static str],
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    /// Whether the document has a `spec` that the typed struct describes (Istio's kinds), or the struct is the document.
    pub content: Content,
    read: fn(&Value) -> Result<Spec, serde_json::Error>,
    pub schema: fn() -> Schema,
}

/// What a kind's struct describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The value of `spec`.
    Spec,
    /// The whole document without `apiVersion`, `kind` and `metadata`.
    Document,
}

impl Kind {
    /// `networking.istio.io/v1`, or `v1` for core kinds.
    pub fn api_version(&self) -> String {
        self.api_version_of(self.version)
    }

    pub fn api_version_of(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        kinds().iter().find(|k| k.group == group && k.kind == kind).copied()
    }

    pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        kinds()
            .iter()
            .find(|k| k.group == group && k.plural == plural && k.served.contains(&version))
            .copied()
    }

    /// The typed content of a document of this kind.
    ///
    /// # Errors
    /// When a field has the wrong type.
    pub fn read(&self, document: &Value) -> Result<Spec, serde_json::Error> {
        match self.content {
            Content::Document => (self.read)(document),
            Content::Spec => {
                (self.read)(document.get("spec").unwrap_or(&Value::Object(serde_json::Map::new())))
            }
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.kind, self.group)
    }
}
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.kind) == (other.group, other.kind)
    }
}
impl Eq for Kind {}
impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.group, self.kind).cmp(&(other.group, other.kind))
    }
}
impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.group, self.kind).hash(state);
    }
}

const ISTIO: &str = "networking.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const GATEWAY_API: &str = "gateway.networking.k8s.io";

macro_rules! kinds {
    ($($constant:ident $variant:ident($type:ty) $group:expr, $served:expr, $kind:literal $plural:literal $singular:literal [$($short:literal)*] $scope:ident $content:ident;)*) => {
        /// The typed content of an object.
        #[derive(Clone, Debug)]
        pub enum Spec { $($variant(Arc<$type>)),* }

        $(pub static $constant: Kind = Kind {
            group: $group, version: $served[0], served: $served, kind: $kind, plural: $plural, singular: $singular, short_names: &[$($short),*],
            namespaced: scope::$scope, content: Content::$content, read: |value| read::<$type>(value).map(Spec::$variant), schema: <$type as Described>::schema,
        };)*

        /// Every kind.
        pub fn kinds() -> &'static [&'static Kind] {
            static KINDS: &[&Kind] = &[$(&$constant),*];
            KINDS
        }
    };
}

#[allow(non_upper_case_globals)]
mod scope {
    pub(super) const namespaced: bool = true;
    pub(super) const cluster: bool = false;
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<Arc<T>, serde_json::Error> {
    T::deserialize(value).map(Arc::new)
}

kinds! {
    NAMESPACE Namespace(core::Namespace) "", &["v1"], "Namespace" "namespaces" "namespace" ["ns"] cluster Document;
    SERVICE Service(core::Service) "", &["v1"], "Service" "services" "service" ["svc"] namespaced Document;
    POD Pod(core::Pod) "", &["v1"], "Pod" "pods" "pod" ["po"] namespaced Document;
    SECRET Secret(core::Secret) "", &["v1"], "Secret" "secrets" "secret" [] namespaced Document;
    CONFIG_MAP ConfigMap(core::ConfigMap) "", &["v1"], "ConfigMap" "configmaps" "configmap" ["cm"] namespaced Document;
    SERVICE_ACCOUNT ServiceAccount(core::ServiceAccount) "", &["v1"], "ServiceAccount" "serviceaccounts" "serviceaccount" ["sa"] namespaced Document;
    ENDPOINT_SLICE EndpointSlice(core::EndpointSlice) "discovery.k8s.io", &["v1"], "EndpointSlice" "endpointslices" "endpointslice" [] namespaced Document;
    VIRTUAL_SERVICE VirtualService(istio::VirtualService) ISTIO, ISTIO_VERSIONS, "VirtualService" "virtualservices" "virtualservice" ["vs"] namespaced Spec;
    DESTINATION_RULE DestinationRule(istio::DestinationRule) ISTIO, ISTIO_VERSIONS, "DestinationRule" "destinationrules" "destinationrule" ["dr"] namespaced Spec;
    SERVICE_ENTRY ServiceEntry(istio::ServiceEntry) ISTIO, ISTIO_VERSIONS, "ServiceEntry" "serviceentries" "serviceentry" ["se"] namespaced Spec;
    WORKLOAD_ENTRY WorkloadEntry(istio::WorkloadEntry) ISTIO, ISTIO_VERSIONS, "WorkloadEntry" "workloadentries" "workloadentry" ["we"] namespaced Spec;
    WORKLOAD_GROUP WorkloadGroup(istio::WorkloadGroup) ISTIO, ISTIO_VERSIONS, "WorkloadGroup" "workloadgroups" "workloadgroup" ["wg"] namespaced Spec;
    ISTIO_GATEWAY IstioGateway(istio::Gateway) ISTIO, ISTIO_VERSIONS, "Gateway" "gateways" "gateway" ["gw"] namespaced Spec;
    SIDECAR Sidecar(istio::Sidecar) ISTIO, ISTIO_VERSIONS, "Sidecar" "sidecars" "sidecar" [] namespaced Spec;
    GATEWAY_CLASS GatewayClass(gateway::GatewayClass) GATEWAY_API, &["v1", "v1beta1"], "GatewayClass" "gatewayclasses" "gatewayclass" ["gc"] cluster Document;
    GATEWAY Gateway(gateway::Gateway) GATEWAY_API, &["v1", "v1beta1"], "Gateway" "gateways" "gateway" ["gtw"] namespaced Document;
    LISTENER_SET ListenerSet(gateway::ListenerSet) GATEWAY_API, &["v1"], "ListenerSet" "listenersets" "listenerset" ["lset"] namespaced Document;
    HTTP_ROUTE HttpRoute(gateway::HttpRoute) GATEWAY_API, &["v1", "v1beta1"], "HTTPRoute" "httproutes" "httproute" [] namespaced Document;
    GRPC_ROUTE GrpcRoute(gateway::GrpcRoute) GATEWAY_API, &["v1", "v1alpha2"], "GRPCRoute" "grpcroutes" "grpcroute" [] namespaced Document;
    TCP_ROUTE TcpRoute(gateway::TcpRoute) GATEWAY_API, &["v1", "v1alpha2"], "TCPRoute" "tcproutes" "tcproute" [] namespaced Document;
    TLS_ROUTE TlsRoute(gateway::TlsRoute) GATEWAY_API, &["v1", "v1alpha3", "v1alpha2"], "TLSRoute" "tlsroutes" "tlsroute" [] namespaced Document;
    BACKEND_TLS_POLICY BackendTlsPolicy(gateway::BackendTlsPolicy) GATEWAY_API, &["v1", "v1alpha3"], "BackendTLSPolicy" "backendtlspolicies" "backendtlspolicy" ["btlspolicy"] namespaced Document;
    REFERENCE_GRANT ReferenceGrant(gateway::ReferenceGrant) GATEWAY_API, &["v1", "v1beta1"], "ReferenceGrant" "referencegrants" "referencegrant" ["refgrant"] namespaced Document;
}
