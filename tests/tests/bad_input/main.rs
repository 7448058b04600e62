//! Bad input of every sort, given to the built binary: each is refused by name and cause, and nothing else suffers.

mod disk;
mod http;
mod ports;
mod resources;
mod xds;

use std::{collections::BTreeMap, net::SocketAddr};

use heddle_tests::{
    backend::Backend,
    client::{Answer, get},
    eventually,
    mesh::{Mesh, Role},
};

/// A mesh with one service, `web`, and the sidecar of a client.
struct Bed {
    mesh: Mesh,
    client: Role,
    backend: Backend,
}

impl Bed {
    async fn start() -> Self {
        Self::on(Mesh::start()).await
    }

    async fn on(mesh: Mesh) -> Self {
        let backend = Backend::start("web").await;
        let bed = Self { client: mesh.client("client", "default", &BTreeMap::new()), mesh, backend };
        bed.mesh.apply(&service("web", bed.backend.port()));
        bed.serves("web").await;
        bed
    }

    async fn ask(&self, host: &str) -> Result<Answer, String> {
        get(self.client.outbound(), host, "/", &[]).await
    }

    /// Waits until requests to a host are answered.
    async fn serves(&self, host: &str) {
        eventually(host, || async {
            match self.ask(host).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Writes a file and applies it: exit code and what was said.
    fn apply(&self, name: &str, text: &str) -> (i32, String) {
        let file = self.mesh.scratch.path().join(name);
        std::fs::write(&file, text).unwrap();
        let (code, out, err) = self.mesh.heddle(&["apply", "-f", &file.display().to_string()]);
        (code, format!("{out}{err}"))
    }
}

/// A service with one instance on this machine.
fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}-1}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: {name}}}}}\n"
    )
}

/// The text that a proxy's admin interface has at a path.
async fn admin(proxy: &Role, path: &str) -> String {
    let at: SocketAddr = proxy.address("admin");
    let answer = get(at, "localhost", path, &[]).await.unwrap();
    String::from_utf8_lossy(&answer.body).into_owned()
}
