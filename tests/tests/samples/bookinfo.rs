//! Bookinfo: versions, splits, faults and the way in through its gateway.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use heddle_tests::{eventually, mesh::Mesh, shared_data};

use crate::kit::{Sample, shared, spread};

const JASON: &[(&str, &str)] = &[("end-user", "jason")];

const BOOKINFO: &[(&str, &str)] = &[
    ("productpage", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("ratings", "v1"),
    ("details", "v1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn bookinfo_goes_where_its_files_say() {
    let files = ["bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/destination-rule-all.yaml"];
    let Some(sample) = Sample::start(&files, BOOKINFO).await else { return };
    let outbound = sample.client.outbound();

    sample.apply("bookinfo/networking/virtual-service-all-v1.yaml");
    sample.settles("reviews:9080", &[], "reviews-v1").await;
    sample.settles("details:9080", &[], "details-v1").await;
    let counts = spread(outbound, "reviews:9080", "/", 400).await;
    assert_eq!(counts, BTreeMap::from([("reviews-v1".to_owned(), 400)]), "all to v1");

    for (file, shares) in [
        ("virtual-service-reviews-90-10.yaml", [("reviews-v1", 0.9), ("reviews-v2", 0.1)]),
        ("virtual-service-reviews-80-20.yaml", [("reviews-v1", 0.8), ("reviews-v2", 0.2)]),
        ("virtual-service-reviews-50-v3.yaml", [("reviews-v1", 0.5), ("reviews-v3", 0.5)]),
        ("virtual-service-reviews-v2-v3.yaml", [("reviews-v2", 0.5), ("reviews-v3", 0.5)]),
    ] {
        sample.apply(&format!("bookinfo/networking/{file}"));
        shared(10_000, &shares, async || spread(outbound, "reviews:9080", "/", 10_000).await).await;
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
    let Some((_gateway, address)) = sample.gateway("istio:default/bookinfo-gateway", 8080).await else {
        return;
    };
    let productpage = || sample.ask(address, "bookinfo.example", "/productpage", &[]);
    eventually("productpage through the gateway", || async {
        let got = productpage().await;
        if got == "productpage-v1" { Ok(()) } else { Err(got) }
    })
    .await;
    assert_eq!(sample.ask(address, "bookinfo.example", "/static/x.css", &[]).await, "productpage-v1");
    assert_eq!(sample.ask(address, "bookinfo.example", "/nothing", &[]).await, "404");
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
