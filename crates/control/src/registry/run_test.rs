use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::atomic::{AtomicU16, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use heddle_resource::{Document, admit};
use heddle_store::{MemoryStore, Precondition};
use http_body_util::StreamBody;
use hyper::{HeaderMap, Response, body::Frame, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn entry(name: &str, port: u16, annotations: Value) -> Object {
    let document = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"address": "127.0.0.1", "ports": {"http": port}},
    });
    admit(&Document::from_json(document), &heddle_resource::AdmitOptions::default()).object().unwrap()
}

fn key(name: &str) -> Key {
    Key::new(&kind::WORKLOAD_ENTRY, "default", name)
}

struct Fixture {
    store: Arc<MemoryStore>,
    registry: Registry,
    watch: heddle_store::Watch,
}

impl Fixture {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let (_, revision) = store.list(&kind::WORKLOAD_ENTRY, None).await.unwrap();
        let watch = store.watch(&kind::WORKLOAD_ENTRY, revision).await.unwrap();
        let registry = Registry::start(RegistryConfig::new(vec![store.clone()]));
        Self { store, registry, watch }
    }

    async fn put(&self, object: Object) {
        self.store.put(object, Precondition::Any).await.unwrap();
    }

    /// Waits for a state of an entry: `True`, `False`, `Unknown` or `gone`; its message then.
    async fn until(&mut self, name: &str, wanted: &str) -> String {
        let wait = async {
            loop {
                let (text, message) = match self.watch.next().await.unwrap().unwrap() {
                    Event::Delete(object) if &*object.meta.name == name => ("gone".to_owned(), String::new()),
                    Event::Put(object) if &*object.meta.name == name => {
                        let found = object.json.pointer("/status/conditions/0").cloned().unwrap_or_default();
                        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
                        (text("status"), text("message"))
                    }
                    _ => continue,
                };
                if text == wanted {
                    return message;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("within 20 s")
    }
}

/// An HTTP/1.1 server whose status can be changed.
async fn server(status: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 1024];
            let length = stream.read(&mut buffer).await.unwrap();
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let found = if request.starts_with("GET /ready HTTP/1.1\r\n") {
                status.load(Ordering::Relaxed)
            } else {
                404
            };
            let _ =
                stream.write_all(format!("HTTP/1.1 {found} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_check_follows_the_instance_and_writes_its_condition() {
    let status = Arc::new(AtomicU16::new(200));
    let port = server(status.clone()).await;
    let mut fixture = Fixture::new().await;
    let check = json!({"heddle.dev/health": "http:/ready", "heddle.dev/health-interval": "100ms"});
    fixture.put(entry("a", port, check)).await;
    assert_eq!(fixture.until("a", "True").await, "the check passes");
    status.store(503, Ordering::Relaxed);
    let message = fixture.until("a", "False").await;
    assert_eq!(message, format!("GET 127.0.0.1:{port}/ready: status 503"));
    assert_eq!(fixture.registry.report().borrow().unhealthy, 1);
    status.store(204, Ordering::Relaxed);
    fixture.until("a", "True").await;
    // Replaced without its status, the verdict comes back; without the declaration, it goes.
    let slow = json!({"heddle.dev/health": "http:/ready", "heddle.dev/health-interval": "1h"});
    fixture.put(entry("a", port, slow)).await;
    fixture.until("a", "True").await;
    let stored = fixture.store.get(&key("a")).await.unwrap().unwrap();
    let mut bare = Value::clone(&stored.json);
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    let bare = admit(&Document::from_json(bare), &heddle_resource::AdmitOptions::default()).object().unwrap();
    assert!(bare.json.pointer("/status/conditions/0").is_some());
    fixture.put(bare).await;
    fixture.until("a", "").await;
}

#[tokio::test]
async fn a_declaration_that_makes_no_sense_is_told_in_the_condition() {
    let mut fixture = Fixture::new().await;
    for (name, annotations, expected) in [
        ("a", json!({"heddle.dev/health": "icmp"}), "found `icmp`, expected http:/path, tcp or grpc"),
        ("b", json!({"heddle.dev/health": "tcp", "heddle.dev/health-interval": "soon"}), "found `soon`"),
        ("c", json!({"heddle.dev/health": "tcp", "heddle.dev/health-port": "http"}), "a port number"),
        (
            "d",
            json!({"heddle.dev/health": "tcp", "heddle.dev/health-healthy-threshold": "0"}),
            "from 1 to 100",
        ),
    ] {
        fixture.put(entry(name, 80, annotations)).await;
        let message = fixture.until(name, "Unknown").await;
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn an_entry_whose_lease_lapses_is_gone() {
    let mut fixture = Fixture::new().await;
    let leased = json!({"heddle.dev/lease-ttl": "1s"});
    fixture.put(entry("short", 80, leased.clone())).await;
    fixture.put(entry("kept", 80, json!({}))).await;
    fixture.put(entry("wrong", 80, json!({"heddle.dev/lease-ttl": "a while"}))).await;
    fixture.until("short", "gone").await;
    assert!(fixture.store.get(&key("kept")).await.unwrap().is_some());
    assert!(fixture.store.get(&key("wrong")).await.unwrap().is_some());
}

#[tokio::test]
async fn tcp_is_asked_for_a_connection() {
    let port = heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let object = entry("a", port, json!({"heddle.dev/health": "tcp"}));
    let spec = CheckSpec::of(&object).unwrap().unwrap();
    assert_eq!(probe(&spec).await, Ok(()));
    drop(listener);
    let refused = probe(&spec).await.unwrap_err();
    assert!(refused.starts_with(&format!("127.0.0.1:{port}: ")), "{refused}");
}

#[tokio::test]
async fn one_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = json!({"heddle.dev/health": "http:/", "heddle.dev/health-timeout": "100ms"});
    let spec = CheckSpec::of(&entry("a", port, check)).unwrap().unwrap();
    assert_eq!(probe(&spec).await.unwrap_err(), format!("127.0.0.1:{port}: no answer within 100ms"));
}

/// A health service that gives one answer (a serving status, or a gRPC status of its own).
async fn grpc_server(serving: u8, grpc_status: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()["content-type"], "application/grpc");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", grpc_status.parse().unwrap());
                let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, serving]);
                let frames = [Frame::data(message), Frame::trailers(trailers)];
                let body = StreamBody::new(stream::iter(frames).map(Ok::<_, Infallible>));
                Ok::<_, Infallible>(
                    Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                )
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

#[tokio::test]
async fn grpc_is_asked_by_the_health_protocol() {
    for (serving, status, expected) in
        [(1, "0", Ok(())), (2, "0", Err("says NOT_SERVING")), (1, "5", Err("grpc-status \"5\""))]
    {
        let port = grpc_server(serving, status).await;
        let object = entry("a", port, json!({"heddle.dev/health": "grpc:shop.Cart"}));
        let outcome = probe(&CheckSpec::of(&object).unwrap().unwrap()).await;
        match expected {
            Ok(()) => assert_eq!(outcome, Ok(())),
            Err(text) => assert!(outcome.clone().unwrap_err().contains(text), "{outcome:?}"),
        }
    }
}

#[test]
fn the_port_checked_is_the_only_one_or_the_one_named() {
    let with = |ports: Value, annotations: Value| {
        let mut object = entry("a", 80, annotations);
        let Value::Object(json) = Arc::make_mut(&mut object.json) else { panic!() };
        json["spec"]["ports"] = ports;
        let document = Document::from_json(Value::Object(json.clone()));
        let object = admit(&document, &heddle_resource::AdmitOptions::default()).object().unwrap();
        CheckSpec::of(&object).map(|spec| spec.unwrap().target.to_string())
    };
    let http = || json!({"heddle.dev/health": "http:/"});
    assert_eq!(with(json!({"any": 7}), http()).unwrap(), "127.0.0.1:7");
    assert_eq!(with(json!({"http-web": 7, "metrics": 8}), http()).unwrap(), "127.0.0.1:7");
    let unclear = with(json!({"web": 7, "metrics": 8}), http()).unwrap_err();
    assert!(unclear.contains("metrics 8, web 7") && unclear.contains("heddle.dev/health-port"), "{unclear}");
    let named = json!({"heddle.dev/health": "http:/", "heddle.dev/health-port": "9"});
    assert_eq!(with(json!({}), named).unwrap(), "127.0.0.1:9");
}
