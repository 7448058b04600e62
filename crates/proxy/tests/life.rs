//! What must not disturb anybody: changes of configuration, endpoints that go, draining, a control plane that dies.

mod kit;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use heddle_proxy::{Proxy, ProxyConfig};
use heddle_runtime::free_port;
use kit::backend::{Backend, Client, Reply};
use kit::{Mesh, action, http, retries, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Clients that send GETs until told to stop; every answer must be 200. They come again when they are asked to go.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(at: SocketAddr, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let (stop, done) = (stop.clone(), done.clone());
                tokio::spawn(async move {
                    let mut client = None;
                    while !stop.load(Ordering::Relaxed) {
                        let mut open = match client.take() {
                            Some(open) => open,
                            None => Client::new(TcpStream::connect(at).await.unwrap()),
                        };
                        let (head, _) = open.get("/").await;
                        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                        done.fetch_add(1, Ordering::Relaxed);
                        if !head.contains("connection: close") {
                            client = Some(open);
                        }
                    }
                })
            })
            .collect();
        Self { stop, done, clients }
    }

    /// Waits until so many more requests were answered.
    async fn more(&self, count: u64) {
        let until = self.done.load(Ordering::Relaxed) + count;
        while self.done.load(Ordering::Relaxed) < until {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client failed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_fail_no_get() {
    let (one, two) = (Backend::named("one").await, Backend::named("two").await);
    let both = [one.address, two.address];
    let with = |to: &'static [usize]| {
        let to: Vec<_> = to.iter().map(|index| both[*index]).collect();
        move |at| http(at, vec![to_cluster("/", "up")], &[static_cluster("up", &to)])
    };
    let mesh = Mesh::start(2, with(&[0, 1])).await;
    let load = Load::start(mesh.address, 16);
    load.more(200).await;
    for _ in 0..20 {
        mesh.publish(with(&[0])(mesh.address));
        load.more(20).await;
        mesh.publish(with(&[0, 1])(mesh.address));
        load.more(20).await;
        mesh.publish(with(&[1])(mesh.address));
        load.more(20).await;
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_die_fail_no_get() {
    let alive = Backend::named("alive").await;
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST.into()).unwrap()));
    let rude = Backend::start(|_, _, _| Reply::Close).await;
    let up = static_cluster("up", &[alive.address, dead, rude.address]);
    let route = action(to_cluster("/", "up"), |action| {
        action.retry_policy = retries("connect-failure,refused-stream,reset-before-request", 5);
    });
    let mesh = Mesh::start(1, |at| http(at, vec![route.clone()], std::slice::from_ref(&up))).await;
    // Half of what is picked is rude: no more clients than the budget always lets retry at once.
    let load = Load::start(mesh.address, 3);
    load.more(300).await;
    load.end().await;
}

/// A backend that can die as a process does: the listener and all connections at once.
struct Mortal {
    runtime: tokio::runtime::Runtime,
    backend: Backend,
    /// From now on nothing is answered.
    holds: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
}

impl Mortal {
    fn start(at: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (holds, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (hold, count) = (holds.clone(), held.clone());
        let (send, receive) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let backend = Backend::start_at(at, move |_, _, _| {
                if hold.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                    return Reply::Silence;
                }
                "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nmortal".into()
            });
            send.send(backend.await).unwrap();
        });
        Self { runtime, backend: receive.recv().unwrap(), holds, held }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_dies_with_many_requests_in_flight_fails_no_get_and_is_found_again() {
    let alive = Backend::named("alive").await;
    let mortal = Mortal::start("127.0.0.1:0".parse().unwrap());
    let at = mortal.backend.address;
    let up = static_cluster("up", &[alive.address, at]);
    // What the control plane asks for by default.
    let route = action(to_cluster("/", "up"), |action| {
        action.retry_policy = retries("connect-failure,refused-stream,reset-before-request", 2);
    });
    let mesh = Mesh::start(1, |at| http(at, vec![route.clone()], std::slice::from_ref(&up))).await;
    let load = Load::start(mesh.address, 64);
    load.more(500).await;
    mortal.holds.store(true, Ordering::Relaxed);
    let wait = async {
        while mortal.held.load(Ordering::Relaxed) < 16 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("16 in flight on one instance");
    mortal.runtime.shutdown_background();
    load.more(2000).await;
    let again = Mortal::start(at);
    let seen = async {
        while again.backend.heads().is_empty() {
            load.more(10).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("requests come to the one that is back");
    load.end().await;
    again.runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_fails_no_get_and_ends_early() {
    let one = Backend::named("one").await;
    let up = static_cluster("up", &[one.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let idle = mesh.connect().await;
    let load = Load::start(mesh.address, 16);
    load.more(200).await;
    let drain = async {
        mesh.proxy.drain(Some(Duration::from_secs(30))).await;
    };
    let stop = async {
        load.more(200).await;
        load.end().await;
    };
    let start = std::time::Instant::now();
    tokio::join!(drain, stop);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(idle);
}

#[tokio::test]
async fn an_endpoint_that_left_is_forgotten_without_another_request() {
    let one = Backend::named("one").await;
    let leaving = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = leaving.local_addr().unwrap();
    let with =
        |to: Vec<SocketAddr>| move |at| http(at, vec![to_cluster("/", "up")], &[static_cluster("up", &to)]);
    let mesh = Mesh::start(1, with(vec![address])).await;
    let serve = async {
        let mut stream = leaving.accept().await.unwrap().0;
        kit::backend::read_message(&mut stream, &mut Vec::new()).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let mut client = Client::new(mesh.connect().await);
    let ((head, _), mut idle) = tokio::join!(client.get("/"), serve);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    mesh.publish(with(vec![one.address])(mesh.address));
    let (old, new) = (address.to_string(), one.address.to_string());
    loop {
        let page = mesh.admin("GET", "/clusters").await;
        let page = String::from_utf8_lossy(&page).into_owned();
        if page.contains(&new) {
            assert!(!page.contains(&old), "{page}");
            break;
        }
    }
    // Its connection waits for no idle timeout.
    let end = tokio::time::timeout(Duration::from_secs(20), idle.read_u8()).await;
    assert!(end.expect("the idle connection is closed").is_err());
}

#[tokio::test]
async fn a_first_request_that_is_on_its_way_when_a_drain_begins_is_answered() {
    let one = Backend::named("one").await;
    let up = static_cluster("up", &[one.address]);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
    let mut quiet = Client::new(mesh.connect().await);
    let mut busy = Client::new(mesh.connect().await);
    let ask = async {
        // Whoever is asked to go says that the drain has begun.
        while !busy.get("/").await.0.contains("connection: close") {}
        let (head, body) = quiet.get("/").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close"), "{head}");
        assert_eq!(body, "one");
    };
    tokio::join!(mesh.proxy.drain(Some(Duration::from_secs(30))), ask);
}

/// Clients come until one is refused or a hundred have come. Each has to be answered.
fn clients_come(at: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut clients = Vec::new();
        // Who is not heard asks again a second later, and is refused then: nobody waits for that here.
        let connect = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(at));
        while clients.len() < 100
            && let Ok(Ok(stream)) = connect().await
        {
            clients.push(tokio::spawn(async move { Client::new(stream).try_get("/").await }));
        }
        for client in clients {
            let head = client.await.unwrap().expect("nobody who was heard is cut off");
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    })
}

const ROUNDS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_at_the_end_of_a_drain_is_answered_or_refused() {
    let one = Backend::named("one").await;
    let up = static_cluster("up", &[one.address]);
    for _ in 0..ROUNDS {
        let mesh =
            Mesh::start(2, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
        let come = clients_come(mesh.address);
        mesh.proxy.drain(Some(Duration::from_secs(30))).await;
        mesh.proxy.stop().await;
        come.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_as_a_listener_goes_is_answered_or_refused() {
    let one = Backend::named("one").await;
    let up = static_cluster("up", &[one.address]);
    for _ in 0..ROUNDS {
        let mesh =
            Mesh::start(2, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
        let come = clients_come(mesh.address);
        mesh.publish(vec![kit::encoded_cluster(&up)]);
        come.await.unwrap();
        mesh.proxy.stop().await;
    }
}

#[tokio::test]
async fn starts_from_disk_without_a_control_plane() {
    let one = Backend::named("one").await;
    let up = static_cluster("up", &[one.address]);
    let dir = std::env::temp_dir().join(format!("heddle-life-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = {
        let mesh =
            Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&up))).await;
        assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "one");
        mesh.admin("GET", "/config_dump?format=snapshot").await
    };
    let body = file.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    std::fs::write(dir.join("proxy-config.bin"), &file[body..]).unwrap();
    let config = ProxyConfig {
        xds: "http://127.0.0.1:1".to_owned(),
        workers: Some(1),
        data_dir: Some(dir.clone()),
        ..ProxyConfig::default()
    };
    let proxy = Proxy::start(config).await.unwrap();
    let ready = async {
        while !proxy.waiting_for().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("it is ready without a control plane");
    let at = proxy.snapshot().listeners.values().next().unwrap().addresses[0].socket().unwrap();
    assert_eq!(Client::new(TcpStream::connect(at).await.unwrap()).get("/").await.1, "one");
    proxy.stop().await;
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn admin_answers_what_tools_ask() {
    let one = Backend::named("one").await;
    let up = static_cluster("outbound|80||one.default.svc.cluster.local", &[one.address]);
    let name = up.name.clone();
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", &name)], std::slice::from_ref(&up))).await;
    for _ in 0..3 {
        assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "one");
    }
    let ask = async |path: &str| String::from_utf8_lossy(&mesh.admin("GET", path).await).into_owned();
    assert!(ask("/ready").await.contains("LIVE"));
    let metrics = ask("/stats/prometheus").await;
    let line = metrics.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
    assert!(line.ends_with(" 3"), "{line}");
    for label in [
        "reporter=\"source\"",
        "destination_service=\"one.default.svc.cluster.local\"",
        "destination_service_name=\"one\"",
        "destination_service_namespace=\"default\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
        "request_protocol=\"http\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
    assert!(ask("/clusters").await.contains(&format!("{name}::{}::rq_total::3", one.address)));
    assert!(ask("/clusters?format=json").await.contains("\"rq_total\""));
    assert!(ask("/listeners").await.contains(&format!("test::{}", mesh.address)));
    assert!(ask("/config_dump").await.contains("dynamic_active_clusters"));
    assert!(ask("/server_info").await.contains("LIVE"));
    assert!(ask("/stats?usedonly&filter=upstream_rq_total").await.contains(": 3\n"));
    assert!(ask("/quitquitquit").await.starts_with("HTTP/1.1 405"));
    assert!(String::from_utf8_lossy(&mesh.admin("POST", "/healthcheck/fail").await).contains("OK"));
    assert!(ask("/ready").await.starts_with("HTTP/1.1 503"));
}

/// One listener with a chain for clients from 127.0.0.2 and one for all others; each answers by a route of its own.
fn two_chains(
    at: SocketAddr,
    special: &str,
    other: &str,
    buffer: u32,
    up: SocketAddr,
) -> Vec<Arc<heddle_xds::Encoded>> {
    use envoy_types::pb::envoy::config::core::v3::CidrRange;
    use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
    use envoy_types::pb::google::protobuf::UInt32Value;
    let chain = |prefix: &str, matches| FilterChain {
        filter_chain_match: matches,
        filters: vec![kit::http_filter(&kit::connection_manager(vec![to_cluster(prefix, "up")]))],
        ..FilterChain::default()
    };
    let from = FilterChainMatch {
        source_prefix_ranges: vec![CidrRange {
            address_prefix: "127.0.0.2".to_owned(),
            prefix_len: Some(UInt32Value { value: 32 }),
        }],
        ..FilterChainMatch::default()
    };
    let mut listener = kit::listener("test", at, kit::tcp_filter("up"));
    listener.filter_chains = vec![chain(special, Some(from)), chain(other, None)];
    listener.per_connection_buffer_limit_bytes = Some(UInt32Value { value: buffer });
    vec![kit::encoded_listener(&listener), kit::encoded_cluster(&static_cluster("up", &[up]))]
}

/// Asks until the connection is to be closed.
async fn asked_to_go(client: &mut Client) {
    let asked = async { while !client.get("/").await.0.contains("connection: close") {} };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is asked to go");
}

#[tokio::test]
async fn a_change_of_one_filter_chain_leaves_the_connections_of_the_others() {
    let one = Backend::named("one").await;
    let mesh = Mesh::start(1, |at| two_chains(at, "/", "/", 1 << 20, one.address)).await;
    let from = |last: u8| {
        let to = mesh.address;
        async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            Client::new(socket.connect(to).await.unwrap())
        }
    };
    let (mut special, mut other) = (from(2).await, from(1).await);
    assert_eq!((special.get("/").await.1, other.get("/").await.1), ("one".to_owned(), "one".to_owned()));
    let generation = |at: u64| mesh.until(move |proxy| proxy.snapshot().generation > at);

    // The chain of the one is served otherwise: only its connection is asked to go.
    let before = mesh.proxy.snapshot().generation;
    mesh.publish(two_chains(mesh.address, "/moved", "/", 1 << 20, one.address));
    generation(before).await;
    asked_to_go(&mut special).await;
    for _ in 0..20 {
        let (head, _) = other.get("/").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head}");
    }

    // What concerns the whole listener concerns everybody.
    let before = mesh.proxy.snapshot().generation;
    mesh.publish(two_chains(mesh.address, "/moved", "/", 1 << 16, one.address));
    generation(before).await;
    asked_to_go(&mut other).await;
}
