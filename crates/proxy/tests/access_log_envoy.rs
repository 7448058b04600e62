//! Lines of access logs, compared with those of real Envoy: the same configuration, the same requests.

mod kit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::listener::v3 as listener_proto;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf;
use heddle_runtime::free_port;
use kit::backend::{Backend, Client, Reply};
use kit::{Mesh, any, connection_manager, encoded_cluster, encoded_listener, http_filter, http2, listener};
use kit::{action, at_pipe, retries, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All but times, ports and what is made up for each request.
const FORMAT: &str = "%REQ(X-CASE)% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:SCHEME)% %REQ(:AUTHORITY):6% \
    proto=%PROTOCOL% code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% long=%RESPONSE_FLAGS_LONG% \
    details=%RESPONSE_CODE_DETAILS% end=%CONNECTION_TERMINATION_DETAILS% why=\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    in=%BYTES_RECEIVED% out=%BYTES_SENT% ua=\"%REQ(USER-AGENT)%\" two=%REQ(X-TWO)% cut=%REQ(X-TWO):2% \
    host=%UPSTREAM_HOST% at=%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% port=%UPSTREAM_REMOTE_PORT% to=%UPSTREAM_CLUSTER% raw=%UPSTREAM_CLUSTER_RAW% \
    us=%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% up=%UPSTREAM_PROTOCOL% try=%UPSTREAM_REQUEST_ATTEMPT_COUNT% \
    local=%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% remote=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
    direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% sni=%REQUESTED_SERVER_NAME% route=%ROUTE_NAME% \
    chain=%FILTER_CHAIN_NAME% kind=%RESP(X-KIND?SERVER)% type=%RESP(CONTENT-TYPE)% grpc=%GRPC_STATUS% \
    %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER% trailer=%TRAILER(GRPC-MESSAGE)% meta=%DYNAMIC_METADATA(a:b)% \
    vc=%VIRTUAL_CLUSTER_NAME% 100%%";

/// The ends of a connection, and what others are told of them.
const ENDS: &str = "%REQ(X-CASE)% remote=%DOWNSTREAM_REMOTE_ADDRESS% host=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
    port=%DOWNSTREAM_REMOTE_PORT% local=%DOWNSTREAM_LOCAL_ADDRESS% own=%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% \
    port=%DOWNSTREAM_LOCAL_PORT% direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% xff=%REQ(X-FORWARDED-FOR)% \
    outside=%REQ(X-ENVOY-EXTERNAL-ADDRESS)% code=%RESPONSE_CODE%";

/// Members whose values are the same at both.
const JSON: [(&str, &str); 14] = [
    ("case", "%REQ(X-CASE)%"),
    ("path", "%REQ(:PATH)%"),
    ("code", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("bytes_in", "%BYTES_RECEIVED%"),
    ("bytes_out", "%BYTES_SENT%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("mixed", "%REQ(:METHOD)% \"%REQ(X-QUOTED)%\" %REQ(ABSENT)%"),
    ("quoted", "%REQ(X-QUOTED)%"),
    ("absent", "%REQ(ABSENT)%"),
    ("grpc", "%GRPC_STATUS_NUMBER%"),
    ("zero", "0"),
    ("b/a\"", "%PROTOCOL%"),
];

fn log_to(path: &Path, format: Format, omit_empty_values: bool) -> accesslog::AccessLog {
    let format = Some(format);
    kit::log_as(path, core::SubstitutionFormatString { format, omit_empty_values, ..Default::default() })
}

fn text(format: &str) -> Format {
    let specifier = Some(core::data_source::Specifier::InlineString(format.to_owned()));
    Format::TextFormatSource(core::DataSource { specifier, ..Default::default() })
}

fn json() -> Format {
    let value =
        |text: &str| protobuf::Value { kind: Some(protobuf::value::Kind::StringValue(text.to_owned())) };
    let mut fields: std::collections::HashMap<_, _> =
        JSON.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let inner = protobuf::Struct { fields: [("method".to_owned(), value("%REQ(:METHOD)%"))].into() };
    let inner = protobuf::Value { kind: Some(protobuf::value::Kind::StructValue(inner)) };
    fields.insert("inner".to_owned(), inner);
    let three = protobuf::Value { kind: Some(protobuf::value::Kind::NumberValue(3.5)) };
    let list = protobuf::ListValue { values: vec![value("%RESPONSE_CODE%"), value("x"), three] };
    fields.insert("list".to_owned(), protobuf::Value { kind: Some(protobuf::value::Kind::ListValue(list)) });
    Format::JsonFormat(protobuf::Struct { fields })
}

/// The logs of one of the two, in a directory of its own.
struct Logs {
    dir: PathBuf,
}

impl Logs {
    const NAMES: [&'static str; 6] = ["text", "json", "omitted", "errors", "tcp", "pipe"];

    fn of(&self, name: &str) -> Vec<accesslog::AccessLog> {
        let path = self.dir.join(name);
        vec![match name {
            "json" => log_to(&path, json(), false),
            "omitted" => log_to(&path, json(), true),
            "pipe" => log_to(&path, text(&format!("{ENDS}\n")), false),
            "errors" => {
                let comparison = accesslog::ComparisonFilter {
                    op: 1,
                    value: Some(core::RuntimeUInt32 { default_value: 500, runtime_key: "none".to_owned() }),
                };
                let filter = accesslog::StatusCodeFilter { comparison: Some(comparison) };
                let filter = accesslog::access_log_filter::FilterSpecifier::StatusCodeFilter(filter);
                let filter = accesslog::AccessLogFilter { filter_specifier: Some(filter) };
                accesslog::AccessLog {
                    filter: Some(filter),
                    ..log_to(&path, text("%REQ(X-CASE)% %RESPONSE_CODE%\n"), false)
                }
            }
            _ => log_to(&path, text(&format!("{FORMAT}\n")), false),
        }]
    }

    /// Where HTTP is served at a Unix socket.
    fn socket(&self) -> PathBuf {
        self.dir.join("front.sock")
    }

    fn read(&self, name: &str) -> Vec<String> {
        let all = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        // The path of a socket in there is the one thing that must differ.
        let dir = self.dir.to_str().unwrap();
        all.lines().map(|line| line.replace(dir, "DIR")).collect()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/x\r\ncontent-length: 2\r\nx-kind: good\r\n\r\nok";

/// What both are told.
struct World {
    up: SocketAddr,
    grpc: SocketAddr,
    echo: SocketAddr,
    nobody: SocketAddr,
    /// Goes away with its directory.
    pipe: PathBuf,
}

impl World {
    async fn start() -> Self {
        let up = Backend::start(|head, _, _| match head {
            head if head.contains("/closes") => Reply::Close,
            head if head.contains("/silent") => Reply::Silence,
            head if head.contains("/cut") => {
                Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec())
            }
            head if head.contains("/nonsense") => Reply::Last(b"WHAT IS THIS\r\n\r\n".to_vec()),
            head if head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".into(),
            _ => OK.into(),
        })
        .await;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let pipe = std::env::temp_dir().join(format!("heddle-log-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&pipe);
        let listener = tokio::net::UnixListener::bind(&pipe).unwrap();
        tokio::spawn(kit::backend::serve_pipe(listener, |_, _, _| OK.into()));
        Self { up: up.address, grpc: grpc().await, echo: echo().await, nobody, pipe }
    }

    fn clusters(&self) -> Vec<cluster::Cluster> {
        vec![
            static_cluster("up", &[self.up]),
            static_cluster("nobody", &[self.nobody]),
            static_cluster("none", &[]),
            http2(static_cluster("grpc", &[self.grpc])),
            static_cluster("echo", &[self.echo]),
            at_pipe("pipe", self.pipe.to_str().unwrap()),
            at_pipe("no-pipe", "/nowhere/heddle.sock"),
        ]
    }

    fn routes() -> Vec<route::Route> {
        let direct = route::Route {
            action: Some(route::route::Action::DirectResponse(route::DirectResponseAction {
                status: 418,
                body: Some(core::DataSource {
                    specifier: Some(core::data_source::Specifier::InlineString("short and stout".to_owned())),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            name: "teapot".to_owned(),
            ..to_cluster("/direct", "x")
        };
        let redirect = route::Route {
            action: Some(route::route::Action::Redirect(route::RedirectAction {
                path_rewrite_specifier: Some(route::redirect_action::PathRewriteSpecifier::PathRedirect(
                    "/there".to_owned(),
                )),
                ..Default::default()
            })),
            ..to_cluster("/redirect", "x")
        };
        let seconds = |nanos| Some(protobuf::Duration { seconds: 0, nanos });
        let mut rewritten = action(to_cluster("/rewritten", "up"), |a| a.prefix_rewrite = "/up".to_owned());
        rewritten.name = "rewriting".to_owned();
        vec![
            direct,
            redirect,
            rewritten,
            to_cluster("/refused", "nobody"),
            action(to_cluster("/again", "nobody"), |a| a.retry_policy = retries("connect-failure", 1)),
            to_cluster("/empty", "none"),
            to_cluster("/lost", "no-such-cluster"),
            action(to_cluster("/silent", "up"), |a| a.timeout = seconds(50_000_000)),
            to_cluster("/s/", "grpc"),
            action(to_cluster("/up", "up"), |_| {}),
            to_cluster("/closes", "up"),
            to_cluster("/cut", "up"),
            to_cluster("/nonsense", "up"),
            to_cluster("/pipe", "pipe"),
            to_cluster("/no-pipe", "no-pipe"),
        ]
    }

    /// HTTP at one address, TCP at another.
    fn listeners(at: SocketAddr, tcp_at: SocketAddr, logs: &Logs) -> Vec<listener_proto::Listener> {
        let mut manager = connection_manager(Self::routes());
        if let Some(route::RouteConfiguration { validate_clusters, .. }) = manager_routes(&mut manager) {
            *validate_clusters = Some(protobuf::BoolValue { value: false });
        }
        manager.access_log =
            ["text", "json", "omitted", "errors"].into_iter().flat_map(|name| logs.of(name)).collect();
        let mut http = listener("http", at, http_filter(&manager));
        http.filter_chains[0].name = "the-chain".to_owned();
        let proxy = tcp::TcpProxy {
            stat_prefix: "tcp".to_owned(),
            cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster("echo".to_owned())),
            access_log: logs.of("tcp"),
            ..Default::default()
        };
        let name = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let filter = listener_proto::Filter {
            name: name.to_owned(),
            config_type: Some(listener_proto::filter::ConfigType::TypedConfig(any(name, &proxy))),
        };
        // At a Unix socket, where nobody has an address.
        manager.access_log = logs.of("pipe");
        manager.use_remote_address = Some(protobuf::BoolValue { value: true });
        let mut pipe = listener("pipe", at, http_filter(&manager));
        pipe.address = Some(kit::pipe(logs.socket().to_str().unwrap()));
        vec![http, listener("tcp", tcp_at, filter), pipe]
    }
}

fn manager_routes(manager: &mut kit::Manager) -> Option<&mut route::RouteConfiguration> {
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
    match &mut manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(config)) => Some(config),
        _ => None,
    }
}

/// Sends back what came, when its client has sent everything.
async fn echo() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                let _ = stream.write_all(&all).await;
            });
        }
    });
    address
}

/// A server of gRPC that answers with a message and status 5, at `/s/only` with trailers only.
async fn grpc() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection: h2::server::Connection<_, Bytes> =
                    h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let head = ::http::Response::builder().header("content-type", "application/grpc");
                    if request.uri().path() == "/s/only" {
                        let head = head.header("grpc-status", "12").body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                        continue;
                    }
                    let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), false).unwrap();
                    let mut trailers = ::http::HeaderMap::new();
                    trailers.insert("grpc-status", "5".parse().unwrap());
                    trailers.insert("grpc-message", "nothing".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    address
}

async fn connect(at: SocketAddr) -> TcpStream {
    for _ in 0..1000 {
        if let Ok(stream) = TcpStream::connect(at).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody listens at {at}");
}

/// One connection each; `case` is filled in.
const REQUESTS: [(&str, &str); 20] = [
    ("get", "GET /up?a=b HTTP/1.1\r\nhost: shop.test\r\nuser-agent: curl/8\r\nx-two: one\r\nx-two: two\r\n"),
    ("post", "POST /up HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\nhello"),
    (
        "chunked",
        "POST /up HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    ("head", "HEAD /up HTTP/1.1\r\nhost: shop.test\r\n"),
    ("quoted", "GET /up HTTP/1.1\r\nhost: shop.test\r\nx-quoted: a\"b\\c\td\r\n"),
    ("rewritten", "GET /rewritten/x HTTP/1.1\r\nhost: shop.test\r\n"),
    ("nowhere", "GET /nowhere HTTP/1.1\r\nhost: shop.test\r\n"),
    ("direct", "GET /direct HTTP/1.1\r\nhost: shop.test\r\n"),
    ("redirect", "GET /redirect HTTP/1.1\r\nhost: shop.test\r\n"),
    ("refused", "GET /refused HTTP/1.1\r\nhost: shop.test\r\n"),
    ("again", "GET /again HTTP/1.1\r\nhost: shop.test\r\n"),
    ("empty", "GET /empty HTTP/1.1\r\nhost: shop.test\r\n"),
    ("lost", "GET /lost HTTP/1.1\r\nhost: shop.test\r\n"),
    ("silent", "GET /silent HTTP/1.1\r\nhost: shop.test\r\n"),
    ("closes", "GET /closes HTTP/1.1\r\nhost: shop.test\r\n"),
    ("cut", "GET /cut HTTP/1.1\r\nhost: shop.test\r\n"),
    ("pipe", "GET /pipe HTTP/1.1\r\nhost: shop.test\r\n"),
    ("no-pipe", "GET /no-pipe HTTP/1.1\r\nhost: shop.test\r\n"),
    ("nonsense", "GET /nonsense HTTP/1.1\r\nhost: shop.test\r\n"),
    ("upgrade", "GET /up HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: chat\r\n"),
];

/// Sends everything, one after the other.
async fn load(at: SocketAddr, tcp_at: SocketAddr) {
    for (case, request) in REQUESTS {
        let request = match request.split_once("\r\n\r\n") {
            Some((head, body)) => format!("{head}\r\nx-case: {case}\r\n\r\n{body}"),
            None => format!("{request}x-case: {case}\r\n\r\n"),
        };
        let mut client = Client::new(connect(at).await);
        client.send(&request).await;
        let mut answer = [0; 4096];
        let answer = tokio::time::timeout(Duration::from_secs(20), client.stream.read(&mut answer)).await;
        answer.unwrap_or_else(|_| panic!("{case}: no answer")).unwrap();
        drop(client);
    }
    // A client that leaves before it is answered.
    let mut client = Client::new(connect(at).await);
    client
        .send("GET /up/left HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 9\r\nx-case: left\r\n\r\nhalf")
        .await;
    drop(client);
    let mut client = Client::new(connect(at).await);
    client.send("NONSENSE\r\n\r\n").await;
    client.rest().await;
    let (client, connection) = h2::client::handshake(connect(at).await).await.unwrap();
    let running = tokio::spawn(connection);
    for path in ["/s/method", "/s/only", "/nowhere", "/refused"] {
        let mut client = client.clone().ready().await.unwrap();
        let request = ::http::Request::post(format!("http://shop.test{path}"));
        let request =
            request.header("content-type", "application/grpc").header("x-case", path).body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        // Who is answered at once may have no stream any more (RFC 9113, 8.1).
        let _ = body.send_data(Bytes::from_static(b"\0\0\0\0\0"), true);
        let (_, mut body) = response.await.unwrap().into_parts();
        while let Some(data) = body.data().await {
            data.unwrap();
        }
        body.trailers().await.unwrap();
    }
    drop(client);
    let _ = running.await;
    let mut stream = connect(tcp_at).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"hello");
}

/// What differs on purpose, by case and the beginning of the word.
const FREE: [(&str, &[&str]); 10] = [
    // A Unix socket has no port: `-` here, as all that is not there, and nothing there.
    ("pipe", &["port="]),
    // Envoy adds whether the system took its time to say no.
    ("no-pipe", &["details", "why="]),
    // An answer to what is no request has no body here.
    ("-", &["out=", "type=", "bytes_out"]),
    // Where it had come to when its client left is a matter of luck.
    ("left", &["host=", "at=", "port=", "us=", "up="]),
    // What ends in the middle of a body broke off; Envoy's parser calls it malformed.
    ("cut", &["flags", "long=", "details"]),
    // Refused before a cluster is looked for.
    ("upgrade", &["to=", "raw="]),
    // How much of the request had come when it was answered is a matter of luck.
    ("/s/method", &["in=", "bytes_in"]),
    ("/s/only", &["in=", "bytes_in"]),
    ("/nowhere", &["in=", "bytes_in"]),
    ("/refused", &["in=", "bytes_in"]),
];

/// A line as words, in an order that only depends on the request.
fn words(name: &str, line: &str) -> (String, Vec<String>) {
    if !line.starts_with('{') {
        let case = line.split(' ').next().unwrap_or_default().to_owned();
        return (case, line.split(' ').map(str::to_owned).collect());
    }
    let object: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {line}: {e}"));
    let case = object["case"].as_str().unwrap_or("-").to_owned();
    // Members as they stand: order, types and escapes count.
    (case, line.split(",\"").map(str::to_owned).collect())
}

/// The differences between the lines of the two, each case with its own.
fn differences(name: &str, reference: &Logs, own: &Logs) -> Vec<String> {
    let sorted = |logs: &Logs| {
        let mut lines: Vec<_> = logs.read(name).iter().map(|line| words(name, line)).collect();
        lines.sort();
        lines
    };
    let (one, two) = (sorted(reference), sorted(own));
    let cases =
        |lines: &[(String, Vec<String>)]| lines.iter().map(|(case, _)| case.clone()).collect::<Vec<_>>();
    if cases(&one) != cases(&two) {
        return vec![format!("{name}: envoy has lines of {:?}, here are {:?}", cases(&one), cases(&two))];
    }
    let mut found = Vec::new();
    for ((case, one), (_, two)) in one.iter().zip(&two) {
        let free = FREE.iter().find(|(of, _)| of == case).map_or(&[][..], |(_, free)| free);
        let differ = one.iter().zip(two).filter(|(one, two)| {
            one != two && !free.iter().any(|free| two.trim_start_matches('"').starts_with(free))
        });
        found.extend(differ.map(|(one, two)| format!("{name}: {case}: envoy {one}, here {two}")));
        if one.len() != two.len() {
            found.push(format!("{name}: {case}: envoy {one:?}, here {two:?}"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_those_of_envoy() {
    let world = World::start().await;
    let dir = std::env::temp_dir().join(format!("heddle-log-envoy-{}", std::process::id()));
    let (theirs, ours) = (Logs { dir: dir.join("envoy") }, Logs { dir: dir.join("heddle") });
    for logs in [&theirs, &ours] {
        std::fs::create_dir_all(&logs.dir).unwrap();
    }
    let free = || SocketAddr::from(([127, 0, 0, 1], free_port([127, 0, 0, 1].into()).unwrap()));
    let (at, tcp_at) = (free(), free());
    let listeners = World::listeners(at, tcp_at, &theirs);
    let Some(envoy) = kit::peer::start_envoy(listeners, world.clusters(), &dir) else { return };
    let own_tcp = free();
    let mesh = Mesh::start(1, |at| {
        let listeners = World::listeners(at, own_tcp, &ours);
        let clusters = world.clusters();
        listeners.iter().map(encoded_listener).chain(clusters.iter().map(encoded_cluster)).collect()
    })
    .await;
    load(at, tcp_at).await;
    load(mesh.address, own_tcp).await;
    for logs in [&theirs, &ours] {
        let mut stream = tokio::net::UnixStream::connect(logs.socket()).await.unwrap();
        stream.write_all(b"GET /up HTTP/1.1\r\nhost: shop.test\r\nx-case: pipe\r\n\r\n").await.unwrap();
        kit::backend::read_message(&mut stream, &mut Vec::new()).await.expect("an answer");
    }
    let expected = [REQUESTS.len() + 6, REQUESTS.len() + 6, REQUESTS.len() + 6, 8, 1, 1];
    let complete =
        |logs: &Logs| Logs::NAMES.iter().zip(expected).all(|(name, count)| logs.read(name).len() >= count);
    for _ in 0..200 {
        if complete(&theirs) && complete(&ours) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let found: Vec<String> = Logs::NAMES.iter().flat_map(|name| differences(name, &theirs, &ours)).collect();
    let whole = complete(&ours);
    drop(envoy);
    let errors = std::fs::read_to_string(dir.join("envoy.log")).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&dir);
    let _ = std::fs::remove_file(&world.pipe);
    assert!(found.is_empty(), "{}\n{errors}", found.join("\n"));
    assert!(whole, "lines are missing");
}
