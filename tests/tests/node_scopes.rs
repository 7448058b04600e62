//! One proxy carries two namespaces, and each sees the mesh as its own `Sidecar` resource says.

use std::net::SocketAddr;

use heddle_tests::{
    backend::Backend,
    client::get,
    eventually,
    mesh::{Mesh, Role},
};

const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: blue}
spec:
  egress:
  - hosts: ['./*']
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: green}
spec:
  egress:
  - hosts: ['./*', 'blue/*']
";

/// A Service and a WorkloadEntry for a backend.
fn service(name: &str, namespace: &str, backend: &Backend) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: {name}}}}}
",
        port = backend.port()
    )
}

async fn ask(to: SocketAddr, host: &str) -> String {
    match get(to, host, "/", &[]).await {
        Ok(answer) if answer.status == 200 => answer.backend(),
        Ok(answer) => answer.status.to_string(),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_proxy_carries_two_namespaces() {
    let mesh = Mesh::start();
    let (web, shop) = (Backend::start("web.blue").await, Backend::start("shop.green").await);
    mesh.apply(&format!("{RESOURCES}{}{}", service("web", "blue", &web), service("shop", "green", &shop)));
    let xds = mesh.xds();
    let args = [
        "proxy",
        "--role",
        "node",
        "--xds",
        &xds,
        "--namespace",
        "infra",
        "--workload",
        "node-1",
        "--workers",
        "1",
        "--outbound",
        "blue=127.0.0.1:0",
        "--outbound",
        "green=127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--dns",
        "127.0.0.1:0",
    ];
    let node = Role::start("node", &mesh.scratch.path().join("node"), &args);
    let outbound =
        |index: usize| -> SocketAddr { node.ports["outbound"][index].as_str().unwrap().parse().unwrap() };
    let (blue, green) = (outbound(0), outbound(1));
    for (from, to, host, expected) in [
        ("blue", blue, "web", "web.blue"),
        ("green", green, "shop", "shop.green"),
        ("green", green, "web.blue", "web.blue"),
        // Short names are those of the asker's namespace, and what a Sidecar leaves out does not exist.
        ("blue", blue, "shop.green", "404"),
        ("blue", blue, "shop", "404"),
        ("green", green, "web", "404"),
    ] {
        eventually(&format!("{from} asks for {host}"), || async {
            let got = ask(to, host).await;
            if got == expected { Ok(()) } else { Err(got) }
        })
        .await;
    }
}
