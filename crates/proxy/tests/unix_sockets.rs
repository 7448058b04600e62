//! Unix sockets: endpoints behind one, with nginx there, listeners at one, with curl before it, and what the proxy says of them.

mod kit;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener_proto;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{CommonTlsContext, UpstreamTlsContext};
use envoy_types::pb::google::protobuf::UInt32Value;
use heddle_xds::Encoded;
use kit::backend::{Backend, Client, Reply, read_message, serve_pipe, within};
use kit::http_filter;
use kit::peer::{Folder, Running, find};
use kit::tls::{Authority, Leaf, socket, trusting, validated_by};
use kit::{
    Mesh, at_pipe, encoded_cluster, encoded_listener, http, http2, listener, static_cluster, tcp_filter,
    to_cluster,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// Long enough for a pipe of the kernel's to carry most of it.
const LONG: usize = 8 << 20;

/// nginx on three Unix sockets: HTTP/1.1, HTTP/2 and HTTPS.
async fn nginx(nginx: &Path, leaf: &Leaf, dir: &Path) -> Running {
    let shown = dir.display();
    let (certificate, key) = leaf.write(dir, "nginx");
    std::fs::write(dir.join("long"), "x".repeat(LONG)).unwrap();
    let server = |name: &str, more: &str| {
        format!(
            "server {{ listen unix:{shown}/{name}.sock {more}; root {shown}; location = / {{ return 200 \"{name}\\n\"; }} }}"
        )
    };
    let text = format!(
        "daemon off; master_process off; pid {shown}/pid; error_log {shown}/errors; events {{ }}
         http {{ access_log off; client_body_temp_path {shown}/a; proxy_temp_path {shown}/b; fastcgi_temp_path {shown}/c;
         uwsgi_temp_path {shown}/d; scgi_temp_path {shown}/e;
         ssl_certificate {}; ssl_certificate_key {}; {} {} {} }}",
        certificate.display(),
        key.display(),
        server("h1", ""),
        server("h2", "http2"),
        server("tls", "ssl"),
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let child =
        Command::new(nginx).arg("-c").arg(&config).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
    let running = Running(child.unwrap());
    let listening = async {
        while std::os::unix::net::UnixStream::connect(dir.join("tls.sock")).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(listening).await;
    running
}

fn over_tls(mut cluster: Cluster, pem: &str) -> Cluster {
    let context = UpstreamTlsContext {
        common_tls_context: Some(validated_by(CommonTlsContext::default(), trusting(pem))),
        sni: "nginx.example".to_owned(),
        ..Default::default()
    };
    cluster.transport_socket = socket("UpstreamTlsContext", &context);
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_reaches_nginx_on_a_unix_socket() {
    let Some(program) = find("nginx") else { return };
    let authority = Authority::new("root");
    let dir = Folder::new();
    let _running = nginx(&program, &authority.leaf("nginx.example"), &dir.0).await;
    let path = |name: &str| dir.0.join(format!("{name}.sock")).to_str().unwrap().to_owned();
    let clusters = [
        at_pipe("h1", &path("h1")),
        http2(at_pipe("h2", &path("h2"))),
        over_tls(at_pipe("tls", &path("tls")), &authority.pem),
    ];
    let rewritten = |name: &str| {
        kit::action(to_cluster(&format!("/{name}"), name), |action| action.prefix_rewrite = "/".to_owned())
    };
    let mesh = Mesh::start(1, |at| http(at, ["h1", "h2", "tls"].map(rewritten).to_vec(), &clusters)).await;
    let mut client = Client::new(mesh.connect().await);
    for name in ["h1", "h2", "tls", "h1"] {
        let (head, body) = client.get(&format!("/{name}")).await;
        assert_eq!(body, format!("{name}\n"), "{head}");
    }
    let shown = String::from_utf8(mesh.admin("GET", "/clusters").await).unwrap();
    for (name, count) in [("h1", 2), ("h2", 1), ("tls", 1)] {
        let line = format!("{name}::{}::rq_total::{count}", path(name));
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    assert!(
        shown.contains(&format!("h1::{}::cx_active::1\n", path("h1"))),
        "the connection is kept: {shown}"
    );
    let json = String::from_utf8(mesh.admin("GET", "/clusters?format=json").await).unwrap();
    let json: serde_json::Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    let hosts =
        json["cluster_statuses"].as_array().unwrap().iter().flat_map(|c| c["host_statuses"].as_array());
    let at: Vec<_> = hosts.flatten().map(|host| host["address"]["pipe"]["path"].as_str().unwrap()).collect();
    assert_eq!(at, ["h1", "h2", "tls"].map(path));
    let dump = String::from_utf8(mesh.admin("GET", "/config_dump").await).unwrap();
    assert!(dump.contains(&path("h2")), "{dump}");

    // And as bytes, which go past our buffers.
    let mesh = Mesh::start(1, |at| {
        let made = listener("tcp", at, tcp_filter("h1"));
        vec![encoded_listener(&made), encoded_cluster(&clusters[0])]
    })
    .await;
    let mut client = Client::new(mesh.connect().await);
    assert_eq!(client.get("/long").await.1.len(), LONG);
    assert_eq!(client.get("/").await.1, "h1\n");
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The status line of a request to the one cluster.
async fn status(mesh: &Mesh) -> String {
    let (head, _) = Client::new(mesh.connect().await).get("/").await;
    head.lines().next().unwrap().to_owned()
}

async fn with(up: Cluster) -> Mesh {
    Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await
}

#[tokio::test]
async fn a_name_in_the_abstract_space_is_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("heddle-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::spawn(serve_pipe(UnixListener::from_std(listener).unwrap(), |_, _, _| OK.into()));
    let mesh = with(at_pipe("up", &format!("@{name}"))).await;
    assert_eq!(status(&mesh).await, "HTTP/1.1 200 OK");
}

/// The socket of a server that is restarted is another one of the same name.
#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let dir = Folder::new();
    let path = dir.0.join("up.sock");
    let mesh = with(at_pipe("up", path.to_str().unwrap())).await;
    assert_eq!(status(&mesh).await, "HTTP/1.1 503 Service Unavailable", "nobody has been there");
    for _ in 0..2 {
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(serve_pipe(listener, |_, _, _| Reply::Last(OK.into())));
        assert_eq!(status(&mesh).await, "HTTP/1.1 200 OK");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert_eq!(status(&mesh).await, "HTTP/1.1 503 Service Unavailable", "a file that nobody listens at");
        std::fs::remove_file(&path).unwrap();
    }
}

/// The system refuses what does not fit into a queue; who waits a little gets through.
#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let dir = Folder::new();
    let path = dir.0.join("up.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    socket.set_nonblocking(true).unwrap();
    let queued = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mesh = with(at_pipe("up", path.to_str().unwrap())).await;
    let asked = status(&mesh);
    let mut asked = std::pin::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut asked).await;
    assert!(early.is_err(), "there was no room: {early:?}");
    let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into()).unwrap();
    tokio::spawn(serve_pipe(listener, |_, _, _| OK.into()));
    drop(queued);
    assert_eq!(within(asked).await, "HTTP/1.1 200 OK");
}

/// The PROXY protocol tells a server on a Unix socket who its client is.
#[tokio::test]
async fn the_proxy_protocol_goes_over_a_unix_socket() {
    let dir = Folder::new();
    let path = dir.0.join("up.sock");
    let server = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(&line).await.unwrap();
        }
    });
    let mut up = at_pipe("up", path.to_str().unwrap());
    let url = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    let transport = ProxyProtocolUpstreamTransport {
        config: Some(core::ProxyProtocolConfig::default()),
        transport_socket: Some(core::TransportSocket {
            name: "envoy.transport_sockets.raw_buffer".to_owned(),
            config_type: None,
        }),
        ..Default::default()
    };
    up.transport_socket = Some(core::TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(kit::any(url, &transport))),
    });
    let mesh = Mesh::start(1, |at| {
        vec![encoded_listener(&listener("tcp", at, tcp_filter("up"))), encoded_cluster(&up)]
    })
    .await;
    let mut client = Client::new(mesh.connect().await);
    let from = client.stream.local_addr().unwrap().port();
    let said = client.until("\r\n").await;
    assert_eq!(said, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {}\r\n", mesh.address.port()));
}

/// The two routes of nobody's address: what comes by a Unix socket is in no range of addresses.
fn at_front(at: std::net::SocketAddr, front: core::Address, up: &Cluster) -> Vec<Arc<Encoded>> {
    let mut all = http(at, vec![to_cluster("/", "up")], std::slice::from_ref(up));
    let manager = kit::connection_manager(vec![to_cluster("/", "up")]);
    let mut made = listener("front", at, http_filter(&manager));
    made.address = Some(front);
    // Every IP address there is leads to a chain that closes.
    let range = |prefix: &str| core::CidrRange {
        address_prefix: prefix.to_owned(),
        prefix_len: Some(UInt32Value { value: 0 }),
    };
    let everywhere = vec![range("0.0.0.0"), range("::")];
    let matches = listener_proto::FilterChainMatch {
        source_prefix_ranges: everywhere.clone(),
        prefix_ranges: everywhere,
        ..Default::default()
    };
    let closed = listener_proto::FilterChain { filter_chain_match: Some(matches), ..Default::default() };
    made.filter_chains.push(closed);
    all.push(encoded_listener(&made));
    all
}

fn at_path(path: &Path, mode: u32) -> core::Address {
    let pipe = core::Pipe { path: path.to_str().unwrap().to_owned(), mode };
    core::Address { address: Some(core::address::Address::Pipe(pipe)) }
}

fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

async fn admin(mesh: &Mesh, path: &str) -> String {
    String::from_utf8(mesh.admin("GET", path).await).unwrap()
}

async fn until(what: impl AsyncFn() -> bool) {
    let wait = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(wait).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_served_at_a_unix_socket() {
    let Some(curl) = find("curl") else { return };
    let (backend, dir) = (Backend::named("up").await, Folder::new());
    let (path, kept) = (dir.0.join("front.sock"), dir.0.join("kept"));
    let up = static_cluster("up", &[backend.address]);
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mesh = Mesh::start(2, |at| at_front(at, at_path(&path, 0o600), &up)).await;
    assert_eq!(mode_of(&path), Some(0o600));
    for more in [&["--http1.1"][..], &["--http2-prior-knowledge"]] {
        for _ in 0..8 {
            let mut command = Command::new(&curl);
            command.args(["-sS", "--max-time", "20", "--unix-socket"]).arg(&path).args(more);
            command.arg("http://shop.test/");
            assert_eq!(kit::peer::output(command).await, "up", "{more:?}");
        }
    }
    let seen = backend.heads();
    assert!(seen.iter().all(|head| !head.contains("x-forwarded-for")), "{seen:?}");
    let shown = format!("front::{}", path.display());
    assert!(admin(&mesh, "/listeners").await.contains(&shown));
    let json = admin(&mesh, "/listeners?format=json").await;
    let json: serde_json::Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["listener_statuses"][0]["local_address"]["pipe"]["path"], path.to_str().unwrap());

    // Another version with another mode, then another listener with the same socket: nobody is turned away.
    let client = tokio::net::UnixStream::connect(&path).await.unwrap();
    mesh.publish(at_front(mesh.address, at_path(&path, 0o660), &up));
    until(async || mode_of(&path) == Some(0o660)).await;
    let mut stream = client;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_message(&mut stream, &mut Vec::new()).await.unwrap().0.contains("200"));

    // What is no socket is left alone, and the path that is not listened on any more is gone.
    std::fs::write(&kept, "kept").unwrap();
    mesh.publish(at_front(mesh.address, at_path(&kept, 0), &up));
    until(async || !path.exists()).await;
    until(async || admin(&mesh, "/listeners").await.contains("what is there is no socket; move it away"))
        .await;
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    std::fs::remove_file(&kept).unwrap();
    until(async || std::os::unix::net::UnixStream::connect(&kept).is_ok()).await;
    mesh.proxy.stop().await;
    assert!(!kept.exists(), "it goes with the proxy");
}
