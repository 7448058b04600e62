//! What a proxy holds for connections that wait for their next request.

mod kit;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as route;
use kit::Mesh;
use kit::tls::Authority;
use tokio_rustls::rustls;

/// What the program runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections whose growth is measured.
const PLAIN: usize = 3000;
const SECURE: usize = 300;
/// Connections before that: what is kept for those to come is there then.
const FIRST: usize = 100;

/// Bytes that this process holds for itself.
fn held() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = smaps.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Asks once and gets the answer.
fn ask(mut through: impl Read + Write) {
    through.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    let len = through.read(&mut answer).unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer[..len]));
}

/// Connections that have asked once each; of a client's side of TLS nothing is kept.
fn rest(count: usize, at: SocketAddr, tls: Option<&Arc<rustls::ClientConfig>>) -> Vec<TcpStream> {
    let mut resting = Vec::with_capacity(count);
    resting.extend((0..count).map(|_| {
        let mut socket = TcpStream::connect(at).unwrap();
        match tls {
            Some(config) => {
                let name = "bench.test".try_into().unwrap();
                let mut session = rustls::ClientConnection::new(config.clone(), name).unwrap();
                ask(rustls::Stream::new(&mut session, &mut socket));
            }
            None => ask(&socket),
        }
        socket
    }));
    resting
}

/// Bytes that one more resting connection costs.
fn growth(count: usize, at: SocketAddr, tls: Option<&Arc<rustls::ClientConfig>>) -> usize {
    let _first = rest(FIRST, at, tls);
    let before = held();
    let _resting = rest(count, at, tls);
    held().saturating_sub(before) / count
}

fn manager() -> kit::Manager {
    let answer = route::DirectResponseAction { status: 204, ..Default::default() };
    let mut everything = kit::to_cluster("/", "none");
    everything.action = Some(route::route::Action::DirectResponse(answer));
    kit::connection_manager(vec![everything])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resting_connection_holds_little() {
    heddle_runtime::raise_open_files();
    let authority = Authority::new("at rest");
    let leaf = authority.leaf("bench.test");
    let secure = heddle_runtime::free_port([127, 0, 0, 1].into()).unwrap();
    let secure = SocketAddr::from(([127, 0, 0, 1], secure));
    let mesh = Mesh::start(1, |at| {
        let context = kit::tls::downstream(kit::tls::presenting(&leaf));
        let mut tls = kit::tls::secured(secure, kit::http_filter(&manager()), &context);
        "tls".clone_into(&mut tls.name);
        let plain = kit::listener("plain", at, kit::http_filter(&manager()));
        [plain, tls].iter().map(kit::encoded_listener).collect()
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let (at, config) = (mesh.address, Arc::new(config));
    let measured =
        tokio::task::spawn_blocking(move || (growth(PLAIN, at, None), growth(SECURE, secure, Some(&config))));
    let (plain, tls) = measured.await.unwrap();
    println!("{plain} bytes, {tls} over TLS");
    assert!(plain <= 1300, "{plain} bytes for a connection of HTTP/1.1");
    assert!(tls <= 4000, "{tls} bytes for one over TLS");
}
