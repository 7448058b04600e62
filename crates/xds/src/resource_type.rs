use std::fmt;

/// The type URLs of the xDS v3 resources that pass between the planes.
pub mod type_url {
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// `envoy.config.listener.v3.Listener` (LDS).
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// `envoy.config.route.v3.VirtualHost` (VHDS).
    pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
    /// The mesh's DNS names, for heddle proxies only.
    pub const NAME_TABLE: &str = "type.googleapis.com/heddle.dev.v1.NameTable";
}

/// A type of resource, ordered as it has to reach a client so that nothing refers to what is
/// not there yet (make before break); removals go the other way round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ResourceType {
    /// SDS.
    Secret,
    /// CDS.
    Cluster,
    /// EDS, `ClusterLoadAssignment`.
    Endpoint,
    /// LDS.
    Listener,
    /// RDS, `RouteConfiguration`.
    Route,
    /// VHDS; names are `ROUTE/VIRTUAL_HOST`.
    VirtualHost,
    /// The mesh's names for the proxy's DNS.
    NameTable,
}

impl ResourceType {
    /// How many types there are; [`ResourceType::index`] is below it.
    pub const COUNT: usize = 7;

    /// Every type in sending order.
    pub const ALL: [ResourceType; Self::COUNT] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
        Self::NameTable,
    ];

    /// The type URL that stands in requests, responses and `Any`.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Secret => type_url::SECRET,
            Self::Cluster => type_url::CLUSTER,
            Self::Endpoint => type_url::ENDPOINT,
            Self::Listener => type_url::LISTENER,
            Self::Route => type_url::ROUTE,
            Self::VirtualHost => type_url::VIRTUAL_HOST,
            Self::NameTable => type_url::NAME_TABLE,
        }
    }

    /// The type of a type URL, if it is one of ours.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The short name that Istio's metrics and tools use: `cds`, `eds`, ...
    pub const fn short(self) -> &'static str {
        match self {
            Self::Secret => "sds",
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::VirtualHost => "vhds",
            Self::NameTable => "nds",
        }
    }

    /// Position in [`ResourceType::ALL`], for arrays indexed by type.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a first request without names means "everything" (the xDS specification gives
    /// this meaning to LDS and CDS; the name table has it too).
    pub const fn has_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::NameTable)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "Secret",
            Self::Cluster => "Cluster",
            Self::Endpoint => "ClusterLoadAssignment",
            Self::Listener => "Listener",
            Self::Route => "RouteConfiguration",
            Self::VirtualHost => "VirtualHost",
            Self::NameTable => "NameTable",
        })
    }
}
