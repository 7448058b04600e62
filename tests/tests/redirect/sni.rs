//! TLSRoutes of the mesh: a program's TLS connections to one Service are told apart by the name that it asks for.

use std::net::SocketAddr;

use heddle_tests::{
    eventually,
    tls::{Authority, acceptor},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::kit::{Bed, Who, text};

/// Answers every connection over TLS with its name.
async fn backend(name: &'static str, authority: &Authority) -> SocketAddr {
    let acceptor = acceptor(&authority.issue(&["a.test", "b.test", "c.test"]), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    address
}

/// A Service with one endpoint.
fn service(name: &str, ip: u8, at: SocketAddr) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: 10.97.7.{ip}, ports: [{{name: tls, port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: tls, port: {}, protocol: TCP}}]
endpoints: [{{addresses: [{}]}}]
",
        at.port(),
        at.ip()
    )
}

fn route(name: &str, to: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: front}}]
  hostnames: [{name}.test]
  rules: [{{backendRefs: [{{name: {to}, port: 443}}]}}]
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_routes_of_the_mesh_tell_connections_apart_by_name() {
    let authority = Authority::new("mesh");
    let [front, one, two] = [
        backend("front", &authority).await,
        backend("one", &authority).await,
        backend("two", &authority).await,
    ];
    for who in Who::all() {
        let bed = Bed::start();
        std::fs::write(bed.file("ca.pem"), authority.pem()).unwrap();
        bed.mesh.apply(&(service("front", 1, front) + &service("one", 2, one) + &service("two", 3, two)));
        let ca = bed.file("ca.pem");
        let ask = |name: &str| {
            let script =
                format!("curl -sS --cacert {ca} --resolve {name}.test:443:10.97.7.1 https://{name}.test/");
            let output = bed.script(who, "default", &script);
            if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
        };
        let answers = async |name: &str, wanted: &str| {
            eventually(name, || async {
                let told = ask(name)?;
                if told == wanted { Ok(()) } else { Err(format!("{told}, wanted {wanted}")) }
            })
            .await;
        };
        answers("a", "front").await;
        bed.mesh.apply(&(route("a", "one") + &route("b", "two")));
        answers("a", "one").await;
        answers("b", "two").await;
        // Nobody has that name.
        let refused = ask("c").expect_err("a name that no route has");
        assert!(!refused.contains("certificate"), "{who:?}: {refused}");
    }
}
