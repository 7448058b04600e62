//! Running Envoys for the tests of this crate.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::print_stdout, reason = "what is left out has to be seen")]

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use heddle_control::{Control, NodeStatus};
use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};

/// The program by `HEDDLE_PEER_ENVOY`, or on the path.
pub(crate) fn envoy() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_PEER_ENVOY").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        given.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|p| p.is_file()));
    if found.is_none() {
        println!("LEFT OUT: envoy is not on this machine; HEDDLE_PEER_ENVOY names it");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must not skip Envoy");
    }
    found
}

/// A running Envoy; ends with the value.
pub(crate) struct Envoy {
    child: Child,
    admin: tempfile::NamedTempFile,
    log: tempfile::NamedTempFile,
    _config: tempfile::NamedTempFile,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a node presents itself.
pub(crate) struct Node<'a> {
    pub(crate) id: &'a str,
    /// YAML.
    pub(crate) metadata: &'a str,
    /// `DELTA_GRPC` or `GRPC`.
    pub(crate) api_type: &'a str,
}

impl Envoy {
    /// Starts one, if there is the program; `xds` is the control plane's port.
    pub(crate) fn start(xds: u16, node: &Node<'_>) -> Option<Self> {
        let program = envoy()?;
        let mut config = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        config.write_all(bootstrap(xds, node.id, node.metadata, node.api_type).as_bytes()).expect("written");
        let admin = tempfile::NamedTempFile::new().expect("a file");
        let log = tempfile::NamedTempFile::new().expect("a file");
        let child = Command::new(program)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "--admin-address-path"])
            .arg(admin.path())
            .arg("-c")
            .arg(config.path())
            .stdout(Stdio::null())
            .stderr(log.reopen().expect("the log"))
            .spawn()
            .expect("envoy starts");
        Some(Self { child, admin, log, _config: config })
    }

    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        text.lines().filter(|line| !line.contains("Deprecated field")).collect::<Vec<_>>().join("\n")
    }

    /// Waits until it is live and has answered everything that there is now.
    pub(crate) async fn settled(&self, control: &Control, id: &str) -> NodeStatus {
        let mut progress = control.progress();
        let generation = control.world().generation;
        let answered = async {
            loop {
                if !self.alive().await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                let nodes = control.nodes().await;
                let node = nodes.into_iter().find(|node| node.id == id);
                if let Some(node) = node.filter(|node| node.synced >= generation || node.refused > 0) {
                    return node;
                }
                progress.changed().await.expect("the control plane lives");
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), answered).await {
            Ok(node) => node,
            Err(_) => panic!("{id} never came to an end: {}", self.log()),
        }
    }

    /// Asks its admin; an empty answer when it is not there yet.
    pub(crate) async fn ask(&self, path: &str) -> String {
        let address = std::fs::read_to_string(self.admin.path()).unwrap_or_default();
        exchange(address.trim(), &format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"))
            .await
    }

    /// Whether everything it waits for at the start has come.
    async fn alive(&self) -> bool {
        self.ask("/ready").await.contains("LIVE")
    }
}

/// Sends a text and reads until the other side closes; empty when there is nobody.
pub(crate) async fn exchange(address: &str, text: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return String::new() };
    let mut answer = Vec::new();
    if stream.write_all(text.as_bytes()).await.is_ok() {
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A port for a listener that is opened later.
pub(crate) fn free() -> u16 {
    heddle_runtime::free_port(std::net::Ipv4Addr::LOCALHOST.into()).expect("a port")
}

pub(crate) async fn put_all(store: &MemoryStore, text: &str) {
    for document in parse_documents(text, "features.yaml") {
        let document = document.unwrap_or_else(|fault| panic!("{fault}"));
        match admit(&document, &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => {
                store.put(object, Precondition::Any).await.expect("stored");
            }
            Admission::Refused(faults) => panic!("{}", faults[0]),
            Admission::NotOurs(warning) => println!("{warning}"),
        }
    }
}

fn bootstrap(xds: u16, id: &str, metadata: &str, api_type: &str) -> String {
    format!(
        r#"
node: {{id: "{id}", cluster: c, metadata: {metadata}}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  lds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}
  cds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {xds}}}}}}}}}]}}]
"#
    )
}
