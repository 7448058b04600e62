//! TLS with endpoints: nginx, and servers of rustls that misbehave on purpose.

mod kit;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as up;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use heddle_xds::Encoded;
use kit::backend::{Backend, Client};
use kit::peer::{Folder, Running, find};
use kit::tls::{Authority, Leaf, downstream, presenting, san, sds, secured, socket, trusting, validated_by};
use kit::{Mesh, encoded_cluster, encoded_listener, http, http2, static_cluster, to_cluster};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

const NAME: &str = "up.example.com";

/// TLS to the endpoints of a cluster.
fn over_tls(mut cluster: cluster::Cluster, context: &tls::UpstreamTlsContext) -> cluster::Cluster {
    cluster.transport_socket = socket("UpstreamTlsContext", context);
    cluster
}

/// A context that trusts an authority and asks for a name.
fn trusting_for(pem: &str, name: &str) -> tls::UpstreamTlsContext {
    let mut validation = trusting(pem);
    validation.match_typed_subject_alt_names = vec![san(tls::subject_alt_name_matcher::SanType::Dns, name)];
    tls::UpstreamTlsContext {
        common_tls_context: Some(validated_by(tls::CommonTlsContext::default(), validation)),
        sni: name.to_owned(),
        ..Default::default()
    }
}

fn options(options: &up::HttpProtocolOptions, mut cluster: cluster::Cluster) -> cluster::Cluster {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster.typed_extension_protocol_options = [(name.to_owned(), kit::any(name, options))].into();
    cluster
}

fn automatic(cluster: cluster::Cluster) -> cluster::Cluster {
    use up::http_protocol_options::{AutoHttpConfig, UpstreamProtocolOptions};
    let auto = UpstreamProtocolOptions::AutoConfig(AutoHttpConfig::default());
    options(&up::HttpProtocolOptions { upstream_protocol_options: Some(auto), ..Default::default() }, cluster)
}

fn server_config(leaf: &Leaf, protocols: &[&str]) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap).collect();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// What a server saw.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    sessions: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// A server of rustls; `answer` gives the bytes and whether the connection then ends, and how.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stay,
    /// With close_notify.
    End,
    /// Without.
    Cut,
}

async fn tls_server(
    config: Arc<rustls::ServerConfig>,
    answer: impl Fn(usize) -> (&'static str, Then) + Send + Sync + 'static,
) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen, answer) = (listener.local_addr().unwrap(), Seen::default(), Arc::new(answer));
    let shown = seen.clone();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let (acceptor, seen, answer) = (acceptor.clone(), seen.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                seen.sessions.fetch_add(1, Ordering::Relaxed);
                serve(stream, &seen, &*answer).await;
            });
        }
    });
    (address, shown)
}

async fn serve(
    mut stream: TlsStream<TcpStream>,
    seen: &Seen,
    answer: &impl Fn(usize) -> (&'static str, Then),
) {
    let mut held = Vec::new();
    for number in 0.. {
        while !held.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut held).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.heads.lock().unwrap().push(String::from_utf8_lossy(&held).into_owned());
        held.clear();
        let (bytes, then) = answer(number);
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        match then {
            Then::Stay => {}
            Then::End => {
                let _ = stream.shutdown().await;
                // The socket stays: only close_notify says that this is the end.
                let _ = stream.read_buf(&mut held).await;
                return;
            }
            Then::Cut => return,
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn to(clusters: &[cluster::Cluster]) -> impl Fn(SocketAddr) -> Vec<Arc<Encoded>> + use<> {
    let clusters = clusters.to_vec();
    move |at| http(at, vec![to_cluster("/", "up")], &clusters)
}

async fn status(mesh: &Mesh) -> String {
    let (head, body) = Client::new(mesh.connect().await).get("/").await;
    format!("{} {body}", &head[9..12])
}

#[tokio::test]
async fn an_endpoint_is_believed_only_with_the_right_certificate() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let cases = [
        ("right", authority.leaf(NAME), "200"),
        ("of another authority", other.leaf(NAME), "503"),
        ("for another name", authority.leaf("other.example.com"), "503"),
        ("for all names of the domain", authority.leaf("*.example.com"), "200"),
        ("expired", authority.expired(NAME), "503"),
    ];
    for (what, leaf, expected) in cases {
        let (at, seen) = tls_server(server_config(&leaf, &[]), |_| (OK, Then::Stay)).await;
        let up = over_tls(static_cluster("up", &[at]), &trusting_for(&authority.pem, NAME));
        let mesh = Mesh::start(1, to(&[up])).await;
        let answer = status(&mesh).await;
        assert!(answer.starts_with(expected), "{what}: {answer}");
        assert_eq!(seen.heads.lock().unwrap().len(), usize::from(expected == "200"), "{what}");
        if expected == "503" {
            assert!(answer.contains("TLS"), "the reason is named: {answer}");
        }
    }
}

#[tokio::test]
async fn the_requests_host_is_asked_for_and_checked_where_it_is_wanted() {
    let authority = Authority::new("root");
    let (at, seen) = tls_server(server_config(&authority.leaf("test"), &[]), |_| (OK, Then::Stay)).await;
    let mut context = trusting_for(&authority.pem, "unused");
    context.sni.clear();
    context.common_tls_context =
        Some(validated_by(tls::CommonTlsContext::default(), trusting(&authority.pem)));
    let names =
        core::UpstreamHttpProtocolOptions { auto_sni: true, auto_san_validation: true, ..Default::default() };
    let with = up::HttpProtocolOptions { upstream_http_protocol_options: Some(names), ..Default::default() };
    let up = options(&with, over_tls(static_cluster("up", &[at]), &context));
    let mesh = Mesh::start(1, to(&[up])).await;
    let mut client = Client::new(mesh.connect().await);
    for (host, expected) in [("test", "200"), ("test:80", "200"), ("toast", "503"), ("test", "200")] {
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let (head, _) = client.response().await;
        assert!(head.contains(expected), "{host}: {head}");
    }
    assert_eq!(
        seen.sessions.load(Ordering::Relaxed),
        1,
        "the connection for a name is used again for it alone"
    );
}

#[tokio::test]
async fn without_its_secret_nothing_reaches_the_endpoint() {
    let authority = Authority::new("root");
    let plain = Backend::named("clear").await;
    let mut context = trusting_for(&authority.pem, NAME);
    context.common_tls_context.as_mut().unwrap().tls_certificate_sds_secret_configs = vec![sds("client")];
    let up = over_tls(static_cluster("up", &[plain.address]), &context);
    let mesh = Mesh::start(1, to(&[up])).await;
    assert!(status(&mesh).await.starts_with("503"));
    assert_eq!(*plain.connections.lock().unwrap(), 0);
    let dump = String::from_utf8(mesh.admin("GET", "/config_dump").await).unwrap();
    assert!(dump.contains("its endpoints are not reached: the secret client has not come"), "{dump}");
}

#[tokio::test]
async fn a_changed_secret_means_new_connections_and_no_failure() {
    let authority = Authority::new("root");
    let (at, seen) = tls_server(server_config(&authority.leaf(NAME), &[]), |_| (OK, Then::Stay)).await;
    let mut context = trusting_for(&authority.pem, NAME);
    context.common_tls_context.as_mut().unwrap().tls_certificate_sds_secret_configs = vec![sds("client")];
    let up = over_tls(static_cluster("up", &[at]), &context);
    let all = to(&[up]);
    let with = |here| [all(here), vec![authority.leaf("spiffe://mesh/client").secret("client")]].concat();
    let mesh = Mesh::start(1, with).await;
    let mut client = Client::new(mesh.connect().await);
    for round in 1..4 {
        for _ in 0..5 {
            assert!(client.get("/").await.0.contains("200"));
        }
        assert_eq!(seen.sessions.load(Ordering::Relaxed), round);
        let before = mesh.proxy.snapshot().generation;
        mesh.publish(with(mesh.address));
        mesh.until(|proxy| proxy.snapshot().generation > before).await;
    }
}

#[tokio::test]
async fn a_response_that_is_cut_is_told_from_one_that_ends() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    let authority = Authority::new("root");
    for (then, whole) in [(Then::End, true), (Then::Cut, false)] {
        let (at, _) = tls_server(server_config(&authority.leaf(NAME), &[]), move |_| (ENDLESS, then)).await;
        let up = over_tls(static_cluster("up", &[at]), &trusting_for(&authority.pem, NAME));
        let mesh = Mesh::start(1, to(&[up])).await;
        let mut client = Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let all = client.until("\r\n0\r\n\r\n").await;
        assert_eq!(all.ends_with("\r\n0\r\n\r\n"), whole, "{all}");
        assert!(all.contains("until the end"), "{all}");
    }
}

#[tokio::test]
async fn a_connection_that_its_peer_has_ended_is_not_used_again() {
    let authority = Authority::new("root");
    let (at, seen) = tls_server(server_config(&authority.leaf(NAME), &[]), |_| (OK, Then::End)).await;
    let up = over_tls(static_cluster("up", &[at]), &trusting_for(&authority.pem, NAME));
    let mesh = Mesh::start(1, to(&[up])).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..20 {
        let (head, _) = client.get("/").await;
        assert!(head.contains("200"), "{head}");
    }
    assert_eq!(seen.heads.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn alpn_decides_where_the_endpoint_may() {
    let authority = Authority::new("root");
    let context = trusting_for(&authority.pem, NAME);
    // HTTP/1.1 alone, and nothing at all.
    for protocols in [&["http/1.1"][..], &[]] {
        let (at, seen) =
            tls_server(server_config(&authority.leaf(NAME), protocols), |_| (OK, Then::Stay)).await;
        let up = automatic(over_tls(static_cluster("up", &[at]), &context));
        let mesh = Mesh::start(1, to(&[up])).await;
        let mut client = Client::new(mesh.connect().await);
        for _ in 0..3 {
            assert!(client.get("/").await.0.contains("200"));
        }
        assert_eq!(seen.sessions.load(Ordering::Relaxed), 1);
        // HTTP/2 alone is not agreed to there.
        let up = http2(over_tls(static_cluster("up", &[at]), &context));
        let mesh = Mesh::start(1, to(&[up])).await;
        assert!(status(&mesh).await.starts_with("503"));
        assert_eq!(seen.heads.lock().unwrap().len(), 3);
    }
    // HTTP/2.
    let at = h2_server(server_config(&authority.leaf(NAME), &["h2", "http/1.1"])).await;
    for up in [automatic, http2] {
        let up = up(over_tls(static_cluster("up", &[at]), &context));
        let mesh = Mesh::start(1, to(&[up])).await;
        let mut client = Client::new(mesh.connect().await);
        for _ in 0..3 {
            let (head, _) = client.get("/").await;
            assert!(head.contains("200") && head.contains("x-version: HTTP/2.0"), "{head}");
        }
    }
}

/// Answers over HTTP/2 with the version, the body, and a trailer for gRPC.
async fn h2_server(config: Arc<rustls::ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let version = format!("{:?}", request.version());
                        let mut body = request.into_body();
                        let response =
                            ::http::Response::builder().header("x-version", version).body(()).unwrap();
                        let mut send = respond.send_response(response, false).unwrap();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                            send.send_data(data, false).unwrap();
                        }
                        let mut trailers = ::http::HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        send.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

fn metadata(pairs: &[(&str, &str)]) -> Struct {
    let field = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    Struct { fields: pairs.iter().map(|(name, text)| ((*name).to_owned(), field(text))).collect() }
}

#[tokio::test]
async fn endpoints_are_reached_as_they_are_described() {
    let authority = Authority::new("root");
    let (secure, seen) = tls_server(server_config(&authority.leaf(NAME), &[]), |_| (OK, Then::Stay)).await;
    let plain = Backend::named("in the clear").await;
    let mut up = static_cluster("up", &[secure, plain.address]);
    let endpoint = &mut up.load_assignment.as_mut().unwrap().endpoints[0].lb_endpoints[0];
    endpoint.metadata = Some(core::Metadata {
        filter_metadata: [("envoy.transport_socket_match".to_owned(), metadata(&[("tlsMode", "istio")]))]
            .into(),
        ..Default::default()
    });
    up.transport_socket_matches = vec![
        cluster::cluster::TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(metadata(&[("tlsMode", "istio")])),
            transport_socket: socket("UpstreamTlsContext", &trusting_for(&authority.pem, NAME)),
        },
        cluster::cluster::TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(core::TransportSocket {
                name: "envoy.transport_sockets.raw_buffer".to_owned(),
                config_type: Some(core::transport_socket::ConfigType::TypedConfig(kit::any(
                    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
                    &Struct::default(),
                ))),
            }),
        },
    ];
    let mesh = Mesh::start(1, to(&[up])).await;
    let mut client = Client::new(mesh.connect().await);
    for _ in 0..10 {
        assert!(client.get("/").await.0.contains("200"));
    }
    assert_eq!(seen.heads.lock().unwrap().len(), 5);
    assert_eq!(plain.heads().len(), 5);
}

#[tokio::test]
async fn nginx_takes_name_client_certificate_and_session() {
    let Some(program) = find("nginx") else { return };
    for version in ["TLSv1.2", "TLSv1.3"] {
        nginx_takes(&program, version).await;
    }
}

async fn nginx_takes(program: &std::path::Path, version: &str) {
    let (folder, authority) = (Folder::new(), Authority::new("root"));
    let (chain, key) = authority.leaf(NAME).write(&folder.0, "server");
    std::fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
    let port = heddle_runtime::free_port([127, 0, 0, 1].into()).unwrap();
    let dir = folder.0.display();
    let conf = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}} http {{ access_log off;\n\
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; keepalive_requests 1;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
         ssl_client_certificate {dir}/ca.pem; ssl_verify_client on; ssl_session_cache shared:a:1m; ssl_protocols {version};\n\
         location / {{ return 200 \"$ssl_server_name|$ssl_client_s_dn|$ssl_session_reused|$ssl_protocol\"; }} }} }}",
        chain.display(),
        key.display(),
    );
    std::fs::write(folder.0.join("nginx.conf"), conf).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder.0).arg("-c").arg(folder.0.join("nginx.conf"));
    let _nginx = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    while TcpStream::connect(at).await.is_err() {
        tokio::task::yield_now().await;
    }
    let mut context = trusting_for(&authority.pem, NAME);
    let common = context.common_tls_context.as_mut().unwrap();
    common.tls_certificates = vec![authority.leaf("client.example.com").certificate()];
    let up = over_tls(static_cluster("up", &[at]), &context);
    let mesh = Mesh::start(1, to(&[up])).await;
    let mut client = Client::new(mesh.connect().await);
    for round in 0..3 {
        let (head, body) = client.get("/").await;
        assert!(head.contains("200"), "{head}{body}");
        let fields: Vec<&str> = body.split('|').collect();
        assert_eq!(fields[0], NAME);
        assert!(fields[1].contains("CN=client.example.com"), "{body}");
        assert_eq!(fields[2], if round == 0 { "." } else { "r" }, "{body}");
        assert_eq!(fields[3], version);
    }
}

/// A client over TLS.
async fn tls_client(
    at: SocketAddr,
    root: &str,
    protocols: &[&str],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(root.as_bytes()).map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("front.example.com").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn bytes_pass_over_tls_on_both_sides() {
    let authority = Authority::new("root");
    // An echo that ends when its client has.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(&authority.leaf(NAME), &[]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(acceptor.accept(stream).await.unwrap());
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    let up = over_tls(static_cluster("up", &[at]), &trusting_for(&authority.pem, NAME));
    let context = downstream(presenting(&authority.leaf("front.example.com")));
    let mesh = Mesh::start(1, |here| {
        vec![encoded_listener(&secured(here, kit::tcp_filter("up"), &context)), encoded_cluster(&up)]
    })
    .await;
    let stream = tls_client(mesh.address, &authority.pem, &[]).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        for part in sent.chunks(33_333) {
            write.write_all(part).await.unwrap();
        }
        write.shutdown().await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut got = Vec::new();
    // An end without close_notify would be an error here.
    read.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
}

#[tokio::test]
async fn grpc_and_upgrades_pass_over_tls_on_both_sides() {
    let authority = Authority::new("root");
    let mut common = presenting(&authority.leaf("front.example.com"));
    common.alpn_protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let context = downstream(common);
    let at = h2_server(server_config(&authority.leaf(NAME), &["h2"])).await;
    let (switching, _) = tls_server(server_config(&authority.leaf(NAME), &["http/1.1"]), |_| {
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            Then::End,
        )
    })
    .await;
    let trust = trusting_for(&authority.pem, NAME);
    let clusters = [
        http2(over_tls(static_cluster("grpc", &[at]), &trust)),
        over_tls(static_cluster("ws", &[switching]), &trust),
    ];
    let manager = kit::connection_manager(vec![to_cluster("/ws", "ws"), to_cluster("/", "grpc")]);
    let mesh = Mesh::start(1, |here| {
        let listener = encoded_listener(&secured(here, kit::http_filter(&manager), &context));
        clusters.iter().map(encoded_cluster).chain([listener]).collect()
    })
    .await;
    let stream = tls_client(mesh.address, &authority.pem, &["h2"]).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    let mut client = client.ready().await.unwrap();
    let request = ::http::Request::post("https://front.example.com/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    let payload = vec![7_u8; 400_000];
    let mut rest = bytes::Bytes::from(payload.clone());
    tokio::spawn(async move {
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
            send.send_data(rest.split_to(capacity.min(rest.len())), false).unwrap();
        }
        send.send_data(bytes::Bytes::new(), true).unwrap();
    });
    let mut body = response.await.unwrap().into_body();
    let mut got = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        got.extend_from_slice(&data);
    }
    assert!(got == payload);
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    let mut stream = tls_client(mesh.address, &authority.pem, &["http/1.1"]).await;
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8(all).unwrap();
    assert!(all.starts_with("HTTP/1.1 101") && all.ends_with("\r\n\r\nhello"), "{all}");
}
