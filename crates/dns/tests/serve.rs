//! The server over real sockets, asked by us and by `dig`, in front of a resolver that we play.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use heddle_dns::{
    Counters, Forwarder, NameEndpoint, NameEntry, NamePort, NameTable, Names, Server, ServerConfig,
};
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
};

fn table() -> NameTable {
    let port = |number| NamePort { name: "http".into(), number, protocol: "TCP".into() };
    let endpoint = |i: u32| NameEndpoint {
        ip: format!("10.2.{}.{}", i / 200, i % 200),
        hostname: format!("many-{i}"),
        ports: Vec::new(),
    };
    NameTable {
        entries: vec![
            NameEntry {
                host: "reviews.default.svc.cluster.local".into(),
                namespace: "default".into(),
                service: "reviews".into(),
                ips: vec!["240.240.0.1".into(), "2001:2::1".into()],
                ports: vec![port(9080)],
                ..NameEntry::default()
            },
            NameEntry {
                host: "many.default.svc.cluster.local".into(),
                namespace: "default".into(),
                service: "many".into(),
                headless: true,
                ports: vec![port(80)],
                endpoints: (0..150).map(endpoint).collect(),
                ..NameEntry::default()
            },
            NameEntry {
                host: "outside.default.svc.cluster.local".into(),
                namespace: "default".into(),
                service: "outside".into(),
                alias: "db.example.net".into(),
                ..NameEntry::default()
            },
        ],
        cluster_domain: "cluster.local".into(),
        namespace: "default".into(),
    }
}

/// A running server; ends with the test.
struct Mesh {
    address: SocketAddr,
    counters: Arc<Counters>,
    names: watch::Sender<Arc<Names>>,
    _directory: tempfile::TempDir,
}

async fn start(upstream: Option<SocketAddr>) -> Mesh {
    serve(Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap(), upstream)
}

fn serve(server: Server, upstream: Option<SocketAddr>) -> Mesh {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("resolv.conf");
    std::fs::write(&path, "options timeout:1 attempts:1\n").unwrap();
    let address = server.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let mut forwarder = Forwarder::new(path, vec![address]);
    if let Some(upstream) = upstream {
        forwarder = forwarder.with_servers(vec![upstream]);
    }
    let config = ServerConfig {
        forwarder: Some(Arc::new(forwarder)),
        counters: counters.clone(),
        ..ServerConfig::default()
    };
    let (names, receiver) = watch::channel(Arc::new(Names::new(&table()).0));
    tokio::spawn(heddle_dns::serve(server, receiver, config, std::future::pending()));
    Mesh { address, counters, names, _directory: directory }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

async fn ask_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let packet = message.to_vec().unwrap();
    stream.write_u16(packet.len() as u16).await.unwrap();
    stream.write_all(&packet).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

/// A resolver: `big.example` is truncated over UDP, `lies.example` is first answered with another id,
/// everything else is 192.0.2.7.
async fn resolver() -> SocketAddr {
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = server.local_addr().unwrap();
    fn answer(packet: &[u8]) -> Message {
        let request = Message::from_vec(packet).unwrap();
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.add_queries(request.queries.clone());
        let name = request.queries[0].name().clone();
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7))));
        answer
    }
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, peer) = server.udp[0].recv_from(&mut buffer).await.unwrap();
            let mut message = answer(&buffer[..length]);
            let name = message.queries[0].name().to_ascii();
            if name.starts_with("big") {
                message = message.truncate();
            }
            if name.starts_with("lies") {
                let mut forged = message.clone();
                forged.metadata.id ^= 1;
                forged.answers.clear();
                server.udp[0].send_to(&forged.to_vec().unwrap(), peer).await.unwrap();
            }
            server.udp[0].send_to(&message.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.tcp[0].accept().await.unwrap();
            let mut packet = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut packet).await.unwrap();
            let bytes = answer(&packet).to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn every_socket_given_is_served() {
    let bind = |ip: [u8; 4]| {
        let udp = std::net::UdpSocket::bind((Ipv4Addr::from(ip), 0)).unwrap();
        (udp, std::net::TcpListener::bind((Ipv4Addr::from(ip), 0)).unwrap())
    };
    let sockets = vec![bind([127, 0, 0, 1]), bind([127, 0, 0, 2])];
    let addresses: Vec<_> =
        sockets.iter().map(|(udp, tcp)| (udp.local_addr().unwrap(), tcp.local_addr().unwrap())).collect();
    let _mesh = serve(Server::of(sockets).unwrap(), None);
    for (udp, tcp) in addresses {
        let answer = ask_udp(udp, &question("reviews.", RecordType::A)).await;
        assert_eq!(answer.answers[0].data.to_string(), "240.240.0.1", "{udp}");
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        let answer = ask_tcp(&mut stream, &question("reviews.", RecordType::A)).await;
        assert_eq!(answer.answers[0].data.to_string(), "240.240.0.1", "{tcp}");
    }
}

#[tokio::test]
async fn mesh_names_are_answered_over_udp_and_tcp() {
    let mesh = start(None).await;
    let answer = ask_udp(mesh.address, &question("reviews.", RecordType::A)).await;
    assert_eq!(answer.answers[0].data.to_string(), "240.240.0.1");
    let cut = ask_udp(mesh.address, &question("many.", RecordType::A)).await;
    assert!(cut.metadata.truncation);
    let mut stream = TcpStream::connect(mesh.address).await.unwrap();
    for _ in 0..2 {
        let whole = ask_tcp(&mut stream, &question("many.", RecordType::A)).await;
        assert_eq!(whole.answers.len(), 150, "two questions on one connection");
    }
    mesh.names.send_replace(Arc::new(Names::new(&NameTable::default()).0));
    let gone = ask_udp(mesh.address, &question("reviews.default.svc.cluster.local.", RecordType::A)).await;
    assert!(gone.answers.is_empty(), "the newest table answers the next question");
}

#[tokio::test]
async fn the_rest_is_forwarded() {
    let mesh = start(Some(resolver().await)).await;
    for name in ["www.example.", "big.example.", "lies.example."] {
        let message = question(name, RecordType::A);
        let answer = ask_udp(mesh.address, &message).await;
        assert_eq!(answer.metadata.id, message.metadata.id);
        assert_eq!(answer.answers[0].data.to_string(), "192.0.2.7", "{name}");
        assert!(!answer.metadata.truncation, "{name}");
    }
    let mut stream = TcpStream::connect(mesh.address).await.unwrap();
    let answer = ask_tcp(&mut stream, &question("www.example.", RecordType::A)).await;
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.7");
    assert_eq!(mesh.counters.upstream_requests.load(std::sync::atomic::Ordering::Relaxed), 4);
}

#[tokio::test]
async fn without_a_resolver_the_answer_is_a_failure_and_mesh_names_go_on() {
    // Bound and never answering: every attempt times out.
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for upstream in [None, Some(silent.local_addr().unwrap())] {
        let mesh = start(upstream).await;
        let (lost, found) = (question("www.example.", RecordType::A), question("reviews.", RecordType::A));
        let (failure, answer) = tokio::join!(ask_udp(mesh.address, &lost), ask_udp(mesh.address, &found));
        assert_eq!(failure.metadata.response_code.to_string(), "Server Failure");
        assert_eq!(answer.answers.len(), 1);
    }
}

#[tokio::test]
async fn names_follow_the_tables_and_outlive_their_sender() {
    use prost::Message as _;
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("names");
    let reviews = question("reviews.default.svc.cluster.local.", RecordType::A);
    let start = async || {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = server.local_addr().unwrap();
        let (sender, tables) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        let config = ServerConfig::default();
        let task = heddle_dns::follow(server, tables, Some(saved.clone()), config, std::future::pending());
        (address, sender, tokio::spawn(task))
    };
    let (address, tables, task) = start().await;
    assert!(ask_udp(address, &reviews).await.answers.is_empty());
    tables.send(table().encode_to_vec()).unwrap();
    tables.send(vec![0xff]).unwrap();
    drop(tables);
    let answered = async {
        while ask_udp(address, &reviews).await.answers.is_empty() || !saved.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered).await.expect("the table in force");
    // Nobody to ask: what is not ours is refused, so that the asker turns to its next server.
    let outside = ask_udp(address, &question("www.example.", RecordType::A)).await;
    assert_eq!(outside.metadata.response_code, hickory_proto::op::ResponseCode::Refused);
    task.abort();
    let (address, _tables, _) = start().await;
    assert_eq!(ask_udp(address, &reviews).await.answers.len(), 1, "from the disk");
}

#[tokio::test]
async fn dig_understands_the_answers() {
    let Some(dig) = find_dig() else { return };
    let mesh = start(Some(resolver().await)).await;
    let ask = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(&dig)
            .args([&format!("-p{}", mesh.address.port()), "@127.0.0.1", "+tries=1"])
            .args(arguments)
            .output()
            .await
            .unwrap();
        // Columns are filled with tabs or spaces, as it happens.
        let text = String::from_utf8(output.stdout).unwrap().replace('\t', " ");
        assert!(output.status.success(), "dig {arguments:?}: {text}");
        // It warns that .local is multicast DNS's; of a malformed answer it says so in other words.
        assert!(!text.contains("malformed") && !text.contains("extra bytes"), "dig {arguments:?}: {text}");
        text
    };
    assert_eq!(ask(&["+short", "reviews.default", "A"]).await, "240.240.0.1\n");
    assert_eq!(ask(&["+short", "reviews", "AAAA"]).await, "2001:2::1\n");
    let srv = ask(&["_http._tcp.reviews.default.svc.cluster.local", "SRV"]).await;
    assert!(srv.contains("SRV 0 100 9080 reviews.default.svc.cluster.local."), "{srv}");
    assert!(srv.contains("ADDITIONAL: 3"), "two addresses and the OPT: {srv}");
    let none = ask(&["none.default.svc.cluster.local"]).await;
    assert!(none.contains("NXDOMAIN") && none.contains("SOA"), "{none}");
    let many = ask(&["many"]).await;
    assert!(many.contains("(TCP)") && many.contains("ANSWER: 150"), "dig goes on to TCP by itself: {many}");
    let cut = ask(&["+ignore", "+noedns", "many"]).await;
    assert!(cut.contains(" tc"), "{cut}");
    assert_eq!(ask(&["+short", "www.example"]).await, "192.0.2.7\n");
}

#[expect(clippy::print_stdout, reason = "what is left out is said loudly")]
fn find_dig() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("dig")).find(|dig| dig.is_file());
    if found.is_none() {
        println!("LEFT OUT: the test with dig, as it is not installed (Debian: bind9-dnsutils)");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must have dig");
    }
    found
}

#[tokio::test]
async fn another_name_is_answered_with_what_the_resolvers_have_for_it() {
    let mesh = start(Some(resolver().await)).await;
    let asked = question("outside.default.svc.cluster.local.", RecordType::A);
    let mut stream = TcpStream::connect(mesh.address).await.unwrap();
    for answer in [ask_udp(mesh.address, &asked).await, ask_tcp(&mut stream, &asked).await] {
        assert_eq!(answer.metadata.id, asked.metadata.id);
        assert_eq!(answer.queries, asked.queries);
        let told: Vec<_> = answer.answers.iter().map(|r| (r.name.to_string(), r.data.to_string())).collect();
        let expected =
            [("outside.default.svc.cluster.local.", "db.example.net."), ("db.example.net.", "192.0.2.7")];
        assert_eq!(told, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
    }
}
