//! Requests through a real Envoy go where the resources say.

mod support;

use std::{net::SocketAddr, sync::Arc};

use heddle_control::{Control, ControlConfig};
use heddle_store::{MemoryStore, Store};
use support::{Envoy, Node, exchange, free, put_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A backend that answers its name and what it was sent, once per connection.
async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = vec![0; 16 << 10];
                let n = stream.read(&mut seen).await.unwrap_or(0);
                let body = format!("{name}\n{}", String::from_utf8_lossy(&seen[..n]));
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-Own: yes\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    address
}

const RESOURCES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}, {name: tcp, port: 9082}]}
---
apiVersion: v1
kind: Service
metadata: {name: alone, namespace: other}
spec: {selector: {app: reviews}, ports: [{name: web, port: 8080, appProtocol: http}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1}
spec: {address: 127.0.0.1, ports: {http: V1, tcp: V1}, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v2}
spec: {address: 127.0.0.1, ports: {http: V2, tcp: V2}, labels: {app: reviews, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: alone, namespace: other}
spec: {address: 127.0.0.1, ports: {web: V2}, labels: {app: reviews}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  gateways: [mesh, shop]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2, port: {number: 9080}}}]
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 418, body: {string: teapot}}
  - match: [{uri: {prefix: /abort}}]
    fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
    route: [{destination: {host: reviews, port: {number: 9080}}}]
  - match: [{uri: {prefix: /gone}}]
    redirect: {uri: /here, redirectCode: 302}
  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new, authority: inner}
    headers: {request: {set: {X-Percent: 100%%}}, response: {add: {x-seen: 'by mesh'}}}
    route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}}]
  - route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}}]
  tcp:
  - route: [{destination: {host: reviews, subset: v2, port: {number: 9082}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: GATEWAY, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// Method and path, host, further headers; and what the answer has to hold.
const CALLS: &[(&str, &str, &str, &[&str])] = &[
    ("GET /", "reviews:9080", "", &["200 OK", "v1\nGET / "]),
    ("GET /", "reviews", "", &["v1\n"]),
    ("GET /", "reviews.default.svc.cluster.local:9080", "", &["v1\n"]),
    ("GET /", "reviews:9080", "end-user: jason\r\n", &["v2\n"]),
    ("GET http://reviews:9080/absolute", "reviews:9080", "", &["v1\nGET /absolute"]),
    ("GET /direct", "reviews", "", &["418", "teapot"]),
    ("GET /abort", "reviews", "", &["555"]),
    ("GET /gone", "reviews", "", &["302", "/here"]),
    (
        "GET /old/x",
        "reviews",
        "X-Case: kept\r\n",
        &["GET /new/x", "Host: inner", "x-percent: 100%", "X-Case: kept", "X-Own: yes", "x-seen: by mesh"],
    ),
    ("GET /", "alone.other", "", &["v2\n"]),
    ("GET /", "alone.other:8080", "", &["v2\n"]),
    ("GET /", "alone", "", &["404"]),
    ("GET /", "unknown.example.com", "", &["404"]),
    ("GET /", "reviews:9999", "", &["404"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_where_the_resources_say() {
    let (v1, v2) = (backend("v1").await, backend("v2").await);
    let (outbound, inbound, gateway) = (free(), free(), free());
    let text = RESOURCES
        .replace("V1", &v1.port().to_string())
        .replace("V2", &v2.port().to_string())
        .replace("GATEWAY", &gateway.to_string());
    let store = Arc::new(MemoryStore::new());
    put_all(&store, &text).await;
    let stores: Vec<Arc<dyn Store>> = vec![store.clone()];
    let control = Control::start(ControlConfig { stores, ..ControlConfig::default() });
    control.wait_ready().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let xds = listener.local_addr().expect("bound").port();
    tokio::spawn(heddle_xds::serve(listener, Arc::new(control.clone()), std::future::pending()));

    let id = "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local";
    let metadata = format!(
        r#"{{NAMESPACE: default, LABELS: {{app: reviews}}, INTERCEPTION_MODE: NONE, OUTBOUND: "127.0.0.1:{outbound}", INBOUND: ["{}=127.0.0.1:{inbound}"]}}"#,
        v1.port()
    );
    let Some(sidecar) = Envoy::start(xds, &Node { id, metadata: &metadata, api_type: "DELTA_GRPC" }) else {
        return;
    };
    sidecar.settled(&control, id).await;
    for (line, host, headers, expected) in CALLS {
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
        let answer = exchange(&format!("127.0.0.1:{outbound}"), &request).await;
        for part in *expected {
            assert!(answer.contains(part), "{request}\nexpected {part:?} in\n{answer}");
        }
    }
    let tunnel = "CONNECT reviews:9082 HTTP/1.1\r\nHost: reviews:9082\r\n\r\nGET /inside HTTP/1.1\r\n\r\n";
    let answer = exchange(&format!("127.0.0.1:{outbound}"), tunnel).await;
    assert!(answer.contains("v2\nGET /inside"), "{answer}");
    let request = "GET /in HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n";
    let answer = exchange(&format!("127.0.0.1:{inbound}"), request).await;
    assert!(answer.contains("v1\nGET /in"), "{answer}");

    let id = "router~127.0.0.1~gw.default~default.svc.cluster.local";
    let metadata = r#"{NAMESPACE: default, LABELS: {istio: ingressgateway}, BIND: "127.0.0.1"}"#;
    let Some(router) = Envoy::start(xds, &Node { id, metadata, api_type: "GRPC" }) else { return };
    router.settled(&control, id).await;
    let address = format!("127.0.0.1:{gateway}");
    let request = "GET /g HTTP/1.1\r\nHost: reviews.default.svc.cluster.local\r\nConnection: close\r\n\r\n";
    let answer = exchange(&address, request).await;
    assert!(answer.contains("v1\nGET /g") && answer.contains("server: heddle"), "{answer}");
    let answer = exchange(&address, "GET / HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("404"), "{answer}");

    // A change reaches both, and is known to have.
    let text = text.replace("418", "419").replace("jason", "mary");
    put_all(&store, &text).await;
    let key = heddle_resource::Key::new(&heddle_resource::kind::VIRTUAL_SERVICE, "default", "reviews");
    let mut progress = control.progress();
    let stored = store.get(&key).await.expect("readable").expect("there").meta.resource_version.clone();
    let done = async {
        loop {
            match control.convergence(&key).await {
                Some(found) if found.revision == stored && found.done() => return found,
                _ => progress.changed().await.expect("alive"),
            }
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(10), done).await.expect("converges");
    assert_eq!((found.acked, found.total), (2, 2), "{found:?}");
    let request = "GET /direct HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n";
    assert!(exchange(&format!("127.0.0.1:{outbound}"), request).await.contains("419"));
}
