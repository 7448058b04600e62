//! helloworld and httpbin: in the mesh, and through their gateways of both languages.

use std::net::SocketAddr;

use heddle_tests::eventually;

use crate::kit::{Sample, shared, spread};

const HELLO: &[(&str, &str)] = &[("helloworld", "v1"), ("helloworld", "v2")];

/// Asks until `accept` likes the answer.
async fn answers(sample: &Sample, at: SocketAddr, path: &str, accept: impl Fn(&str) -> bool) {
    eventually(path, || async {
        let got = sample.ask(at, "sample.example", path, &[]).await;
        if accept(&got) { Ok(()) } else { Err(got) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helloworld_comes_in_through_its_gateway() {
    let Some(sample) = Sample::start(&["helloworld/helloworld.yaml"], HELLO).await else { return };
    sample.apply("helloworld/helloworld-gateway.yaml");
    let Some((_gateway, at)) = sample.gateway("istio:default/helloworld-gateway", 80).await else { return };
    answers(&sample, at, "/hello", |got| got.starts_with("helloworld-v")).await;
    assert_eq!(sample.ask(at, "sample.example", "/hello/more", &[]).await, "404", "the match is exact");
    let counts = spread(sample.client.outbound(), "helloworld:5000", "/", 800).await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["helloworld-v1", "helloworld-v2"], "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn helloworld_is_split_by_its_route() {
    let files = ["helloworld/helloworld.yaml", "helloworld/gateway-api/helloworld-versions.yaml"];
    let Some(sample) = Sample::start(&files, HELLO).await else { return };
    sample.apply("helloworld/gateway-api/helloworld-gateway.yaml");
    let Some((_gateway, at)) = sample.gateway("k8s:default/helloworld-gateway", 80).await else { return };
    answers(&sample, at, "/hello", |got| got.starts_with("helloworld-v")).await;
    sample.apply("helloworld/gateway-api/helloworld-route.yaml");
    let shares = [("helloworld-v1", 0.9), ("helloworld-v2", 0.1)];
    shared(10_000, &shares, async || spread(at, "sample.example", "/hello", 10_000).await).await;
    assert_eq!(sample.ask(at, "sample.example", "/", &[]).await, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn httpbin_answers_in_the_mesh_and_through_its_gateways() {
    let Some(sample) = Sample::start(&["httpbin/httpbin.yaml"], &[("httpbin", "v1")]).await else { return };
    sample.settles("httpbin:8000", &[], "httpbin-v1").await;
    sample.apply("httpbin/httpbin-gateway.yaml");
    sample.apply("httpbin/gateway-api/httpbin-gateway.yaml");
    for reference in ["istio:default/httpbin-gateway", "k8s:default/httpbin-gateway"] {
        let Some((_gateway, at)) = sample.gateway(reference, 80).await else { return };
        answers(&sample, at, "/any/path", |got| got == "httpbin-v1").await;
    }
}
