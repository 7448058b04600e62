//! Unix sockets: endpoints behind one, with nginx there, and what the proxy says of them.

mod kit;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{CommonTlsContext, UpstreamTlsContext};
use kit::backend::{Client, Reply, serve_pipe, within};
use kit::peer::{Folder, Running, find};
use kit::tls::{Authority, Leaf, socket, trusting, validated_by};
use kit::{Mesh, at_pipe, encoded_cluster, encoded_listener, http, http2, listener, tcp_filter, to_cluster};
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
