use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::google::protobuf::BoolValue;

use super::super::kit::*;
use super::*;

fn on(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn world(manager: HttpConnectionManager) -> World {
    World::with(config(vec![host("vh", &["*"], vec![route(path("prefix:/"), to("a"))])]), &manager).unwrap()
}

fn prepared(world: &World, line: &str) -> Vec<String> {
    let mut head = request(line);
    prepare(&world.downstream, &mut head, 3).unwrap();
    head.headers.remove("x-request-id");
    shown(&head.headers)
}

fn path_of(manager: &HttpConnectionManager, path: &str) -> Result<String, u16> {
    let world = world(manager.clone());
    let mut head = RequestHead::new("GET", "h", path);
    match prepare(&world.downstream, &mut head, 1) {
        Ok(()) => Ok(String::from_utf8_lossy(head.path()).into_owned()),
        Err(answer) => Err(answer.status),
    }
}

#[test]
fn a_sidecar_keeps_what_it_is_told_and_removes_what_is_for_one_hop() {
    let world = world(manager());
    let rows: [(&str, &[&str]); 8] = [
        ("GET h/", &["x-forwarded-proto=http"]),
        ("GET h/ x-forwarded-proto=https", &["x-forwarded-proto=https"]),
        ("GET h/ x-forwarded-for=1.1.1.1", &["x-forwarded-for=1.1.1.1", "x-forwarded-proto=http"]),
        ("GET h/ connection=keep-alive keep-alive=5 proxy-connection=x", &["x-forwarded-proto=http"]),
        ("GET h/ connection=x-hop,close x-hop=1", &["x-forwarded-proto=http"]),
        ("GET h/ te=trailers,_gzip", &["te=trailers", "x-forwarded-proto=http"]),
        ("GET h/ te=gzip", &["x-forwarded-proto=http"]),
        (
            "GET h/ x-envoy-max-retries=3 x-envoy-internal=true x-forwarded-client-cert=a x-envoy-original-path=/p",
            &["x-envoy-original-path=/p", "x-forwarded-proto=http"],
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(prepared(&world, line), expected, "{line}");
    }
}

#[test]
fn upgrades_keep_their_headers() {
    let world = world(manager());
    let seen = prepared(&world, "GET h/ connection=Upgrade upgrade=websocket");
    assert_eq!(seen, ["connection=Upgrade", "upgrade=websocket", "x-forwarded-proto=http"]);
    assert_eq!(world.outcome(&request("GET h/ connection=Upgrade upgrade=websocket")), "403");
    assert_eq!(
        prepared(&world, "GET h/ connection=Upgrade,HTTP2-Settings upgrade=h2c http2-settings=x"),
        ["x-forwarded-proto=http"]
    );
}

#[test]
fn a_gateway_says_who_came() {
    let world = world(HttpConnectionManager { use_remote_address: on(true), ..manager() });
    let rows: [(&str, &[&str]); 3] = [
        (
            "GET h/",
            &["x-envoy-external-address=10.1.2.3", "x-forwarded-for=10.1.2.3", "x-forwarded-proto=http"],
        ),
        (
            "GET h/ x-forwarded-for=1.1.1.1 x-forwarded-proto=https",
            &[
                "x-envoy-external-address=10.1.2.3",
                "x-forwarded-for=1.1.1.1,10.1.2.3",
                "x-forwarded-proto=http",
            ],
        ),
        (
            "GET h/ x-envoy-original-path=/p x-envoy-decorator-operation=o",
            &["x-envoy-external-address=10.1.2.3", "x-forwarded-for=10.1.2.3", "x-forwarded-proto=http"],
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(prepared(&world, line), expected, "{line}");
    }
}

#[test]
fn request_ids_are_made_or_kept() {
    let id = |manager: HttpConnectionManager, line: &str| {
        let world = world(manager);
        let mut head = request(line);
        prepare(&world.downstream, &mut head, 3).unwrap();
        head.headers.get("x-request-id").map(|id| String::from_utf8_lossy(id).into_owned())
    };
    let edge = |keep| HttpConnectionManager {
        use_remote_address: on(true),
        preserve_external_request_id: keep,
        ..manager()
    };
    assert_eq!(id(manager(), "GET h/ x-request-id=mine").as_deref(), Some("mine"));
    assert_eq!(id(edge(true), "GET h/ x-request-id=mine").as_deref(), Some("mine"));
    assert_ne!(id(edge(false), "GET h/ x-request-id=mine").as_deref(), Some("mine"));
    let made = id(manager(), "GET h/").unwrap();
    assert_eq!((made.len(), &made[14..15]), (36, "4"), "{made}");
    assert_eq!(id(HttpConnectionManager { generate_request_id: on(false), ..manager() }, "GET h/"), None);
}

#[test]
fn paths_are_normalised_as_configured() {
    let plain = manager();
    let normal = HttpConnectionManager { normalize_path: on(true), ..manager() };
    let merged = HttpConnectionManager { merge_slashes: true, ..normal.clone() };
    let slashes =
        |action| HttpConnectionManager { path_with_escaped_slashes_action: action, ..normal.clone() };
    let rows: [(&HttpConnectionManager, &str, Result<&str, u16>); 14] = [
        (&plain, "/a/../b", Ok("/a/../b")),
        (&plain, "a", Err(404)),
        (&plain, "/a#b", Err(400)),
        (&normal, "/a/../b?x=/../", Ok("/b?x=/../")),
        (&normal, "/a/%2E%2e/b", Ok("/b")),
        (&normal, "/a//b", Ok("/a//b")),
        (&normal, "/%00", Err(400)),
        (&merged, "/a///b//?x=//", Ok("/a/b/?x=//")),
        (&slashes(1), "/a%2Fb", Ok("/a%2Fb")),
        (&slashes(2), "/a%2Fb", Err(400)),
        (&slashes(2), "/ab?x=%2F", Ok("/ab?x=%2F")),
        (&slashes(3), "/a%2Fb", Err(307)),
        (&slashes(4), "/a%2F..%5Cb", Ok("/b")),
        (&normal, "/plain/path", Ok("/plain/path")),
    ];
    for (manager, path, expected) in rows {
        assert_eq!(path_of(manager, path), expected.map(String::from), "{path}");
    }
}

#[test]
fn hosts_lose_ports_and_dots_as_configured() {
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::StripPortMode;
    let any_port = HttpConnectionManager {
        strip_port_mode: Some(StripPortMode::StripAnyHostPort(true)),
        strip_trailing_host_dot: true,
        ..manager()
    };
    let matching = HttpConnectionManager { strip_matching_host_port: true, ..manager() };
    let rows = [
        (manager(), "h:80", "h:80"),
        (any_port.clone(), "h:81", "h"),
        (any_port.clone(), "h.:81", "h"),
        (any_port.clone(), "h.", "h"),
        (any_port, "[::1]:8", "[::1]"),
        (matching.clone(), "h:80", "h"),
        (matching, "h:81", "h:81"),
    ];
    for (manager, host, expected) in rows {
        let world = world(manager);
        let mut head = RequestHead::new("GET", host, "/");
        prepare(&world.downstream, &mut head, 1).unwrap();
        assert_eq!(String::from_utf8_lossy(head.authority()), expected, "{host}");
    }
    let world = world(manager());
    assert_eq!(prepare(&world.downstream, &mut RequestHead::new("GET", "", "/"), 1).unwrap_err().status, 400);
}

#[test]
fn answers_to_grpc_are_grpc() {
    let world = World::new(config(vec![]));
    let head = request("POST h/s/m content-type=application/grpc");
    let mut response = ResponseHead::default();
    let answer = world.respond(&head);
    assert!(answer.write_head(&world.downstream, &head, &mut response).is_empty());
    assert_eq!(response.status, 200);
    assert_eq!(shown(&response.headers), ["content-type=application/grpc", "grpc-status=12"]);
}

#[test]
fn server_is_written_kept_or_left() {
    let rows = [(0, Some("envoy")), (1, Some("up")), (2, Some("up"))];
    for (transformation, expected) in rows {
        let world =
            world(HttpConnectionManager { server_header_transformation: transformation, ..manager() });
        let mut response = ResponseHead::new(200).with("server", "up").with("connection", "close");
        finish_response(&world.downstream, &request("GET h/"), false, &mut response);
        let server = response.headers.get("server").map(String::from_utf8_lossy);
        assert_eq!(server.as_deref(), expected);
        assert!(!response.headers.contains("connection"));
    }
}
