//! TLS as the control plane serves it, carried by real Envoy and by our own proxy: ended, demanded of clients, passed through, started towards
//! backends; and certificates that are renewed while connections come.

mod ingress;

use std::{future::pending, net::SocketAddr, path::PathBuf, sync::Arc};

use heddle_control::{Control, ControlConfig};
use heddle_proxy::{ProxyConfig, Role};
use heddle_resource::{Admission, AdmitOptions, admit_json, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};
use heddle_tests::{
    envoy::{Envoy, Join, free_address},
    eventually, peer,
    tls::{Authority, Issued, acceptor, connector},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::ServerName};

/// Answers every request with its name, over TLS where it has an acceptor.
async fn backend(name: &'static str, tls: Option<TlsAcceptor>) -> SocketAddr {
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let text =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}", name.len());
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
    let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            // Connections that break are the client's to notice.
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, name).await,
                    Some(acceptor) => answer(acceptor.accept(stream).await?, name).await,
                }
            });
        }
    });
    address
}

struct Mesh {
    store: Arc<dyn Store>,
    _control: Control,
    xds: SocketAddr,
}

impl Mesh {
    async fn start() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let control =
            Control::start(ControlConfig { stores: vec![store.clone()], ..ControlConfig::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
        let xds = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
        tokio::spawn(heddle_xds::serve(listener, Arc::new(control.clone()), pending()));
        Self { store, _control: control, xds }
    }

    async fn apply(&self, text: &str) {
        for document in parse_documents(text, "mesh.yaml") {
            self.put(document.unwrap_or_else(|d| panic!("{d}")).value).await;
        }
    }

    async fn put(&self, value: Value) {
        let object = match admit_json(value, &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => object,
            other => panic!("{other:?}"),
        };
        self.store.put(object, Precondition::Any).await.unwrap_or_else(|e| panic!("{e}"));
    }

    async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = values.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let meta = json!({"name": name, "namespace": "default"});
        self.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data})).await;
    }

    async fn pair(&self, name: &str, issued: &Issued) {
        self.secret(name, &[("tls.crt", &issued.chain), ("tls.key", &issued.key)]).await;
    }
}

/// One request on a fresh connection: the body of a 200, and the certificate that was shown.
async fn get(to: SocketAddr, by: &TlsConnector, host: &str) -> Result<(String, Vec<u8>), String> {
    let stream = TcpStream::connect(to).await.map_err(|e| format!("connect: {e}"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let mut stream = by.connect(name, stream).await.map_err(|e| format!("handshake: {e}"))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first()).map(|one| one.to_vec());
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
    let mut text = Vec::new();
    // A server may end a connection without saying so in TLS.
    if let Err(error) = stream.read_to_end(&mut text).await
        && text.is_empty()
    {
        return Err(format!("read: {error}"));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {text:?}"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    Ok((body.to_owned(), shown.unwrap_or_default()))
}

fn entry(host: &str, at: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\nspec: {{hosts: [{host}], ports: \
         [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {port}, tls: {port}}}}}]}}\n",
        host.replace('.', "-"),
        port = at.port(),
    )
}

fn resources(at: SocketAddr, plain: SocketAddr, secure: SocketAddr) -> String {
    let server = |host: &str, protocol: &str, tls: &str| {
        format!(
            "{{port: {{number: {}, name: {host}, protocol: {protocol}}}, bind: {}, hosts: [{host}], tls: {{{tls}}}}}",
            at.port(),
            at.ip()
        )
    };
    let servers = [
        server("a.test", "HTTPS", "mode: SIMPLE, credentialName: a"),
        server("m.test", "HTTPS", "mode: MUTUAL, credentialName: m"),
        server("o.test", "HTTPS", "mode: SIMPLE, credentialName: a"),
        server("p.test", "TLS", "mode: PASSTHROUGH"),
        server("x.test", "HTTPS", "mode: SIMPLE, credentialName: missing"),
    ];
    let mut text = entry("plain.test", plain) + &entry("secure.test", secure);
    text += &format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{selector: {{app: client}}, \
         servers: [{}]}}\n",
        servers.join(", ")
    );
    let route = |name: &str, hosts: &str, to: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: \
             [{hosts}], gateways: [gw], {to}}}\n"
        )
    };
    let http =
        |to: &str| format!("http: [{{route: [{{destination: {{host: {to}, port: {{number: 80}}}}}}]}}]");
    text += &route("plain", "a.test, m.test, x.test", &http("plain.test"));
    text += &route("origin", "o.test", &http("secure.test"));
    text += &route(
        "pass",
        "p.test",
        "tls: [{match: [{sniHosts: [p.test]}], route: [{destination: {host: secure.test, port: {number: 443}}}]}]",
    );
    text += "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: secure}\nspec: {host: \
             secure.test, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, credentialName: \
             up}}]}}\n";
    text
}

/// Who carries the traffic. Ends when dropped.
enum Gateway {
    Envoy(Envoy),
    Heddle { _tell: mpsc::Sender<()> },
}

impl Gateway {
    fn heddle(xds: SocketAddr) -> Self {
        let config = ProxyConfig {
            role: Role::Gateway,
            name: "gateway".to_owned(),
            namespace: "default".to_owned(),
            gateway: Some("istio:default/gw".to_owned()),
            xds: format!("http://{xds}"),
            workers: Some(1),
            ..ProxyConfig::default()
        };
        let (tell, told) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(error) = heddle_proxy::run(config, |_| {}, told).await {
                heddle_tests::say(&format!("the proxy ended: {error}"));
            }
        });
        Self::Heddle { _tell: tell }
    }

    fn log(&self) -> String {
        match self {
            Self::Envoy(envoy) => envoy.log(),
            Self::Heddle { .. } => String::new(),
        }
    }
}

/// On Envoy over a form of xDS, or on our own proxy.
async fn through(api: Option<(PathBuf, &str)>) {
    let (ours, clients, back) = (Authority::new("ours"), Authority::new("clients"), Authority::new("back"));
    let plain = backend("plain", None).await;
    let of_back = back.issue(&["secure.test", "p.test"]);
    let secure = backend("secure", Some(acceptor(&of_back, Some(&clients.pem())))).await;
    let mesh = Mesh::start().await;
    let at = free_address([127, 0, 0, 1]);
    mesh.apply(&resources(at, plain, secure)).await;
    let first = ours.issue(&["a.test", "o.test"]);
    mesh.pair("a", &first).await;
    mesh.pair("m", &ours.issue(&["m.test"])).await;
    mesh.secret("m-cacert", &[("cacert", &clients.pem())]).await;
    mesh.pair("up", &clients.issue(&["gateway"])).await;
    mesh.secret("up-cacert", &[("ca.crt", &back.pem())]).await;
    let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let gateway = match api {
        Some((binary, api)) => {
            let join = Join { api, xds: mesh.xds, role: "router", metadata: "", args: &[] };
            Gateway::Envoy(Envoy::start("gateway", &binary, &join, scratch.path()))
        }
        None => Gateway::heddle(mesh.xds),
    };
    let own = clients.issue(&["someone"]);
    let known = connector(&ours.pem(), Some(&own));
    let nobody = connector(&ours.pem(), None);
    // Ended here; started again towards the backend, which demands a certificate of the gateway.
    for (host, wanted) in [("a.test", "plain"), ("o.test", "secure")] {
        let (body, _) = eventually(&format!("{host}: {}", gateway.log()), || get(at, &nobody, host)).await;
        assert_eq!(body, wanted, "{host}");
    }
    // Demanded of clients.
    let (body, _) = eventually("m.test", || get(at, &known, "m.test")).await;
    assert_eq!(body, "plain");
    get(at, &nobody, "m.test").await.expect_err("without a certificate");
    let stranger = Authority::new("stranger").issue(&["someone"]);
    get(at, &connector(&ours.pem(), Some(&stranger)), "m.test").await.expect_err("with a stranger's");
    // Passed through: the backend's own certificate is seen, and it sees the client's.
    let towards = connector(&back.pem(), Some(&own));
    let (body, shown) = eventually("p.test", || get(at, &towards, "p.test")).await;
    assert_eq!(body, "secure");
    assert!(!shown.is_empty());
    // A server whose Secret is missing is closed.
    get(at, &nobody, "x.test").await.expect_err("without a certificate of its own");
    renewed(&mesh, at, &nobody, &ours).await;
}

/// Certificates come and go while connections come: none of them fails, and the last certificate is shown.
async fn renewed(mesh: &Mesh, at: SocketAddr, client: &TlsConnector, ours: &Authority) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let (_, before) = get(at, client, "a.test").await.unwrap_or_else(|e| panic!("{e}"));
        mesh.pair("a", &ours.issue(&["a.test", "o.test"])).await;
        let mut tries = 0;
        loop {
            let (_, shown) =
                get(at, client, "a.test").await.unwrap_or_else(|e| panic!("a failed request: {e}"));
            tries += 1;
            if shown != before {
                seen.insert(shown);
                break;
            }
            assert!(tries < 20_000, "the new certificate is not served");
        }
    }
    assert_eq!(seen.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_delta() {
    let Some(binary) = peer::envoy() else { return };
    through(Some((binary, "DELTA_GRPC"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_state_of_the_world() {
    let Some(binary) = peer::envoy() else { return };
    through(Some((binary, "GRPC"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_our_own_proxy() {
    through(None).await;
}
