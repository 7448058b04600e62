//! The units of compilation.

use std::{collections::BTreeMap, sync::Arc};

use heddle_xds::{Encoded, ResourceType};

use super::{
    cluster,
    cx::Cx,
    endpoint, gateway, gateway_api, gateway_tls, grpc, inbound, names, outbound, plan, rds, tls,
    tls::Credential,
    visible,
    visible::{Policy, Visible},
};
use crate::world::ServiceId;

/// A piece of configuration that is compiled, kept and shared by itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {
    /// Which units the shared part of a scope consists of.
    Plan,
    /// Which units belong to a node alone.
    OwnPlan,
    /// What the scope's `Sidecar` says.
    Policy,
    /// The services that a scope may see.
    Visible,
    /// The services that answer as HTTP under a route name.
    Hosts(RouteName),
    /// The virtual host of one service under a route name.
    VirtualHost(RouteName, ServiceId, u16),
    /// The virtual host of a VirtualService's host that is no service.
    ForeignHost(RouteName, Arc<str>),
    Route(RouteName),
    /// The clusters of a service port: all subsets.
    Clusters(ServiceId, u16),
    Endpoints(EndpointSet),
    /// `PassthroughCluster` and `BlackHoleCluster`.
    FixedClusters,
    InboundCluster(u16),
    /// `virtualOutbound`.
    OutboundListener,
    /// `0.0.0.0_PORT`, and whether some service of that port says gRPC-Web: part of the name, so that the listener itself
    /// depends on no service.
    HttpListener(u16, bool),
    /// `IP_PORT`.
    AddressListener(ServiceId, u16),
    /// The listener of an inbound address, by its place in the scope's list.
    InboundListener(usize),
    /// `virtualInbound`.
    CaptureInbound,
    /// The listener of a gateway port.
    GatewayListener(u16),
    /// Whether a certificate or authorities can be used.
    Credential(Credential),
    /// A certificate with its key, or authorities: what a proxy asks for by SDS.
    Secret(Credential),
    /// The names that the proxy's DNS answers.
    Names,
    /// What Gateway API resources give.
    GatewayApi(gateway_api::Unit),
    /// What gRPC clients are told.
    Grpc(grpc::Unit),
}

/// Names of route configurations.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum RouteName {
    /// `http_proxy`: requests that were not captured, for any port.
    HttpProxy,
    /// `PORT`: captured requests to a port.
    Port(u16),
    /// `HOST:PORT`: captured requests to a service's own address.
    Service(ServiceId, u16),
    /// `http.PORT`: an Istio gateway's port.
    Gateway(u16),
    /// `https.PORT.NUMBER.NAME.NAMESPACE`: a server that ends TLS, by its Gateway (`NAMESPACE/NAME`) and its
    /// place there.
    GatewayServer(u16, Arc<str>, usize),
}

/// The endpoints of a service port, or of a subset of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct EndpointSet {
    pub(crate) service: ServiceId,
    pub(crate) port: u16,
    /// Name and labels of the subset.
    pub(crate) subset: Option<(Arc<str>, Labels)>,
}

/// Labels that an endpoint has to have.
pub(crate) type Labels = Arc<BTreeMap<String, String>>;

/// What compiling a unit gives. Equal values stop a change from going on.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Units(Arc<[Unit]>),
    Policy(Arc<Policy>),
    Visible(Arc<Visible>),
    /// Why a credential cannot be used, if so.
    Credential(Option<Arc<str>>),
    /// Encoded virtual hosts, to be assembled into route configurations.
    VirtualHosts(Arc<[Vec<u8>]>),
    Resources(Arc<Resources>),
    /// The judgement on a Gateway.
    Attachment(Arc<gateway_api::Attachment>),
}

/// Resources for a client, and further units that belong with them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) encoded: Vec<Arc<Encoded>>,
    pub(crate) units: Vec<Unit>,
}

impl From<Arc<Encoded>> for Value {
    fn from(encoded: Arc<Encoded>) -> Self {
        Self::Resources(Arc::new(Resources { encoded: vec![encoded], units: Vec::new() }))
    }
}

impl From<Resources> for Value {
    fn from(resources: Resources) -> Self {
        Self::Resources(Arc::new(resources))
    }
}

impl Value {
    pub(crate) fn none() -> Self {
        Resources::default().into()
    }

    /// The resources in it and the further units.
    pub(crate) fn resources(&self) -> Option<&Resources> {
        match self {
            Self::Resources(resources) => Some(resources),
            _ => None,
        }
    }
}

impl Unit {
    pub(crate) fn compile(&self, cx: &Cx<'_>) -> Value {
        match self {
            Self::Plan => plan::compile(cx),
            Self::OwnPlan => plan::own(cx),
            Self::Policy => visible::policy(cx),
            Self::Visible => visible::compile(cx),
            Self::Hosts(route) => rds::hosts(cx, route),
            Self::VirtualHost(route, service, port) => rds::service_host(cx, route, service, *port),
            Self::ForeignHost(route, host) => rds::foreign_host(cx, route, host),
            Self::Route(RouteName::Gateway(port)) => gateway::route(cx, *port),
            Self::Route(RouteName::GatewayServer(port, gateway, index)) => {
                gateway_tls::route(cx, *port, gateway, *index)
            }
            Self::Route(route) => rds::route(cx, route),
            Self::Clusters(service, port) => cluster::outbound(cx, service, *port),
            Self::FixedClusters => cluster::fixed(cx),
            Self::InboundCluster(port) => cluster::inbound(cx, *port),
            Self::Endpoints(set) => endpoint::compile(cx, set),
            Self::OutboundListener => outbound::listener(cx),
            Self::HttpListener(port, web) => outbound::http_listener(cx, *port, *web),
            Self::AddressListener(service, port) => outbound::address_listener(cx, service, *port),
            Self::InboundListener(place) => inbound::listener(cx, *place),
            Self::CaptureInbound => inbound::capture(cx),
            Self::GatewayListener(port) => gateway::listener(cx, *port),
            Self::Credential(credential) => tls::judge(cx, credential),
            Self::Secret(credential) => tls::secret(cx, credential),
            Self::Names => names::compile(cx),
            Self::GatewayApi(unit) => gateway_api::compile(cx, unit),
            Self::Grpc(unit) => grpc::compile(cx, unit),
        }
    }

    /// The type of resource that it gives, for counting.
    pub(crate) fn resource_type(&self) -> Option<ResourceType> {
        Some(match self {
            Self::Plan
            | Self::OwnPlan
            | Self::Policy
            | Self::Visible
            | Self::Hosts(_)
            | Self::Credential(_) => return None,
            Self::Secret(_) => ResourceType::Secret,
            Self::VirtualHost(..) | Self::ForeignHost(..) => ResourceType::VirtualHost,
            Self::Route(_) => ResourceType::Route,
            Self::Clusters(..) | Self::FixedClusters | Self::InboundCluster(_) => ResourceType::Cluster,
            Self::Endpoints(_) => ResourceType::Endpoint,
            Self::Names => ResourceType::NameTable,
            Self::OutboundListener
            | Self::HttpListener(..)
            | Self::AddressListener(..)
            | Self::InboundListener(_)
            | Self::CaptureInbound
            | Self::GatewayListener(_) => ResourceType::Listener,
            Self::GatewayApi(unit) => return unit.resource_type(),
            Self::Grpc(unit) => return unit.resource_type(),
        })
    }
}
