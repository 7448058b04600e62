//! A mesh with a sample's files applied as they are, and processes registered as its services.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
};

use heddle_tests::{
    backend::Backend,
    client::{Connection, get},
    eventually,
    mesh::{Mesh, Role},
    say, shared_data,
};

/// A mesh with a sample's services, instances registered by hand, and a client's sidecar.
pub(crate) struct Sample {
    pub(crate) mesh: Mesh,
    pub(crate) client: Role,
    backends: Vec<Backend>,
    data: PathBuf,
}

impl Sample {
    /// `instances`: service and version; each is an HTTP server that answers with its name.
    pub(crate) async fn start(files: &[&str], instances: &[(&str, &str)]) -> Option<Self> {
        let data = shared_data()?.join("istio-samples");
        let mesh = Mesh::start();
        let client = mesh.client("productpage", "default", &BTreeMap::from([("app", "productpage")]));
        let mut sample = Self { client, mesh, backends: Vec::new(), data };
        for file in files {
            sample.apply(file);
        }
        for (service, version) in instances {
            let backend = Backend::start(&format!("{service}-{version}")).await;
            sample.register(service, version, backend.address, None);
            sample.backends.push(backend);
        }
        Some(sample)
    }

    /// Registers an instance as a person would.
    pub(crate) fn register(
        &self,
        service: &str,
        version: &str,
        address: SocketAddr,
        port_name: Option<&str>,
    ) {
        let (address, labels) = (address.to_string(), format!("app={service},version={version}"));
        let mut args = vec!["register", "--service", service, "--address", &address, "--labels", &labels];
        if let Some(name) = port_name {
            args.extend(["--port-name", name]);
        }
        let (code, out, err) = self.mesh.heddle(&args);
        assert_eq!(code, 0, "register {service} {version}: {out}{err}");
    }

    /// Starts a gateway on an address of its own, and waits until it opens `port`. `None`, said loudly, where this
    /// user may not bind that port.
    pub(crate) async fn gateway(&self, gateway: &str, port: u16) -> Option<(Role, SocketAddr)> {
        let ip = own_ip();
        if let Err(error) = std::net::TcpListener::bind((ip, port)) {
            say(&format!("LEFT OUT: the sample's gateway needs {ip}:{port}: {error}"));
            return None;
        }
        let labels = BTreeMap::from([("istio", "ingressgateway")]);
        let role = self.mesh.gateway(gateway, &ip.to_string(), &labels);
        let address = eventually("the gateway opens its port", || async { listener(&role).await }).await;
        assert_eq!(address.port(), port, "the port that the file names");
        Some((role, address))
    }

    /// Applies a file as it is, and waits until every connected proxy serves it.
    pub(crate) fn apply(&self, file: &str) -> String {
        let path = self.data.join(file).display().to_string();
        let (code, out, err) = self.mesh.heddle(&["apply", "--wait", "-f", &path]);
        assert_eq!(code, 0, "{file}: {out}{err}");
        err
    }

    /// Which backend answers, by name.
    pub(crate) async fn ask(
        &self,
        to: SocketAddr,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> String {
        match get(to, host, path, headers).await {
            Ok(answer) if answer.status == 200 => answer.backend(),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error,
        }
    }

    pub(crate) async fn ask_mesh(&self, host: &str, headers: &[(&str, &str)]) -> String {
        self.ask(self.client.outbound(), host, "/", headers).await
    }

    pub(crate) async fn settles(&self, host: &str, headers: &[(&str, &str)], expected: &str) {
        eventually(&format!("{host} {headers:?} -> {expected}"), || async {
            let got = self.ask_mesh(host, headers).await;
            if got == expected { Ok(()) } else { Err(got) }
        })
        .await;
    }
}

/// How many of `of` requests each backend answered.
pub(crate) async fn spread(to: SocketAddr, host: &str, path: &str, of: usize) -> BTreeMap<String, usize> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (host, path) = (host.to_owned(), path.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(to).await?;
            let mut counts = BTreeMap::<String, usize>::new();
            for _ in 0..of / 8 {
                let answer = connection.send("GET", &host, &path, &[], b"").await?;
                let name = if answer.status == 200 { answer.backend() } else { answer.status.to_string() };
                *counts.entry(name).or_default() += 1;
            }
            Ok::<_, String>(counts)
        }));
    }
    let mut all = BTreeMap::new();
    for task in tasks {
        for (name, count) in task.await.unwrap().unwrap() {
            *all.entry(name).or_default() += count;
        }
    }
    all
}

/// Draws `of` answers: each of `shares` has its part of them, within three sigma, and nobody else answers. A fair draw leaves
/// three sigma once in 370 times, so only a second one outside says that the shares are wrong.
pub(crate) async fn shared(
    of: usize,
    shares: &[(&str, f64)],
    draw: impl AsyncFn() -> BTreeMap<String, usize>,
) {
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let counts = draw().await;
        let names: Vec<_> = shares.iter().map(|(name, _)| *name).collect();
        assert_eq!(counts.keys().collect::<Vec<_>>(), names, "{counts:?}");
        assert_eq!(counts.values().sum::<usize>(), of, "{counts:?}");
        let within = |(name, share): &(&str, f64)| {
            let (expected, sigma) = (share * of as f64, (of as f64 * share * (1.0 - share)).sqrt());
            (counts[*name] as f64 - expected).abs() <= 3.0 * sigma
        };
        if shares.iter().all(within) {
            return;
        }
        seen.push(counts);
    }
    panic!("expected {shares:?} of {of}, twice seen: {seen:?}");
}

/// The first listener that the proxy's admin interface names.
async fn listener(proxy: &Role) -> Result<SocketAddr, String> {
    let answer = get(proxy.address("admin"), "localhost", "/listeners?format=json", &[]).await?;
    let page = answer.json();
    let address = &page["listener_statuses"][0]["local_address"]["socket_address"];
    let text = format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"]);
    text.parse().map_err(|_| format!("no listener yet: {page}"))
}

/// A loopback address that no other test binds: the samples name fixed ports.
fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 130 + NEXT.fetch_add(1, Ordering::Relaxed) % 64, high, low.clamp(1, 254))
}
