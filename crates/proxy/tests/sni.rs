//! Filter chains chosen by what a TLS client says, and its bytes passed on untouched.

mod kit;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf::{Duration as PbDuration, UInt32Value};
use heddle_xds::Encoded;
use kit::Mesh;
use kit::backend::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that names itself to whoever has spoken, and echoes.
async fn named_echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 4096];
                let len = stream.read(&mut first).await?;
                stream.write_all(name.as_bytes()).await?;
                stream.write_all(&first[..len]).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

/// A chain that passes bytes to a cluster.
fn chain(cluster: &str, matches: listener::FilterChainMatch) -> listener::FilterChain {
    listener::FilterChain {
        name: cluster.to_owned(),
        filter_chain_match: Some(matches),
        filters: vec![kit::tcp_filter(cluster)],
        ..Default::default()
    }
}

fn tls(names: &[&str], protocols: &[&str]) -> listener::FilterChainMatch {
    listener::FilterChainMatch {
        server_names: names.iter().map(ToString::to_string).collect(),
        application_protocols: protocols.iter().map(ToString::to_string).collect(),
        transport_protocol: "tls".to_owned(),
        ..Default::default()
    }
}

fn inspecting(
    at: SocketAddr,
    chains: Vec<listener::FilterChain>,
    inspector: &TlsInspector,
) -> listener::Listener {
    let mut out = kit::listener("sni", at, kit::tcp_filter("unused"));
    out.filter_chains = chains;
    out.listener_filters = vec![listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(kit::any(
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            inspector,
        ))),
        ..Default::default()
    }];
    out
}

fn clusters(at: &[(&str, SocketAddr)]) -> Vec<Arc<Encoded>> {
    at.iter().map(|(name, at)| kit::encoded_cluster(&kit::static_cluster(name, &[*at]))).collect()
}

/// A ClientHello in records of at most `size` bytes.
fn hello(name: &str, protocols: &[&str], padding: usize, size: usize) -> Vec<u8> {
    let short = |content: &[u8]| [&(content.len() as u16).to_be_bytes()[..], content].concat();
    let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &short(content)].concat();
    let mut extensions = extension(21, &vec![0; padding]);
    if !name.is_empty() {
        extensions.extend(extension(0, &short(&[&[0][..], &short(name.as_bytes())].concat())));
    }
    if !protocols.is_empty() {
        let list: Vec<u8> =
            protocols.iter().flat_map(|p| [&[p.len() as u8][..], p.as_bytes()].concat()).collect();
        extensions.extend(extension(16, &short(&list)));
    }
    let body = [&[3; 34][..], &[0, 0, 2, 0x13, 1, 1, 0], &short(&extensions)].concat();
    let len = (body.len() as u32).to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]][..], &body].concat();
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &short(part)].concat()).collect()
}

#[tokio::test]
async fn the_name_and_the_protocols_of_a_hello_choose_the_chain() {
    let names = ["exact", "suffix", "longer", "h2", "any-tls", "plain"];
    let mut at = Vec::new();
    for name in names {
        at.push((name, named_echo(name).await));
    }
    let mesh = Mesh::start(1, |here| {
        let chains = vec![
            chain("any-tls", tls(&[], &[])),
            chain("suffix", tls(&["*.example.com"], &[])),
            chain("longer", tls(&["*.b.example.com"], &[])),
            chain("exact", tls(&["a.example.com", "A2.example.com"], &[])),
            chain("h2", tls(&["*.example.com"], &["h2"])),
            chain("plain", listener::FilterChainMatch::default()),
        ];
        let mut all = clusters(&at);
        all.push(kit::encoded_listener(&inspecting(here, chains, &TlsInspector::default())));
        all
    })
    .await;
    let rows: [(Vec<u8>, &str); 11] = [
        (hello("a.example.com", &["h2"], 0, 16384), "exact"),
        (hello("a2.EXAMPLE.com", &[], 0, 16384), "exact"),
        (hello("c.example.com", &["http/1.1"], 0, 16384), "suffix"),
        (hello("c.example.com", &["http/1.1", "h2"], 0, 16384), "h2"),
        (hello("x.b.example.com", &["h2"], 0, 16384), "longer"),
        (hello("example.com", &[], 0, 16384), "any-tls"),
        (hello("", &["h2"], 0, 16384), "any-tls"),
        (hello("a.example.com", &[], 3000, 64), "exact"),
        (b"POST / HTTP/1.1\r\n".to_vec(), "plain"),
        // How Postgres asks for TLS.
        (vec![0, 0, 0, 8, 4, 210, 22, 47], "plain"),
        (vec![22, 3, 1, 0, 5, 2, 0, 0, 1, 0], "plain"),
    ];
    for (bytes, expected) in &rows {
        let mut client = Client::new(mesh.connect().await);
        client.stream.write_all(bytes).await.unwrap();
        let mut answer = vec![0; expected.len() + bytes.len().min(4096)];
        client.stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..expected.len()]), *expected, "{bytes:?}");
        assert_eq!(answer[expected.len()..], bytes[..bytes.len().min(4096)], "nothing was touched");
    }
    // A hello in small segments, each on its way before the next is sent.
    let bytes = hello("a.example.com", &[], 200, 100);
    let mut client = Client::new(mesh.connect().await);
    client.stream.set_nodelay(true).unwrap();
    for piece in bytes.chunks(7) {
        client.stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = vec![0; 5 + bytes.len()];
    client.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((&answer[..5], &answer[5..]), (&b"exact"[..], &bytes[..]));
}

/// The endpoint of the plain chain is dialled at once, as everywhere; what it says comes too late.
#[tokio::test]
async fn a_client_that_began_with_tls_has_spoken_first() {
    let greeter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = [("plain", greeter.local_addr().unwrap()), ("tls", named_echo("tls").await)];
    let mesh = Mesh::start(1, |here| {
        let chains =
            vec![chain("plain", listener::FilterChainMatch::default()), chain("tls", tls(&["a.b"], &[]))];
        let listener = inspecting(here, chains, &TlsInspector::default());
        [clusters(&at), vec![kit::encoded_listener(&listener)]].concat()
    })
    .await;
    let bytes = hello("a.b", &[], 0, 16384);
    let mut client = Client::new(mesh.connect().await);
    client.stream.write_all(&bytes[..3]).await.unwrap();
    let (mut server, _) = greeter.accept().await.unwrap();
    server.write_all(b"220 welcome").await.unwrap();
    let silent = tokio::time::timeout(std::time::Duration::from_millis(50), client.stream.readable());
    assert!(silent.await.is_err(), "nothing comes before the hello is whole");
    client.stream.write_all(&bytes[3..]).await.unwrap();
    client.expect("tls").await;
}

#[tokio::test]
async fn what_is_no_hello_or_too_large_a_one_is_closed_where_asked() {
    let up = named_echo("up").await;
    let start = async |inspector: TlsInspector, change: fn(&mut listener::Listener)| {
        Mesh::start(1, |here| {
            let chains = vec![chain("up", listener::FilterChainMatch::default())];
            let mut made = inspecting(here, chains, &inspector);
            change(&mut made);
            [clusters(&[("up", up)]), vec![kit::encoded_listener(&made)]].concat()
        })
        .await
    };
    // What comes back of these bytes: nothing when the connection is closed.
    let answer = async |mesh: &Mesh, bytes: &[u8]| {
        let mut client = Client::new(mesh.connect().await);
        client.stream.write_all(bytes).await.unwrap();
        let mut two = [0; 2];
        client.stream.read_exact(&mut two).await.is_ok()
    };
    let only = TlsInspector {
        max_client_hello_size: Some(UInt32Value { value: 1000 }),
        close_connection_on_client_hello_parsing_errors: true,
        ..Default::default()
    };
    let mesh = start(only, |_| {}).await;
    assert!(answer(&mesh, &hello("a.b", &[], 500, 16384)).await);
    assert!(!answer(&mesh, &hello("a.b", &[], 1000, 16384)).await, "larger than allowed");
    assert!(!answer(&mesh, b"GET / HTTP/1.1\r\n\r\n").await, "no TLS");
    let mesh = start(TlsInspector::default(), |_| {}).await;
    assert!(answer(&mesh, &hello("a.b", &[], 15_000, 16384)).await);
    assert!(!answer(&mesh, &hello("a.b", &[], 17_000, 16384)).await, "16 KiB are the default");
    assert!(answer(&mesh, b"GET / HTTP/1.1\r\n\r\n").await);
    // A hello that does not come: closed in time, or served as what it is not.
    const SOON: PbDuration = PbDuration { seconds: 0, nanos: 1_000_000 };
    let mesh = start(TlsInspector::default(), |made| made.listener_filters_timeout = Some(SOON)).await;
    assert!(!answer(&mesh, &[22, 3, 1]).await);
    let mesh = start(TlsInspector::default(), |made| {
        made.listener_filters_timeout = Some(SOON);
        made.continue_on_listener_filters_timeout = true;
    })
    .await;
    assert!(answer(&mesh, &[22, 3, 1]).await);
}

#[tokio::test]
async fn tls_passes_through_to_the_server_that_is_named() {
    let (Some(curl), Some(openssl)) = (kit::peer::find("curl"), kit::peer::find("openssl")) else { return };
    let dir = kit::peer::Folder::new();
    let names = ["one.test", "two.test"];
    let certificates = names.map(|name| kit::peer::certificate(&openssl, &dir.0, name));
    let servers = certificates.each_ref().map(|certificate| kit::peer::tls_server(&openssl, certificate));
    let mesh = Mesh::start(1, |here| {
        let chains = names.map(|name| chain(name, tls(&[name], &[])));
        let mut all = clusters(&[(names[0], servers[0].1), (names[1], servers[1].1)]);
        all.push(kit::encoded_listener(&inspecting(here, chains.to_vec(), &TlsInspector::default())));
        all
    })
    .await;
    let port = mesh.address.port();
    for (name, certificate) in names.iter().zip(&certificates) {
        for most in ["1.3", "1.2"] {
            let mut command = Command::new(&curl);
            command.args(["-sS", "--max-time", "20", "--resolve", &format!("{name}:{port}:127.0.0.1")]);
            command.args(["--tls-max", most]);
            // Only the certificate of the server that was meant is trusted.
            command.arg("--cacert").arg(certificate).arg(format!("https://{name}:{port}/"));
            let page = kit::peer::output(command).await;
            assert!(page.contains("Ciphers supported"), "{page}");
        }
    }
    // Nobody serves another name.
    let mut stranger = Command::new(&curl);
    stranger.args(["-sSk", "--max-time", "20", "--resolve", &format!("three.test:{port}:127.0.0.1")]);
    stranger.arg(format!("https://three.test:{port}/"));
    let output = tokio::task::spawn_blocking(move || stranger.output().unwrap()).await.unwrap();
    assert!(!output.status.success());
}
