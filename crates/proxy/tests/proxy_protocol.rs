//! The PROXY protocol in and out, with HAProxy and curl at the other end.

mod kit;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::google::protobuf::{BoolValue, Duration as PbDuration, UInt32Value};
use heddle_xds::Encoded;
use kit::backend::{Backend, Client};
use kit::{Mesh, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f\xc0\x00\x02\x07\xc6\x33\x64\x01\x04\xd2\x01\xbb\x04\x00\x00";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

fn reading(filter: &ProxyProtocol) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: "envoy.filters.listener.proxy_protocol".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(kit::any(
            "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
            filter,
        ))),
        ..Default::default()
    }
}

/// An HTTP listener that expects a header, in front of `up`, which is told of the client by `x-forwarded-for`.
fn web(at: SocketAddr, up: SocketAddr, change: impl Fn(&mut listener::Listener)) -> Vec<Arc<Encoded>> {
    let mut manager = kit::connection_manager(vec![to_cluster("/", "up")]);
    manager.use_remote_address = Some(BoolValue { value: true });
    let mut made = kit::listener("test", at, kit::http_filter(&manager));
    change(&mut made);
    vec![kit::encoded_listener(&made), kit::encoded_cluster(&static_cluster("up", &[up]))]
}

fn telling(mut cluster: cluster::Cluster, version: core::proxy_protocol_config::Version) -> cluster::Cluster {
    let url = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    let transport = ProxyProtocolUpstreamTransport {
        config: Some(core::ProxyProtocolConfig { version: version.into(), ..Default::default() }),
        transport_socket: Some(core::TransportSocket {
            name: "envoy.transport_sockets.raw_buffer".to_owned(),
            config_type: None,
        }),
        ..Default::default()
    };
    cluster.transport_socket = Some(core::TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(kit::any(url, &transport))),
    });
    cluster
}

/// What the backend was told of the client, or nothing when the connection was closed instead.
async fn forwarded_for(mesh: &Mesh, backend: &Backend, header: &[u8]) -> Option<String> {
    let before = backend.heads().len();
    let mut stream = mesh.connect().await;
    // In two pieces: a header that is not whole is waited for.
    let (one, two) = header.split_at(header.len() / 2);
    stream.write_all(one).await.unwrap();
    tokio::task::yield_now().await;
    let mut answer = String::new();
    let rest = [two, GET].concat();
    let exchanged = async {
        stream.write_all(&rest).await?;
        stream.read_to_string(&mut answer).await
    };
    if exchanged.await.is_err() || !answer.starts_with("HTTP/1.1 200") {
        assert_eq!(backend.heads().len(), before, "{answer}");
        return None;
    }
    let head = backend.heads().pop().unwrap().to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: ").map(ToOwned::to_owned))
}

#[tokio::test]
async fn the_client_is_who_the_header_says() {
    use core::proxy_protocol_config::Version;
    let backend = Backend::named("up").await;
    let start = async |filter: ProxyProtocol| {
        Mesh::start(1, |at| web(at, backend.address, |made| made.listener_filters = vec![reading(&filter)]))
            .await
    };
    let told = Some("192.0.2.7".to_owned());
    let mesh = start(ProxyProtocol::default()).await;
    let own = forwarded_for(&mesh, &backend, LOCAL).await;
    assert!(own.is_some() && own != told, "{own:?}");
    assert_eq!(forwarded_for(&mesh, &backend, V1).await, told);
    assert_eq!(forwarded_for(&mesh, &backend, V2).await, told);
    assert_eq!(forwarded_for(&mesh, &backend, b"PROXY UNKNOWN\r\n").await, own);
    assert_eq!(forwarded_for(&mesh, &backend, b"").await, None, "a header is required");
    assert_eq!(forwarded_for(&mesh, &backend, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n").await, None);
    // Where it may be left out.
    let mesh = start(ProxyProtocol {
        allow_requests_without_proxy_protocol: true,
        disallowed_versions: vec![Version::V1.into()],
        ..Default::default()
    })
    .await;
    assert_eq!(forwarded_for(&mesh, &backend, b"").await, own);
    assert_eq!(forwarded_for(&mesh, &backend, V2).await, told);
    // A line of version 1 is no header there, and no request either.
    assert_eq!(forwarded_for(&mesh, &backend, V1).await, None);
    // The older setting.
    let mesh = Mesh::start(1, |at| {
        #[expect(deprecated, reason = "what is tested")]
        web(at, backend.address, |made| {
            made.filter_chains[0].use_proxy_proto = Some(BoolValue { value: true });
        })
    })
    .await;
    assert_eq!(forwarded_for(&mesh, &backend, V1).await, told);
    assert_eq!(forwarded_for(&mesh, &backend, b"").await, None);
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for_forever() {
    let backend = Backend::named("up").await;
    let mesh = Mesh::start(1, |at| {
        web(at, backend.address, |made| {
            made.listener_filters = vec![reading(&ProxyProtocol::default())];
            made.listener_filters_timeout = Some(PbDuration { seconds: 0, nanos: 1_000_000 });
            made.continue_on_listener_filters_timeout = true;
        })
    })
    .await;
    let mut stream = mesh.connect().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

/// Chains are matched by the address that was told, and by that of the socket where it is asked for.
#[tokio::test]
async fn both_addresses_choose_the_chain() {
    let (inside, outside) = (Backend::named("inside").await, Backend::named("outside").await);
    let range = |prefix: &str, len: u32| core::CidrRange {
        address_prefix: prefix.to_owned(),
        prefix_len: Some(UInt32Value { value: len }),
    };
    let mesh = Mesh::start(1, |at| {
        let mut made = kit::listener("tcp", at, kit::tcp_filter("inside"));
        made.filter_chains[0].filter_chain_match = Some(listener::FilterChainMatch {
            source_prefix_ranges: vec![range("192.0.2.0", 24)],
            direct_source_prefix_ranges: vec![range("127.0.0.0", 8)],
            destination_port: Some(UInt32Value { value: 443 }),
            ..Default::default()
        });
        made.default_filter_chain =
            Some(listener::FilterChain { filters: vec![kit::tcp_filter("outside")], ..Default::default() });
        made.listener_filters = vec![reading(&ProxyProtocol::default())];
        vec![
            kit::encoded_listener(&made),
            kit::encoded_cluster(&static_cluster("inside", &[inside.address])),
            kit::encoded_cluster(&static_cluster("outside", &[outside.address])),
        ]
    })
    .await;
    for (header, expected) in [(V1, "inside"), (V2, "inside"), (LOCAL, "outside")] {
        let mut client = Client::new(mesh.connect().await);
        client.stream.write_all(header).await.unwrap();
        assert_eq!(client.get("/").await.1, expected);
    }
}

/// A server that greets with the first bytes it gets; version 1 ends with its line, version 2 where it says.
async fn header_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 256];
                let len = stream.read(&mut first).await.unwrap();
                stream.write_all(&first[..len]).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    address
}

/// A server that waits for its header is told, although the client says nothing.
#[tokio::test]
async fn endpoints_are_told_of_the_client() {
    use core::proxy_protocol_config::Version;
    let at = header_echo().await;
    for version in [Version::V1, Version::V2] {
        let mesh = Mesh::start(1, |here| {
            let made = kit::listener("tcp", here, kit::tcp_filter("up"));
            vec![
                kit::encoded_listener(&made),
                kit::encoded_cluster(&telling(static_cluster("up", &[at]), version)),
            ]
        })
        .await;
        let mut stream = mesh.connect().await;
        let (own, proxy) = (stream.local_addr().unwrap(), mesh.address);
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.unwrap();
        let expected = match version {
            Version::V1 => {
                format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), proxy.port()).into_bytes()
            }
            Version::V2 => [
                &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..],
                &Ipv4Addr::LOCALHOST.octets(),
                &Ipv4Addr::LOCALHOST.octets(),
                &own.port().to_be_bytes(),
                &proxy.port().to_be_bytes(),
            ]
            .concat(),
        };
        assert_eq!(told, expected);
    }
}

/// HAProxy between and behind: it writes the header that we read, and reads the one that we write.
#[tokio::test]
async fn haproxy_and_heddle_understand_each_other() {
    use core::proxy_protocol_config::Version;
    let Some(haproxy) = kit::peer::find("haproxy") else { return };
    let backend = Backend::named("up").await;
    let dir = kit::peer::Folder::new();
    for (send, version) in [("send-proxy", Version::V1), ("send-proxy-v2", Version::V2)] {
        let port = || heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (front, back) = (port(), port());
        // client -> HAProxy (front) -> heddle -> HAProxy (back) -> backend
        let behind = SocketAddr::from(([127, 0, 0, 1], back));
        let mesh = Mesh::start(1, |at| {
            let mut manager = kit::connection_manager(vec![to_cluster("/", "up")]);
            manager.use_remote_address = Some(BoolValue { value: true });
            let mut made = kit::listener("test", at, kit::http_filter(&manager));
            made.listener_filters = vec![reading(&ProxyProtocol::default())];
            vec![
                kit::encoded_listener(&made),
                kit::encoded_cluster(&telling(static_cluster("up", &[behind]), version)),
            ]
        })
        .await;
        let config = dir.0.join(format!("{send}.cfg"));
        let text = format!(
            "global\n nbthread 1\ndefaults\n mode http\n timeout client 30s\n timeout server 30s\n timeout connect 5s\n\
             listen front\n mode tcp\n bind 127.0.0.1:{front}\n server heddle {} {send}\n\
             listen back\n bind 127.0.0.1:{back} accept-proxy\n http-request set-header x-seen %[src]:%[src_port]\n \
             server up {}\n",
            mesh.address, backend.address
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(&haproxy);
        command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let _running = kit::peer::Running(command.spawn().unwrap());
        let clients = async || loop {
            match TcpStream::connect(("127.0.0.1", front)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        // Two clients at once, two requests each: each is seen as itself.
        let (one, two) = (clients().await, clients().await);
        let own = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let mut clients = [Client::new(one), Client::new(two)];
        for _ in 0..2 {
            for (client, own) in clients.iter_mut().zip(own) {
                assert_eq!(client.get("/").await.1, "up");
                let head = backend.heads().pop().unwrap().to_ascii_lowercase();
                assert!(head.contains(&format!("x-seen: {own}\r\n")), "{send}: {head} is for {own}");
            }
        }
    }
}

#[tokio::test]
async fn curl_introduces_itself() {
    let Some(curl) = kit::peer::find("curl") else { return };
    let backend = Backend::named("up").await;
    let mesh = Mesh::start(1, |at| {
        web(at, backend.address, |made| made.listener_filters = vec![reading(&ProxyProtocol::default())])
    })
    .await;
    let mut command = Command::new(curl);
    command.args(["-sS", "--max-time", "20", "--haproxy-protocol", &format!("http://{}/", mesh.address)]);
    assert_eq!(kit::peer::output(command).await, "up");
}
