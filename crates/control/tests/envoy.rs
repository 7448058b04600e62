//! Real Envoy takes what is compiled, over both variants of ADS, without refusing anything.

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use heddle_control::{Control, ControlConfig};
use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};
use tokio::net::TcpListener;

/// The program by `HEDDLE_PEER_ENVOY`, or on the path.
fn envoy() -> Option<PathBuf> {
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

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn put_all(store: &MemoryStore, text: &str) {
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

/// Runs an Envoy as such a node until it has answered everything; returns its rejects.
async fn takes_all(control: &Control, port: u16, id: &str, metadata: &str, api_type: &str) -> Vec<String> {
    let Some(program) = envoy() else { return Vec::new() };
    let mut config = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    config.write_all(bootstrap(port, id, metadata, api_type).as_bytes()).expect("written");
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
    let _running = Running(child);
    let mut progress = control.progress();
    let generation = control.world().generation;
    let answered = async {
        loop {
            let nodes = control.nodes().await;
            if !alive(admin.path()).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let node = nodes.iter().find(|node| node.id == id);
            if node.is_some_and(|node| node.synced >= generation || node.refused > 0) {
                return node.cloned();
            }
            progress.changed().await.expect("the control plane lives");
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), answered).await;
    let text = std::fs::read_to_string(log.path()).unwrap_or_default();
    let Ok(Some(node)) = found else { panic!("{id} never came to an end: {text}") };
    assert_eq!(node.refused, 0, "{id} {api_type}: {text}");
    let stats = ask(admin.path(), "/stats?filter=update_rejected|listener_create_failure").await;
    let counts = stats.lines().filter(|line| line.contains("update_rejected") || line.contains("_failure"));
    let mut rejected: Vec<_> = counts.filter(|line| !line.ends_with(": 0")).map(str::to_owned).collect();
    rejected.extend(text.lines().filter(|line| line.contains("rejected")).map(str::to_owned));
    rejected
}

/// Asks an Envoy's admin; an empty answer when it is not there yet.
async fn ask(admin: &std::path::Path, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = std::fs::read_to_string(admin).unwrap_or_default();
    let Ok(mut stream) = tokio::net::TcpStream::connect(address.trim()).await else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}

/// Whether everything it waits for at the start has come.
async fn alive(admin: &std::path::Path) -> bool {
    ask(admin, "/ready").await.contains("LIVE")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_everything_over_both_variants() {
    let store = Arc::new(MemoryStore::new());
    put_all(&store, include_str!("features.yaml")).await;
    if let Some(files) = std::env::var_os("HEDDLE_TRY_FILES") {
        for file in std::env::split_paths(&files) {
            put_all(&store, &std::fs::read_to_string(&file).expect("readable")).await;
        }
    }
    let stores: Vec<Arc<dyn Store>> = vec![store];
    let control = Control::start(ControlConfig { stores, ..ControlConfig::default() });
    control.wait_ready().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let source = Arc::new(control.clone());
    let serving = tokio::spawn(heddle_xds::serve(listener, source, std::future::pending()));
    let free =
        || std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    for api_type in ["DELTA_GRPC", "GRPC"] {
        let sidecar = format!(
            r#"{{NAMESPACE: default, LABELS: {{app: reviews}}, OUTBOUND: "127.0.0.1:{}", INBOUND: "9080=127.0.0.1:{} 7070=127.0.0.1:{}"}}"#,
            free(),
            free(),
            free()
        );
        let id = "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local";
        let rejected = takes_all(&control, port, id, &sidecar, api_type).await;
        assert!(rejected.is_empty(), "{rejected:#?}");
        let captured =
            format!(r#"{{NAMESPACE: default, LABELS: {{app: ratings}}, OUTBOUND: "127.0.0.1:{}"}}"#, free());
        let id = "sidecar~127.0.0.1~ratings-v1.default~default.svc.cluster.local";
        let rejected = takes_all(&control, port, id, &captured, api_type).await;
        assert!(rejected.is_empty(), "{rejected:#?}");
        let gateway = r#"{NAMESPACE: default, LABELS: {istio: ingressgateway}, BIND: "127.0.0.1"}"#;
        let id = "router~127.0.0.1~gw.default~default.svc.cluster.local";
        let rejected = takes_all(&control, port, id, gateway, api_type).await;
        assert!(rejected.is_empty(), "{rejected:#?}");
    }
    println!("{}", control.metrics());
    for finding in control.findings().await {
        println!("{finding}");
    }
    serving.abort();
}
