//! Real Envoy, joined to a control plane over ADS.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use heddle_runtime::free_port;

/// How an Envoy joins.
#[derive(Clone, Copy, Debug)]
pub struct Join<'j> {
    /// `GRPC` or `DELTA_GRPC`.
    pub api: &'j str,
    pub xds: SocketAddr,
    /// `sidecar` or `router`.
    pub role: &'j str,
    /// What the node's metadata says besides its namespace and labels, as YAML: `OUTBOUND: "..."`.
    pub metadata: &'j str,
    /// More arguments of the command line.
    pub args: &'j [&'j str],
}

/// A running Envoy, `client` of the namespace `default`. Dropping it kills it.
pub struct Envoy {
    pub name: String,
    pub admin: SocketAddr,
    log: PathBuf,
    child: Child,
}

/// An address for a listener that is opened later: see [`free_port`].
///
/// # Panics
/// When there is none.
pub fn free_address(ip: [u8; 4]) -> SocketAddr {
    let port = free_port(ip.into()).unwrap_or_else(|error| panic!("no free port on {ip:?}: {error}"));
    SocketAddr::from((ip, port))
}

impl Envoy {
    /// Starts Envoy with its files in `dir`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, binary: &Path, join: &Join<'_>, dir: &Path) -> Self {
        let admin = free_address([127, 0, 0, 1]);
        let file = dir.join(format!("{name}-{}.yaml", join.role));
        std::fs::write(&file, bootstrap(join, admin)).unwrap_or_else(|e| panic!("{e}"));
        let log = file.with_extension("log");
        let errors = std::fs::File::create(&log).unwrap_or_else(|e| panic!("{e}"));
        // Envoy dies with its starter's session, so it gets its own.
        let child = Command::new("setsid")
            .arg(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"])
            .args(join.args)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| panic!("envoy: {e}"));
        Self { name: name.to_owned(), admin, log, child }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bootstrap(join: &Join<'_>, admin: SocketAddr) -> String {
    let Join { api, xds, role, metadata, .. } = join;
    format!(
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
    )
}
