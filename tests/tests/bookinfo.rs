//! Istio's own samples, unmodified: with processes registered as their services, traffic goes where the files say.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use heddle_tests::{
    backend::Backend,
    client::{Connection, get},
    eventually,
    mesh::{Mesh, Role},
    shared_data,
};

const JASON: &[(&str, &str)] = &[("end-user", "jason")];

/// A mesh with a sample's services, instances registered by hand, and a client's sidecar.
struct Sample {
    mesh: Mesh,
    client: Role,
    backends: Vec<Backend>,
    data: PathBuf,
}

impl Sample {
    /// `instances`: service, version, port name.
    async fn start(files: &[&str], instances: &[(&str, &str, Option<&str>)]) -> Option<Self> {
        let data = shared_data()?.join("istio-samples");
        let mesh = Mesh::start();
        let sample = Self {
            client: mesh.client("productpage", "default", &BTreeMap::from([("app", "productpage")])),
            mesh,
            backends: Vec::new(),
            data,
        };
        let mut sample = sample;
        for file in files {
            sample.apply(file);
        }
        for (service, version, port_name) in instances {
            let backend = Backend::start(&format!("{service}-{version}")).await;
            let (address, labels) = (backend.address.to_string(), format!("app={service},version={version}"));
            let mut args = vec!["register", "--service", service, "--address", &address, "--labels", &labels];
            if let Some(name) = port_name {
                args.extend(["--port-name", name]);
            }
            let (code, out, err) = sample.mesh.heddle(&args);
            assert_eq!(code, 0, "register {service} {version}: {out}{err}");
            sample.backends.push(backend);
        }
        Some(sample)
    }

    /// Applies a file as it is, and waits until the client's sidecar serves it.
    fn apply(&self, file: &str) -> String {
        let path = self.data.join(file).display().to_string();
        let (code, out, err) = self.mesh.heddle(&["apply", "--wait", "-f", &path]);
        assert_eq!(code, 0, "{file}: {out}{err}");
        err
    }

    /// Which backend answers, by name.
    async fn ask(&self, to: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> String {
        match get(to, host, path, headers).await {
            Ok(answer) if answer.status == 200 => answer.backend(),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error,
        }
    }

    async fn ask_mesh(&self, host: &str, headers: &[(&str, &str)]) -> String {
        self.ask(self.client.outbound(), host, "/", headers).await
    }

    async fn settles(&self, host: &str, headers: &[(&str, &str)], expected: &str) {
        eventually(&format!("{host} {headers:?} -> {expected}"), || async {
            let got = self.ask_mesh(host, headers).await;
            if got == expected { Ok(()) } else { Err(got) }
        })
        .await;
    }
}

/// How many of `of` requests each backend answered.
async fn spread(to: SocketAddr, host: &str, of: usize) -> BTreeMap<String, usize> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let host = host.to_owned();
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(to).await?;
            let mut counts = BTreeMap::<String, usize>::new();
            for _ in 0..of / 8 {
                let answer = connection.send("GET", &host, "/", &[], b"").await?;
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

/// `share` of `of` within three sigma.
fn within_three_sigma(counts: &BTreeMap<String, usize>, name: &str, share: f64, of: usize) {
    let got = counts.get(name).copied().unwrap_or(0) as f64;
    let (expected, sigma) = (share * of as f64, (of as f64 * share * (1.0 - share)).sqrt());
    assert!(
        (got - expected).abs() <= 3.0 * sigma,
        "{name}: {got}, expected {expected} ± {:.0}: {counts:?}",
        3.0 * sigma
    );
}

const BOOKINFO: &[(&str, &str, Option<&str>)] = &[
    ("productpage", "v1", None),
    ("reviews", "v1", None),
    ("reviews", "v2", None),
    ("reviews", "v3", None),
    ("ratings", "v1", None),
    ("details", "v1", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn bookinfo_goes_where_its_files_say() {
    let files = ["bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-all.yaml"];
    let Some(sample) = Sample::start(&files, BOOKINFO).await else { return };
    let outbound = sample.client.outbound();

    sample.apply("bookinfo/networking/virtual-service-all-v1.yaml");
    sample.settles("reviews:9080", &[], "reviews-v1").await;
    sample.settles("details:9080", &[], "details-v1").await;
    let counts = spread(outbound, "reviews:9080", 400).await;
    assert_eq!(counts, BTreeMap::from([("reviews-v1".to_owned(), 400)]), "all to v1");

    for (file, shares) in [
        ("virtual-service-reviews-90-10.yaml", [("reviews-v1", 0.9), ("reviews-v2", 0.1)]),
        ("virtual-service-reviews-80-20.yaml", [("reviews-v1", 0.8), ("reviews-v2", 0.2)]),
        ("virtual-service-reviews-50-v3.yaml", [("reviews-v1", 0.5), ("reviews-v3", 0.5)]),
        ("virtual-service-reviews-v2-v3.yaml", [("reviews-v2", 0.5), ("reviews-v3", 0.5)]),
    ] {
        sample.apply(&format!("bookinfo/networking/{file}"));
        let counts = spread(outbound, "reviews:9080", 10_000).await;
        assert_eq!(counts.values().sum::<usize>(), 10_000, "{file}: {counts:?}");
        for (name, share) in shares {
            within_three_sigma(&counts, name, share, 10_000);
        }
        assert_eq!(counts.len(), 2, "{file}: {counts:?}");
    }

    sample.apply("bookinfo/networking/virtual-service-reviews-test-v2.yaml");
    for _ in 0..20 {
        assert_eq!(sample.ask_mesh("reviews:9080", JASON).await, "reviews-v2");
        assert_eq!(sample.ask_mesh("reviews:9080", &[("end-user", "ada")]).await, "reviews-v1");
    }
    sample.apply("bookinfo/networking/virtual-service-reviews-jason-v2-v3.yaml");
    assert_eq!(sample.ask_mesh("reviews:9080", JASON).await, "reviews-v2");
    assert_eq!(sample.ask_mesh("reviews:9080", &[]).await, "reviews-v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn bookinfo_faults_strike_jason_only() {
    let files = ["bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-all.yaml"];
    let Some(sample) = Sample::start(&files, BOOKINFO).await else { return };
    sample.apply("bookinfo/networking/virtual-service-ratings-test-delay.yaml");
    sample.settles("ratings:9080", &[], "ratings-v1").await;
    let begun = Instant::now();
    assert_eq!(sample.ask_mesh("ratings:9080", JASON).await, "ratings-v1");
    assert!(begun.elapsed() >= Duration::from_secs(7), "jason waited only {:?}", begun.elapsed());
    sample.apply("bookinfo/networking/virtual-service-ratings-test-abort.yaml");
    assert_eq!(sample.ask_mesh("ratings:9080", JASON).await, "500");
    assert_eq!(sample.ask_mesh("ratings:9080", &[]).await, "ratings-v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn bookinfo_comes_in_through_its_gateway() {
    let Some(sample) = Sample::start(&["bookinfo/platform/kube/bookinfo.yaml"], BOOKINFO).await else {
        return;
    };
    sample.apply("bookinfo/networking/bookinfo-gateway.yaml");
    let gateway = sample.mesh.gateway(
        "istio:default/bookinfo-gateway",
        "127.0.0.1",
        &BTreeMap::from([("istio", "ingressgateway")]),
    );
    let address = eventually("the gateway opens its port", || async { listener(&gateway).await }).await;
    let productpage = || sample.ask(address, "bookinfo.example", "/productpage", &[]);
    eventually("productpage through the gateway", || async {
        let got = productpage().await;
        if got == "productpage-v1" { Ok(()) } else { Err(got) }
    })
    .await;
    assert_eq!(sample.ask(address, "bookinfo.example", "/static/x.css", &[]).await, "productpage-v1");
    assert_eq!(sample.ask(address, "bookinfo.example", "/nothing", &[]).await, "404");
}

/// The first listener that the proxy's admin interface names.
async fn listener(proxy: &Role) -> Result<SocketAddr, String> {
    let answer = get(proxy.address("admin"), "localhost", "/listeners?format=json", &[]).await?;
    let page = answer.json();
    let address = &page["listener_statuses"][0]["local_address"]["socket_address"];
    let text = format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"]);
    text.parse().map_err(|_| format!("no listener yet: {page}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn helloworld_splits_and_httpbin_answers() {
    let instances = [("helloworld", "v1", None), ("helloworld", "v2", None), ("httpbin", "v1", None)];
    let files = ["helloworld/helloworld.yaml", "httpbin/httpbin.yaml"];
    let Some(sample) = Sample::start(&files, &instances).await else { return };
    sample.apply("helloworld/helloworld-gateway.yaml");
    let gateway = sample.mesh.gateway(
        "istio:default/helloworld-gateway",
        "127.0.0.2",
        &BTreeMap::from([("istio", "ingressgateway")]),
    );
    let address = eventually("the gateway opens its port", || async { listener(&gateway).await }).await;
    eventually("hello through the gateway", || async {
        let got = sample.ask(address, "hello.example", "/hello", &[]).await;
        if got.starts_with("helloworld-v") { Ok(()) } else { Err(got) }
    })
    .await;
    sample.settles("httpbin:8000", &[], "httpbin-v1").await;
    let counts = spread(sample.client.outbound(), "helloworld:5000", 800).await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["helloworld-v1", "helloworld-v2"], "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bookinfo_file_is_accepted() {
    let Some(data) = shared_data() else { return };
    for folder in ["networking", "gateway-api"] {
        let mesh = Mesh::start();
        let mut files: Vec<PathBuf> = std::fs::read_dir(data.join("istio-samples/bookinfo").join(folder))
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            let (code, out, err) = mesh.heddle(&["apply", "-f", &file.display().to_string()]);
            assert_eq!(code, 0, "{}: {out}{err}", file.display());
        }
    }
}
