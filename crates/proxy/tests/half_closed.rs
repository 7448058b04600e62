//! Tunnels that end in one direction, and those whose client or endpoint is gone.

mod kit;

use std::path::Path;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3::route_match::{ConnectMatcher, PathSpecifier};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig;
use envoy_types::pb::google::protobuf::UInt32Value;
use kit::backend::{read_message, within};
use kit::frames::{self, Frame};
use kit::peer::Folder;
use kit::{Mesh, any, connection_manager, http2, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The key of RFC 6455, 1.3, and what belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a tunnel was asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    WebSocket,
    /// An upgrade to another protocol.
    Other,
    Connect,
}

/// A proxy, and who stands behind it.
struct Ground {
    mesh: Mesh,
    listener: TcpListener,
    log: Folder,
}

impl Ground {
    async fn new(change: impl FnOnce(Cluster) -> Cluster) -> Self {
        let (log, listener) = (Folder::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let up = change(static_cluster("up", &[listener.local_addr().unwrap()]));
        let line =
            core::data_source::Specifier::InlineString("%RESPONSE_CODE% %RESPONSE_FLAGS%\n".to_owned());
        let line = core::DataSource { specifier: Some(line), ..Default::default() };
        let line = core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::TextFormatSource(line)),
            ..Default::default()
        };
        let file = file::FileAccessLog {
            path: log.0.join("log").to_str().unwrap().to_owned(),
            access_log_format: Some(file::file_access_log::AccessLogFormat::LogFormat(line)),
        };
        let mut connect = to_cluster("/", "up");
        if let Some(matches) = &mut connect.r#match {
            matches.path_specifier = Some(PathSpecifier::ConnectMatcher(ConnectMatcher {}));
        }
        let mut manager = connection_manager(vec![connect, to_cluster("/", "up")]);
        let window = || Some(UInt32Value { value: 16 << 20 });
        let options = manager.http2_protocol_options.get_or_insert_default();
        options.allow_connect = true;
        (options.initial_stream_window_size, options.initial_connection_window_size) = (window(), window());
        for upgrade_type in ["tcp", "CONNECT"].map(str::to_owned) {
            manager.upgrade_configs.push(UpgradeConfig { upgrade_type, ..Default::default() });
        }
        manager.access_log = vec![accesslog::AccessLog {
            name: "file".to_owned(),
            config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any(
                "envoy.extensions.access_loggers.file.v3.FileAccessLog",
                &file,
            ))),
            ..Default::default()
        }];
        let mesh = Mesh::start(1, |at| {
            let listener = kit::listener("test", at, kit::http_filter(&manager));
            vec![kit::encoded_listener(&listener), kit::encoded_cluster(&up)]
        })
        .await;
        Self { mesh, listener, log }
    }

    /// A tunnel to an endpoint of HTTP/1.1.
    async fn open(&self, ask: Ask, http2: bool) -> Tunnel {
        let mut near = self.ask(ask, http2).await;
        let mut far = within(self.listener.accept()).await.unwrap().0;
        let (head, _) = within(read_message(&mut far, &mut Vec::new())).await.unwrap();
        assert_eq!(head.starts_with("CONNECT "), ask == Ask::Connect, "{head}");
        let answer = match ask {
            Ask::Connect => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
            Ask::Other => "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_owned(),
            Ask::WebSocket => format!(
                "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            ),
        };
        far.write_all(answer.as_bytes()).await.unwrap();
        answered(&mut near, http2).await;
        Tunnel { near, far, http2 }
    }

    async fn ask(&self, ask: Ask, http2: bool) -> TcpStream {
        let mut near = self.mesh.connect().await;
        let upgrade =
            |to| format!("GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n");
        let bytes = match (http2, ask) {
            (false, Ask::WebSocket) => {
                format!("{}Sec-WebSocket-Key: {KEY}\r\n\r\n", upgrade("websocket")).into_bytes()
            }
            (false, Ask::Other) => format!("{}\r\n", upgrade("tcp")).into_bytes(),
            (false, Ask::Connect) => b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n".to_vec(),
            (true, _) => {
                let extended =
                    |to| frames::request("CONNECT", "/ws", &[(":protocol", to), ("sec-websocket-key", KEY)]);
                let head = match ask {
                    Ask::WebSocket => extended("websocket"),
                    Ask::Other => extended("tcp"),
                    Ask::Connect => frames::block(&[(":method", "CONNECT"), (":authority", "test:80")]),
                };
                let begin = frames::frame(frames::SETTINGS, 0, 0, &[]);
                let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &head);
                [frames::PREFACE, &begin, &head].concat()
            }
        };
        near.write_all(&bytes).await.unwrap();
        near
    }

    /// The lines of the log, when there are so many.
    async fn lines(&self, count: usize) -> Vec<String> {
        let read = |dir: &Path| std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        self.mesh.until(|_| read(&self.log.0).lines().count() >= count).await;
        read(&self.log.0).lines().map(str::to_owned).collect()
    }
}

/// The tunnel is there.
async fn answered(near: &mut TcpStream, http2: bool) {
    if http2 {
        until(near, |frame| frame.kind == frames::HEADERS && frame.stream == 1).await;
    } else {
        let (head, _) = within(read_message(near, &mut Vec::new())).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") || head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

/// The next frame of a kind.
async fn until(stream: &mut TcpStream, wanted: impl Fn(&Frame) -> bool) -> Frame {
    loop {
        let frame = within(frames::next(stream)).await.expect("the connection goes on");
        if wanted(&frame) {
            return frame;
        }
    }
}

/// Both ends of a tunnel: the client's and the endpoint's.
struct Tunnel {
    near: TcpStream,
    far: TcpStream,
    http2: bool,
}

impl Tunnel {
    async fn send_frame(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        assert!(self.http2);
        self.near.write_all(&frames::frame(kind, flags, 1, payload)).await.unwrap();
    }

    /// The client says so much, and that it was all.
    async fn end(&mut self, last: &[u8]) {
        if self.http2 {
            let mut pieces = last.chunks(16384).peekable();
            while let Some(piece) = pieces.next() {
                let flags = if pieces.peek().is_none() { frames::END_STREAM } else { 0 };
                self.send_frame(frames::DATA, flags, piece).await;
            }
        } else {
            self.near.write_all(last).await.unwrap();
            self.near.shutdown().await.unwrap();
        }
    }

    async fn reset(&mut self) {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        self.send_frame(frames::RST_STREAM, 0, &CANCEL).await;
    }

    /// All that the endpoint hears.
    async fn heard(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        within(self.far.read_to_end(&mut all)).await.unwrap();
        all
    }

    /// Waits until the proxy has ended it towards the client.
    async fn over(&mut self) {
        if self.http2 {
            until(&mut self.near, |frame| frame.kind == frames::RST_STREAM && frame.stream == 1).await;
        } else {
            assert_eq!(within(self.near.read(&mut [0; 8])).await.unwrap(), 0);
        }
    }

    /// Waits until the client hears that the endpoint has said all.
    async fn hears_end(&mut self) {
        if self.http2 {
            until(&mut self.near, |frame| frame.kind == frames::DATA && frame.flags == frames::END_STREAM)
                .await;
        } else {
            assert_eq!(within(self.near.read(&mut [0; 8])).await.unwrap(), 0);
        }
    }

    /// Waits until the client hears this.
    async fn hears(&mut self, wanted: &[u8]) {
        if self.http2 {
            let frame = until(&mut self.near, |frame| frame.kind == frames::DATA && frame.stream == 1).await;
            assert_eq!(frame.payload, wanted);
        } else {
            let mut got = vec![0; wanted.len()];
            within(self.near.read_exact(&mut got)).await.unwrap();
            assert_eq!(got, wanted);
        }
    }
}

#[tokio::test]
async fn a_websocket_ends_soon_after_one_side_has_and_no_other_tunnel_does() {
    let ground = Ground::new(|up| up).await;
    let mut others = Vec::new();
    for (ask, http2) in [(Ask::Other, false), (Ask::Other, true), (Ask::Connect, false), (Ask::Connect, true)]
    {
        let mut tunnel = ground.open(ask, http2).await;
        tunnel.end(b"last").await;
        assert_eq!(tunnel.heard().await, b"last", "{ask:?} {http2}");
        others.push(tunnel);
    }
    let (mut left, mut ended) = (Vec::new(), Vec::new());
    for http2 in [false, true] {
        let mut tunnel = ground.open(Ask::WebSocket, http2).await;
        tunnel.end(b"last").await;
        assert_eq!(tunnel.heard().await, b"last", "{http2}");
        left.push(tunnel);
        let mut tunnel = ground.open(Ask::WebSocket, http2).await;
        tunnel.far.shutdown().await.unwrap();
        ended.push(tunnel);
    }
    // What the endpoint has still to say is heard.
    for tunnel in &mut left {
        tunnel.far.write_all(b"and I").await.unwrap();
        tunnel.hears(b"and I").await;
    }
    for mut tunnel in left {
        tunnel.over().await;
    }
    for mut tunnel in ended {
        tunnel.over().await;
        assert_eq!(tunnel.heard().await, b"", "the endpoint's connection has ended");
    }
    assert_eq!(ground.lines(4).await, vec!["101 SI"; 4]);
    for mut tunnel in others {
        tunnel.far.write_all(b"late").await.unwrap();
        tunnel.hears(b"late").await;
        tunnel.far.shutdown().await.unwrap();
        tunnel.hears_end().await;
    }
    assert_eq!(ground.lines(8).await[4..], ["101 -", "101 -", "200 -", "200 -"]);
}

#[tokio::test]
async fn a_client_of_http2_that_is_gone_takes_its_tunnel_with_it() {
    let ground = Ground::new(|up| up).await;
    let much = vec![7; 8 << 20];
    let mut kept = Vec::new();
    for (number, ask) in [Ask::WebSocket, Ask::Connect].into_iter().enumerate() {
        let code = if ask == Ask::Connect { 200 } else { 101 };
        let gone = vec![format!("{code} DC"); 5];
        // Before its end, and behind it.
        let mut tunnel = ground.open(ask, true).await;
        tunnel.reset().await;
        assert_eq!(tunnel.heard().await, b"");
        let Tunnel { near, mut far, .. } = ground.open(ask, true).await;
        drop(near);
        assert_eq!(within(far.read(&mut [0; 8])).await.unwrap(), 0);
        let mut tunnel = ground.open(ask, true).await;
        tunnel.end(b"last").await;
        assert_eq!(tunnel.heard().await, b"last");
        tunnel.reset().await;
        let mut closing = ground.open(ask, true).await;
        closing.end(b"last").await;
        assert_eq!(closing.heard().await, b"last");
        drop(closing.near);
        // While the endpoint does not read.
        let mut stuck = ground.open(ask, true).await;
        for piece in much.chunks(16384) {
            stuck.send_frame(frames::DATA, 0, piece).await;
        }
        stuck.reset().await;
        kept.push((tunnel, closing.far, stuck));
        assert_eq!(ground.lines(number * 5 + 5).await[number * 5..], gone, "{ask:?}");
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_behind_the_end_of_a_websocket_has_only_left() {
    let ground = Ground::new(|up| up).await;
    for (number, (ask, http2)) in
        [(Ask::WebSocket, false), (Ask::WebSocket, true), (Ask::Connect, false), (Ask::Connect, true)]
            .into_iter()
            .enumerate()
    {
        let mut tunnel = ground.open(ask, http2).await;
        tunnel.far.shutdown().await.unwrap();
        tunnel.hears_end().await;
        if http2 {
            tunnel.reset().await;
        } else {
            tunnel.near.set_zero_linger().unwrap();
        }
        drop(tunnel.near);
        let wanted = if ask == Ask::WebSocket { "101 -" } else { "200 DC" };
        assert_eq!(ground.lines(number + 1).await[number], wanted, "{ask:?} {http2}");
    }
}

#[tokio::test]
async fn what_a_client_has_sent_to_its_end_arrives_though_it_has_gone() {
    let ground = Ground::new(|up| up).await;
    let much: Vec<u8> = (0..8_u32 << 20).map(|n| (n >> 3) as u8).collect();
    let mut tunnel = ground.open(Ask::Connect, true).await;
    tunnel.end(&much).await;
    let Tunnel { near, mut far, .. } = tunnel;
    drop(near);
    within(async {
        let gone = b"http.downstream_cx_active: 0\n";
        while !ground.mesh.admin("GET", "/stats").await.windows(gone.len()).any(|some| some == gone) {}
    })
    .await;
    let mut all = Vec::new();
    within(far.read_to_end(&mut all)).await.unwrap();
    assert!(all == much, "{} of {} bytes", all.len(), much.len());
}

#[tokio::test]
async fn an_endpoint_of_http2_that_is_gone_takes_its_tunnel_with_it() {
    let ground = Ground::new(http2).await;
    let mut near = ground.ask(Ask::Connect, false).await;
    let mut far = within(ground.listener.accept()).await.unwrap().0;
    let mut preface = vec![0; frames::PREFACE.len()];
    within(far.read_exact(&mut preface)).await.unwrap();
    far.write_all(&frames::frame(frames::SETTINGS, 0, 0, &[])).await.unwrap();
    until(&mut far, |frame| frame.kind == frames::HEADERS && frame.stream == 1).await;
    let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::block(&[(":status", "200")]));
    far.write_all(&head).await.unwrap();
    answered(&mut near, false).await;
    far.write_all(&frames::frame(frames::DATA, frames::END_STREAM, 1, b"last")).await.unwrap();
    let mut all = Vec::new();
    within(near.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"last");
    // It wants to hear no more, either.
    far.write_all(&frames::frame(frames::RST_STREAM, 0, 1, &[0; 4])).await.unwrap();
    assert_eq!(ground.lines(1).await, ["200 -"]);
}
