//! Access logs of a whole proxy.

mod kit;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3 as listener_proto;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use kit::backend::{Backend, Client, Reply};
use kit::{Mesh, any, connection_manager, encoded_cluster, encoded_listener, http_filter, listener};
use kit::{log_to, static_cluster, to_cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("heddle-access-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until the file has so many lines.
async fn lines(mesh: &Mesh, path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    mesh.until(|_| read().lines().count() >= count).await;
    read().lines().map(str::to_owned).collect()
}

/// An HTTP listener with this log, in front of `/up` (well), `/closes`, `/refuses`.
async fn mesh(path: &Path, format: &str) -> Mesh {
    let up = Backend::start(|head, _, _| match head.contains("/closes") {
        true => Reply::Close,
        false => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-kind: good\r\n\r\nok".into(),
    })
    .await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let clusters = [static_cluster("up", &[up.address]), static_cluster("refuses", &[nobody])];
    let log = log_to(path, format);
    Mesh::start(1, |at| {
        let mut routes =
            vec![to_cluster("/refuses", "refuses"), to_cluster("/up", "up"), to_cluster("/closes", "up")];
        routes[1].name = "the-route".to_owned();
        let mut manager = connection_manager(routes);
        manager.access_log = vec![log.clone()];
        let mut all = vec![encoded_listener(&listener("test", at, http_filter(&manager)))];
        all.extend(clusters.iter().map(encoded_cluster));
        all
    })
    .await
}

#[tokio::test]
async fn each_request_has_its_line() {
    let dir = Dir::new("line");
    let path = dir.0.join("access.log");
    let format = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                  %BYTES_RECEIVED% %BYTES_SENT% %ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT% \
                  %RESP(X-KIND)% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% [%UPSTREAM_TRANSPORT_FAILURE_REASON%]\n";
    let mesh = mesh(&path, format).await;
    let mut client = Client::new(mesh.connect().await);
    client.get("/up").await;
    client.send("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc").await;
    client.response().await;
    client.get("/nowhere").await;
    client.get("/refuses").await;
    client.get("/closes").await;
    let mut other = Client::new(mesh.connect().await);
    other.send("NONSENSE\r\n\r\n").await;
    other.rest().await;
    let found = lines(&mesh, &path, 6).await;
    let refused = "upstream_reset_before_response_started{remote_connection_failure|\
                   delayed_connect_error:_Connection_refused}";
    let closed = "upstream_reset_before_response_started{connection_termination}";
    assert_eq!(
        found,
        [
            "GET /up HTTP/1.1 200 - via_upstream 0 2 the-route up 1 good 127.0.0.1 [-]".to_owned(),
            "POST /up HTTP/1.1 200 - via_upstream 3 2 the-route up 1 good 127.0.0.1 [-]".to_owned(),
            "GET /nowhere HTTP/1.1 404 NR route_not_found 0 0 - - 0 - - [-]".to_owned(),
            format!(
                "GET /refuses HTTP/1.1 503 UF {refused} 0 98 - refuses 1 - - [delayed_connect_error:_Connection_refused]"
            ),
            format!("GET /closes HTTP/1.1 503 UC {closed} 0 95 - up 1 - 127.0.0.1 [-]"),
            "- - HTTP/1.1 400 DPE http1.codec_error 0 0 - - 0 - - [-]".to_owned(),
        ]
    );
    let stats = String::from_utf8(mesh.admin("GET", "/stats?filter=lines|write_").await).unwrap();
    assert!(stats.contains("filesystem.write_buffered: 6\n"), "{stats}");
    assert!(stats.contains("access_log.lines_dropped: 0\n"), "{stats}");
}

#[tokio::test]
async fn a_connection_of_tcp_has_its_line() {
    let dir = Dir::new("tcp");
    let path = dir.0.join("access.log");
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
                stream.write_all(b"!").await.unwrap();
            });
        }
    });
    let log = log_to(
        &path,
        "%REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% \
         %UPSTREAM_HOST%\n",
    );
    let proxy = tcp::TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster("up".to_owned())),
        access_log: vec![log],
        ..Default::default()
    };
    let filter = listener_proto::Filter {
        name: "tcp".to_owned(),
        config_type: Some(listener_proto::filter::ConfigType::TypedConfig(any(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            &proxy,
        ))),
    };
    let cluster = |at| encoded_cluster(&static_cluster("up", &[at]));
    let mesh =
        Mesh::start(1, |here| vec![encoded_listener(&listener("t", here, filter.clone())), cluster(at)])
            .await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"hello!");
    assert_eq!(lines(&mesh, &path, 1).await, [format!("- - 0 - 5 6 up {at}")]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mesh =
        Mesh::start(1, |here| vec![encoded_listener(&listener("t", here, filter.clone())), cluster(nobody)])
            .await;
    let mut all = Vec::new();
    // It may be closed or reset.
    let _ = mesh.connect().await.read_to_end(&mut all).await;
    assert!(all.is_empty());
    assert_eq!(lines(&mesh, &path, 2).await[1], "- - 0 UF 0 0 up -");
}

#[tokio::test]
async fn trailers_and_statuses_of_grpc_are_logged() {
    let dir = Dir::new("grpc");
    let path = dir.0.join("access.log");
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let mut connection: h2::server::Connection<_, Bytes> =
                    h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = ::http::Response::builder().header("content-type", "application/grpc");
                    let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    let mut trailers = ::http::HeaderMap::new();
                    trailers.insert("grpc-status", "5".parse().unwrap());
                    trailers.insert("grpc-message", "nothing".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    let log = log_to(
        &path,
        "%GRPC_STATUS% %TRAILER(GRPC-MESSAGE)% %UPSTREAM_PROTOCOL% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\n",
    );
    let mesh = Mesh::start(1, |here| {
        let mut manager = connection_manager(vec![to_cluster("/", "up")]);
        manager.access_log = vec![log.clone()];
        let up = kit::http2(static_cluster("up", &[at]));
        vec![encoded_listener(&listener("test", here, http_filter(&manager))), encoded_cluster(&up)]
    })
    .await;
    let (client, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = ::http::Request::post("http://test/s/m").header("content-type", "application/grpc");
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(lines(&mesh, &path, 1).await, ["NotFound nothing HTTP/2 127.0.0.1"]);
}

#[tokio::test]
async fn a_rotated_file_is_opened_again() {
    let dir = Dir::new("rotate");
    let path = dir.0.join("access.log");
    let mesh = mesh(&path, "%REQ(:PATH)%\n").await;
    let mut client = Client::new(mesh.connect().await);
    client.get("/up/1").await;
    lines(&mesh, &path, 1).await;
    let old = dir.0.join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    let answer = mesh.admin("POST", "/reopen_logs").await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    assert!(mesh.admin("GET", "/reopen_logs").await.starts_with(b"HTTP/1.1 405 "));
    client.get("/up/2").await;
    assert_eq!(lines(&mesh, &path, 1).await, ["/up/2"]);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "/up/1\n");
    // The end of the proxy leaves nothing in buffers.
    client.get("/up/3").await;
    mesh.proxy.stop().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "/up/2\n/up/3\n");
}
