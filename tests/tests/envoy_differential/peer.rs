//! The three that are compared: real Envoy by state-of-the-world, real Envoy by delta, and heddle's proxy.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use heddle_proxy::{Proxy, ProxyConfig, Role};

/// A data plane that takes requests at `address`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    running: Running,
}

enum Running {
    Envoy(Child),
    Heddle(#[expect(dead_code, reason = "runs until dropped")] Box<Proxy>),
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Running::Envoy(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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

pub(crate) fn free_address(ip: [u8; 4]) -> SocketAddr {
    let listener = std::net::TcpListener::bind(SocketAddr::from((ip, 0)));
    listener.and_then(|l| l.local_addr()).unwrap_or_else(|error| panic!("no free port on {ip:?}: {error}"))
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
        let admin = free_address([127, 0, 0, 1]);
        let role = place.role();
        let config = format!(
            "node:\n  id: {role}~127.0.0.1~client.default~default.svc.cluster.local\n  cluster: client.default\n\
             \x20 metadata: {{NAMESPACE: default, LABELS: {{app: client}}, {metadata}}}\n\
             dynamic_resources:\n  ads_config: {{api_type: {api}, transport_api_version: V3, grpc_services: \
             [{{envoy_grpc: {{cluster_name: xds}}}}]}}\n  cds_config: {{ads: {{}}, resource_api_version: V3}}\n  \
             lds_config: {{ads: {{}}, resource_api_version: V3}}\n\
             static_resources:\n  clusters:\n  - name: xds\n    type: STATIC\n    connect_timeout: 5s\n    \
             typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
             \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
             explicit_http_config: {{http2_protocol_options: {{}}}}\n    load_assignment: {{cluster_name: xds, endpoints: \
             [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}\n\
             admin: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}\n",
            xds.ip(),
            xds.port(),
            admin.ip(),
            admin.port(),
        );
        let file = dir.join(format!("{name}-{role}.yaml"));
        std::fs::write(&file, config).unwrap_or_else(|e| panic!("{e}"));
        let log = std::fs::File::create(file.with_extension("log")).unwrap_or_else(|e| panic!("{e}"));
        // Envoy dies with its starter's session, so it gets its own.
        let child = Command::new("setsid")
            .arg("--wait")
            .arg(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("envoy: {e}"));
        Self { name, address, running: Running::Envoy(child) }
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
        Self { name: "heddle", address, running: Running::Heddle(Box::new(proxy)) }
    }
}
