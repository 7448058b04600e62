//! TLS that a Sidecar has ended for the workload: with files and with Secrets, demanded of clients or not.

use std::{net::SocketAddr, path::Path};

use heddle_proxy::ProxyConfig;
use heddle_tests::{
    envoy::{Envoy, Join, free_address},
    peer,
    tls::{Authority, Issued, connector},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::{Mesh, backend, eventually, get};

/// The ports of the Sidecar's listeners.
const PORTS: [u16; 4] = [9081, 9082, 9083, 9084];

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{e}"));
    path.display().to_string()
}

/// SIMPLE and MUTUAL with files, MUTUAL with Secrets, and one whose Secret is missing.
fn sidecar(dir: &Path, own: &Issued, clients: &Authority, workload: SocketAddr) -> String {
    let chain = write(dir, "tls.crt", &own.chain);
    let key = write(dir, "tls.key", &own.key);
    let authorities = write(dir, "clients.crt", &clients.pem());
    let files = format!("serverCertificate: {chain}, privateKey: {key}");
    let modes = [
        format!("mode: SIMPLE, {files}"),
        format!("mode: MUTUAL, {files}, caCertificates: {authorities}"),
        "mode: MUTUAL, credentialName: app".to_owned(),
        "mode: SIMPLE, credentialName: missing".to_owned(),
    ];
    let listeners = PORTS.iter().zip(modes).map(|(port, tls)| {
        format!(
            "{{port: {{number: {port}, name: https-{port}, protocol: HTTPS}}, defaultEndpoint: '{workload}', tls: {{{tls}}}}}"
        )
    });
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: app}}\nspec: {{workloadSelector: {{labels: \
         {{app: client}}}}, ingress: [{}]}}\n",
        listeners.collect::<Vec<_>>().join(", ")
    )
}

/// What comes back for a request in the clear.
async fn in_the_clear(at: SocketAddr) -> String {
    let mut text = Vec::new();
    let Ok(mut stream) = TcpStream::connect(at).await else { return String::new() };
    if stream.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await.is_ok() {
        // Closed without a word, or with an alert, is what is wanted.
        let _ = stream.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn through(envoy: Option<std::path::PathBuf>) {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let own = ours.issue(&["app.test"]);
    let workload = backend("workload", None).await;
    let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let mesh = Mesh::start().await;
    mesh.apply(&sidecar(scratch.path(), &own, &clients, workload)).await;
    mesh.pair("app", &own).await;
    mesh.secret("app-cacert", &[("cacert", &clients.pem())]).await;
    let at = PORTS.map(|_| free_address([127, 0, 0, 1]));
    let inbound: Vec<_> = PORTS.into_iter().zip(at).collect();
    let text = inbound.iter().map(|(port, at)| format!("\"{port}={at}\"")).collect::<Vec<_>>().join(", ");
    let metadata = format!("INBOUND: [{text}]");
    let (tell, told) = mpsc::channel(1);
    let _running = match envoy {
        Some(binary) => {
            let join =
                Join { api: "DELTA_GRPC", xds: mesh.xds, role: "sidecar", metadata: &metadata, args: &[] };
            Some(Envoy::start("sidecar", &binary, &join, scratch.path()))
        }
        None => {
            let config = ProxyConfig {
                name: "app".to_owned(),
                namespace: "default".to_owned(),
                labels: [("app".to_owned(), "client".to_owned())].into(),
                outbound: vec![(None, free_address([127, 0, 0, 1]))],
                inbound: inbound.iter().map(|(port, at)| (Some(*port), *at)).collect(),
                xds: format!("http://{}", mesh.xds),
                workers: Some(1),
                ..ProxyConfig::default()
            };
            tokio::spawn(async move {
                if let Err(error) = heddle_proxy::run(config, |_| {}, told).await {
                    heddle_tests::say(&format!("the proxy ended: {error}"));
                }
            });
            None
        }
    };
    let known = connector(&ours.pem(), Some(&clients.issue(&["someone"])));
    let nobody = connector(&ours.pem(), None);
    let stranger = connector(&ours.pem(), Some(&Authority::new("stranger").issue(&["someone"])));
    let (body, _) = eventually("SIMPLE", || get(at[0], &nobody, "app.test")).await;
    assert_eq!(body, "workload");
    for (at, what) in [(at[1], "MUTUAL with files"), (at[2], "MUTUAL with Secrets")] {
        let (body, _) = eventually(what, || get(at, &known, "app.test")).await;
        assert_eq!(body, "workload");
        get(at, &nobody, "app.test").await.expect_err(what);
        get(at, &stranger, "app.test").await.expect_err(what);
    }
    get(at[3], &nobody, "app.test").await.expect_err("without a certificate of its own");
    for at in at {
        let text = in_the_clear(at).await;
        assert!(!text.contains("workload"), "{at}: {text}");
    }
    drop(tell);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_ends_tls_on_our_own_proxy() {
    through(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_ends_tls_on_envoy() {
    let Some(binary) = peer::envoy() else { return };
    through(Some(binary)).await;
}
