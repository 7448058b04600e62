//! Real Envoy takes what is compiled, over both variants of ADS, without refusing anything.

mod support;

use std::sync::Arc;

use heddle_control::{Control, ControlConfig};
use heddle_store::{MemoryStore, Store};
use support::{Envoy, Node, free, put_all};
use tokio::net::TcpListener;

/// Runs an Envoy as such a node until it has answered everything; returns its rejects.
async fn takes_all(control: &Control, port: u16, id: &str, metadata: &str, api_type: &str) -> Vec<String> {
    let Some(envoy) = Envoy::start(port, &Node { id, metadata, api_type }) else { return Vec::new() };
    let node = envoy.settled(control, id).await;
    let text = envoy.log();
    assert_eq!(node.refused, 0, "{id} {api_type}: {text}");
    let stats = envoy.ask("/stats?filter=update_rejected|listener_create_failure").await;
    let counts = stats.lines().filter(|line| line.contains("update_rejected") || line.contains("_failure"));
    let mut rejected: Vec<_> = counts.filter(|line| !line.ends_with(": 0")).map(str::to_owned).collect();
    rejected.extend(text.lines().filter(|line| line.contains("rejected")).map(str::to_owned));
    rejected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_everything_over_both_variants() {
    let store = Arc::new(MemoryStore::new());
    let mut text = include_str!("features.yaml").to_owned();
    // The gateway's ports have to be free.
    for port in ["18080", "18081", "18082", "18083", "18443", "18444"] {
        text = text.replace(port, &free().to_string());
    }
    put_all(&store, &text).await;
    // More files to try, separated as in PATH.
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
    tokio::spawn(heddle_xds::serve(listener, Arc::new(control.clone()), std::future::pending()));
    for api_type in ["DELTA_GRPC", "GRPC"] {
        let explicit = format!(
            r#"{{NAMESPACE: default, LABELS: {{app: reviews}}, OUTBOUND: "127.0.0.1:{}", INBOUND: "9080=127.0.0.1:{} 7070=127.0.0.1:{}"}}"#,
            free(),
            free(),
            free()
        );
        let captured =
            format!(r#"{{NAMESPACE: default, LABELS: {{app: ratings}}, OUTBOUND: "127.0.0.1:{}"}}"#, free());
        let gateway = r#"{NAMESPACE: default, LABELS: {istio: ingressgateway}, BIND: "127.0.0.1"}"#;
        for (id, metadata) in [
            ("sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local", explicit.as_str()),
            ("sidecar~127.0.0.1~ratings-v1.default~default.svc.cluster.local", &captured),
            ("router~127.0.0.1~gw.default~default.svc.cluster.local", gateway),
        ] {
            let rejected = takes_all(&control, port, id, metadata, api_type).await;
            assert!(rejected.is_empty(), "{rejected:#?}");
        }
    }
}
