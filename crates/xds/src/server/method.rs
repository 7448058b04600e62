use crate::{ResourceType, Variant};

/// A method of the discovery services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Method {
    pub(super) variant: Variant,
    /// The only type of a per-type service; `None` for aggregated discovery.
    pub(super) only: Option<ResourceType>,
}

impl Method {
    /// The method of a request path.
    pub(super) fn of(path: &str) -> Option<Self> {
        use ResourceType::{Cluster, Endpoint, Listener, Route, Secret, VirtualHost};
        use Variant::{Delta, StateOfTheWorld};
        let (variant, only) = match path.strip_prefix("/envoy.service.")? {
            "discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources" => (StateOfTheWorld, None),
            "discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources" => (Delta, None),
            "cluster.v3.ClusterDiscoveryService/StreamClusters" => (StateOfTheWorld, Some(Cluster)),
            "cluster.v3.ClusterDiscoveryService/DeltaClusters" => (Delta, Some(Cluster)),
            "endpoint.v3.EndpointDiscoveryService/StreamEndpoints" => (StateOfTheWorld, Some(Endpoint)),
            "endpoint.v3.EndpointDiscoveryService/DeltaEndpoints" => (Delta, Some(Endpoint)),
            "listener.v3.ListenerDiscoveryService/StreamListeners" => (StateOfTheWorld, Some(Listener)),
            "listener.v3.ListenerDiscoveryService/DeltaListeners" => (Delta, Some(Listener)),
            "route.v3.RouteDiscoveryService/StreamRoutes" => (StateOfTheWorld, Some(Route)),
            "route.v3.RouteDiscoveryService/DeltaRoutes" => (Delta, Some(Route)),
            "route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts" => (Delta, Some(VirtualHost)),
            "secret.v3.SecretDiscoveryService/StreamSecrets" => (StateOfTheWorld, Some(Secret)),
            "secret.v3.SecretDiscoveryService/DeltaSecrets" => (Delta, Some(Secret)),
            _ => return None,
        };
        Some(Self { variant, only })
    }
}
