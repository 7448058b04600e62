//! A real browser at a TLS gateway, before endpoints that speak HTTP/1.1: it fetches over HTTP/2, and opens WebSockets on the
//! connection that it has (RFC 8441).

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use heddle_tests::{
    eventually,
    mesh::{Mesh, Role},
    peer, root,
    tls::{Authority, connector},
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const HOST: &str = "shop.example";

/// Ends its process with its scope, and all of its group: a browser is begun by a script.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Serves the page over whatever it is asked in; what the page reports is passed on.
async fn site() -> (SocketAddr, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let service = service_fn(move |request| answer(request, tell.clone()));
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (at, told)
}

async fn answer(
    request: Request<Incoming>,
    tell: mpsc::UnboundedSender<Value>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    let (kind, answer) = match head.uri.path() {
        "/" => ("text/html", Bytes::from_static(include_bytes!("page.html"))),
        "/say" => ("text/plain", Bytes::from(format!("asked by {:?}", head.version))),
        "/echo" => ("application/octet-stream", body),
        "/report" => {
            let _ = tell.send(serde_json::from_slice(&body).unwrap_or_default());
            ("text/plain", Bytes::new())
        }
        _ => return Ok(not_found()),
    };
    Ok(Response::builder().header("content-type", kind).body(Full::new(answer)).unwrap())
}

fn not_found() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}

/// The WebSockets' server, and its port.
fn sockets(python: &Path) -> (Running, u16) {
    let mut server = Command::new(python);
    server.arg(root().join("tests/peers/websocket_peer.py")).arg("serve");
    let mut server =
        Running(server.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (server, line.trim().parse().unwrap())
}

/// A gateway that ends TLS for [`HOST`] at a port.
async fn gateway(mesh: &Mesh, port: u16, page: u16, chat: u16) -> Role {
    let authority = Authority::new("everybody's");
    let own = authority.issue(&[HOST]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "own"},
        "stringData": {"tls.crt": own.chain, "tls.key": own.key},
    });
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "shop"},
        "spec": {
            "hosts": ["shop.mesh"], "resolution": "STATIC", "location": "MESH_INTERNAL",
            "ports": [
                {"number": 80, "name": "http-page", "protocol": "HTTP"},
                {"number": 81, "name": "http-chat", "protocol": "HTTP"},
            ],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http-page": page, "http-chat": chat}}],
        },
    });
    let door = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "front"},
        "spec": {"selector": {}, "servers": [{
            "port": {"number": port, "name": "https", "protocol": "HTTPS"}, "hosts": [HOST],
            "tls": {"mode": "SIMPLE", "credentialName": "own"},
        }]},
    });
    let to = |port: u16| json!([{"destination": {"host": "shop.mesh", "port": {"number": port}}}]);
    let routes = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "shop"},
        "spec": {"hosts": [HOST], "gateways": ["front"], "http": [
            {"match": [{"uri": {"prefix": "/chat"}}], "route": to(81)},
            {"route": to(80)},
        ]},
    });
    mesh.apply(&[secret, entry, door, routes].map(|one| one.to_string()).join("\n---\n"));
    let gateway = mesh.gateway("istio:default/front", "127.0.0.1", &[].into());
    let client = connector(&authority.pem(), None);
    eventually("TLS is served", || async {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| format!("connect: {e}"))?;
        let name = HOST.try_into().map_err(|e| format!("{HOST}: {e}"))?;
        client.connect(name, stream).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    gateway
}

/// Opens a page in a browser that trusts every certificate and knows no other host.
fn browse(chromium: &Path, profile: &Path, url: &str) -> Running {
    let mut browser = Command::new(chromium);
    browser
        .process_group(0)
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .arg("--ignore-certificate-errors")
        .arg(format!("--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND"))
        .arg(format!("--user-data-dir={}", profile.display()))
        // It stays for as long as somebody could look.
        .args(["--remote-debugging-port=0", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(profile.join("said")).unwrap());
    Running(browser.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_fetches_and_opens_websockets_over_one_connection_of_http2() {
    let chromium = peer::find("chromium-headless-shell", "HEDDLE_PEER_CHROMIUM", &[]);
    let (Some(python), Some(chromium)) = (peer::python(), chromium) else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mesh = Mesh::with(&["--access-log-file", log.to_str().unwrap()]);
    let (_server, chat) = sockets(&python);
    let (page, mut reports) = site().await;
    let port = heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
    let _gateway = gateway(&mesh, port, page.port(), chat).await;

    let browser = browse(&chromium, folder.path(), &format!("https://{HOST}:{port}/"));
    let report = tokio::time::timeout(Duration::from_secs(60), reports.recv()).await;
    let said = || std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
    let report = report.unwrap_or_else(|_| panic!("the page said nothing; the browser: {}", said())).unwrap();
    let talk = |word| {
        let heard = json!(["welcome", word, 1_000_000]);
        json!({"protocol": "echo", "heard": heard, "code": 4001, "reason": "as you wish"})
    };
    let talks = ["one", "two", "three"].map(talk);
    let wanted = json!({
        "page": "h2", "fetched": "h2", "said": "asked by HTTP/1.1", "echoed": 1_000_000, "talks": talks,
    });
    assert_eq!(report, wanted);

    // The browser does not tell what a WebSocket came by; the log does. One was open to the end.
    drop(browser);
    let text = eventually("all is in the log", || async {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let done = text.matches("/chat ").count() == 4 && text.contains("POST /report ");
        if done { Ok(text) } else { Err(text) }
    })
    .await;
    assert_eq!(text.matches("\"GET /chat HTTP/2\" 101 - ").count(), 3, "{text}");
    assert_eq!(text.matches("\"GET /chat HTTP/2\" 101 DC ").count(), 1, "{text}");
    let clients: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(&format!(" {HOST} "))?.0.split(' ').next_back())
        .collect();
    assert!(clients.len() == 1 && !text.contains(" HTTP/1.1\" "), "{clients:?}: {text}");
}
