//! Those who stand between a client and a [`Backend`]: heddle, and three that others wrote, in their simplest
//! configuration. heddle and Envoy get theirs from the same control plane: that of a gateway of Istio's kind.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use heddle_control::{Control, ControlConfig};
use heddle_proxy::{Proxy, ProxyConfig, Role};
use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};
use heddle_tests::{
    envoy::{Envoy, Join, free_address},
    eventually, peer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::backend::Backend;
use super::strict::{self, Message, Read};

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) backend: Backend,
    _running: Running,
}

#[expect(dead_code, reason = "each runs until dropped")]
enum Running {
    Envoy(Envoy, Control),
    Heddle(Box<Proxy>, Control),
    Process(Process),
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came back to a client.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Final responses.
    pub(crate) responses: Vec<Message>,
    /// Bytes behind them that are no response.
    pub(crate) wrong: Option<String>,
    /// The contender closed the connection.
    pub(crate) closed: bool,
}

impl Answers {
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.responses.iter().map(Message::status).collect()
    }
}

impl Contender {
    pub(crate) async fn heddle() -> Self {
        let backend = Backend::start().await;
        let at = free_address([127, 0, 0, 1]);
        let (control, xds) = control(backend.address, at.port()).await;
        let config = ProxyConfig {
            xds: format!("http://{xds}"),
            name: "client".into(),
            labels: [("app".to_owned(), "client".to_owned())].into(),
            workers: Some(1),
            role: Role::Gateway,
            gateway: Some("istio:default/gw".into()),
            bind: Some(at.ip()),
            ..ProxyConfig::default()
        };
        let proxy = Proxy::start(config).await.unwrap_or_else(|e| panic!("heddle: {e}"));
        Self { name: "heddle", address: at, backend, _running: Running::Heddle(Box::new(proxy), control) }
            .ready()
            .await
    }

    pub(crate) async fn envoy(dir: &Path) -> Option<Self> {
        let binary = peer::envoy()?;
        let backend = Backend::start().await;
        let at = free_address([127, 0, 0, 1]);
        let (control, xds) = control(backend.address, at.port()).await;
        let metadata = format!("GATEWAY: \"istio:default/gw\", BIND: \"{}\"", at.ip());
        let join = Join { api: "DELTA_GRPC", xds, role: "router", metadata: &metadata, args: &[] };
        let envoy = Envoy::start("envoy", &binary, &join, dir);
        let running = Running::Envoy(envoy, control);
        Some(Self { name: "envoy", address: at, backend, _running: running }.ready().await)
    }

    pub(crate) async fn nginx(dir: &Path) -> Option<Self> {
        let binary = peer::find("nginx", "HEDDLE_PEER_NGINX", &[])?;
        let (backend, at) = (Backend::start().await, free_address([127, 0, 0, 1]));
        let file = dir.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.log;\n\
             events {{}}\nhttp {{\n access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p;\n \
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n \
             upstream up {{ server {1}; keepalive 8; }}\n server {{ listen {at}; location / {{\n \
             proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\";\n \
             proxy_set_header Host $host; proxy_next_upstream off; }} }}\n}}\n",
            dir.display(),
            backend.address,
        );
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{e}"));
        let mut command = Command::new(binary);
        command.arg("-c").arg(&file).arg("-p").arg(dir).arg("-e").arg(dir.join("nginx.log"));
        Some(Self::process("nginx", command, at, backend).await)
    }

    pub(crate) async fn haproxy(dir: &Path) -> Option<Self> {
        let binary = peer::find("haproxy", "HEDDLE_PEER_HAPROXY", &[])?;
        let (backend, at) = (Backend::start().await, free_address([127, 0, 0, 1]));
        let file = dir.join("haproxy.cfg");
        let text = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\nfrontend f\n  bind {at}\n  default_backend b\nbackend b\n  server s {}\n",
            backend.address
        );
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{e}"));
        let mut command = Command::new(binary);
        command.arg("-db").arg("-f").arg(&file);
        Some(Self::process("haproxy", command, at, backend).await)
    }

    async fn process(name: &'static str, mut command: Command, at: SocketAddr, backend: Backend) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Running::Process(Process(child.unwrap_or_else(|e| panic!("{name}: {e}"))));
        Self { name, address: at, backend, _running: running }.ready().await
    }

    async fn ready(self) -> Self {
        eventually(self.name, || async {
            match self.settle().await {
                200 => Ok(()),
                status => Err(format!("status {status}")),
            }
        })
        .await;
        self
    }

    /// An ordinary request on a new connection; 0 is no answer.
    pub(crate) async fn settle(&self) -> u16 {
        let request = b"GET /settled HTTP/1.1\r\nHost: a.mesh\r\n\r\n";
        let answers = self.send(request, 1, Duration::from_secs(10)).await;
        answers.responses.first().map_or(0, Message::status)
    }

    /// Sends bytes on a new connection and reads until `count` final responses came, then until the end.
    pub(crate) async fn send(&self, bytes: &[u8], count: usize, most: Duration) -> Answers {
        let mut answers = Answers::default();
        let talk = self.talk(bytes, count, &mut answers);
        let _ = tokio::time::timeout(most, talk).await;
        answers
    }

    async fn talk(&self, bytes: &[u8], count: usize, answers: &mut Answers) -> std::io::Result<()> {
        let (mut read, mut write) = TcpStream::connect(self.address).await?.into_split();
        let mut head = bytes.starts_with(b"HEAD ");
        let (bytes, mut input) = (bytes.to_vec(), Vec::new());
        let sent = tokio::spawn(async move {
            let _ = write.write_all(&bytes).await;
            write
        });
        let mut sent = Some(sent);
        loop {
            while !input.is_empty() {
                match strict::response(&input, head) {
                    Read::Message(response, _) if response.until_close && !answers.closed => break,
                    Read::Message(response, len) => {
                        input.drain(..len);
                        if response.status() >= 200 {
                            answers.responses.push(response);
                            head = false;
                        }
                    }
                    Read::More if !answers.closed => break,
                    Read::More => {
                        answers.wrong = Some(format!("cut: {:?}", String::from_utf8_lossy(&input)));
                        break;
                    }
                    Read::Wrong(wrong) => {
                        answers.wrong = Some(format!("{wrong}: {:?}", String::from_utf8_lossy(&input)));
                        break;
                    }
                }
            }
            if answers.closed {
                return Ok(());
            }
            // What was asked for is here: whatever was smuggled behind it has until the end to show.
            if answers.responses.len() >= count
                && let Some(sent) = sent.take()
                && let Ok(mut write) = sent.await
            {
                let _ = write.shutdown().await;
            }
            answers.closed = matches!(read.read_buf(&mut input).await, Ok(0) | Err(_));
        }
    }
}

/// A control plane whose gateway `istio:default/gw` sends everything to one backend.
async fn control(backend: SocketAddr, port: u16) -> (Control, SocketAddr) {
    let text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a-mesh}}\nspec: {{hosts: [a.mesh], \
         ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, location: MESH_INTERNAL, endpoints: \
         [{{address: 127.0.0.1, ports: {{http: {}}}}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{selector: {{istio: gw}}, \
         servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec: {{hosts: ['*'], \
         gateways: [gw], http: [{{route: [{{destination: {{host: a.mesh}}}}], retries: {{attempts: 0}}}}]}}\n",
        backend.port()
    );
    let store = Arc::new(MemoryStore::new());
    for document in parse_documents(&text, "mesh.yaml") {
        let document = document.unwrap_or_else(|d| panic!("{d}"));
        let object = match admit(&document, &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => object,
            other => panic!("{other:?}"),
        };
        store.put(object, Precondition::Any).await.unwrap_or_else(|e| panic!("{e}"));
    }
    let control = Control::start(ControlConfig { stores: vec![store], ..ControlConfig::default() });
    control.wait_ready().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("{e}"));
    let xds = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
    tokio::spawn(heddle_xds::serve(listener, Arc::new(control.clone()), std::future::pending()));
    (control, xds)
}
