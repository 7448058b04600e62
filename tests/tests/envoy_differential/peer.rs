//! The three that are compared: real Envoy by state-of-the-world, real Envoy by delta, and heddle's proxy.

use std::{net::SocketAddr, path::Path};

use heddle_proxy::{Proxy, ProxyConfig, Role};
use heddle_tests::envoy::{Envoy, Join, free_address};

/// A data plane that takes requests at `address`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    _running: Running,
}

/// Runs until dropped.
enum Running {
    Envoy(#[expect(dead_code, reason = "runs until dropped")] Envoy),
    Heddle(#[expect(dead_code, reason = "runs until dropped")] Box<Proxy>),
}

/// Where a data plane stands.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// With an explicit outbound address.
    Sidecar,
    /// `istio:default/gw` or `k8s:default/gw` on this address and port.
    Gateway(&'static str, SocketAddr),
}

impl Place {
    fn role(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Gateway(..) => "router",
        }
    }
}

impl Peer {
    /// Starts Envoy; `api` is `GRPC` or `DELTA_GRPC`.
    pub(crate) fn envoy(
        name: &'static str,
        binary: &Path,
        api: &str,
        xds: SocketAddr,
        place: Place,
        dir: &Path,
    ) -> Self {
        let (address, metadata) = match place {
            Place::Sidecar => {
                let address = free_address([127, 0, 0, 1]);
                (address, format!("OUTBOUND: \"{address}\", INTERCEPTION_MODE: NONE"))
            }
            Place::Gateway(kind, at) => {
                (at, format!("GATEWAY: \"{kind}:default/gw\", BIND: \"{}\"", at.ip()))
            }
        };
        let join = Join { api, xds, role: place.role(), metadata: &metadata, args: &[] };
        let envoy = Envoy::start(name, binary, &join, dir);
        Self { name, address, _running: Running::Envoy(envoy) }
    }

    /// Starts heddle's proxy in this process.
    pub(crate) async fn heddle(xds: SocketAddr, place: Place) -> Self {
        let common = ProxyConfig {
            xds: format!("http://{xds}"),
            name: "client".into(),
            labels: [("app".to_owned(), "client".to_owned())].into(),
            workers: Some(1),
            ..ProxyConfig::default()
        };
        let config = match place {
            Place::Sidecar => {
                ProxyConfig { outbound: vec![(None, SocketAddr::from(([127, 0, 0, 1], 0)))], ..common }
            }
            Place::Gateway(kind, at) => ProxyConfig {
                role: Role::Gateway,
                gateway: Some(format!("{kind}:default/gw")),
                bind: Some(at.ip()),
                ..common
            },
        };
        let proxy = Proxy::start(config).await.unwrap_or_else(|e| panic!("heddle: {e}"));
        let address = match place {
            Place::Sidecar => {
                proxy.bound().outbound.first().unwrap_or_else(|| panic!("no outbound address")).1
            }
            Place::Gateway(_, at) => at,
        };
        Self { name: "heddle", address, _running: Running::Heddle(Box::new(proxy)) }
    }
}
