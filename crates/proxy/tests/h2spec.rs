//! The conformance suite `h2spec` on the side that clients see.

mod kit;

use std::net::SocketAddr;
use std::process::Stdio;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use kit::backend::Backend;
use kit::tls::{Authority, downstream, presenting, secured};
use kit::*;

/// Runs all of h2spec; returns its report.
async fn h2spec(at: SocketAddr, more: &[&str]) -> Option<String> {
    let program = peer::find("h2spec")?;
    let output = tokio::process::Command::new(program)
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string(), "-o", "5"])
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(300), output).await;
    Some(String::from_utf8_lossy(&output.expect("a report in time").unwrap().stdout).into_owned())
}

/// A listener of this codec, in the clear.
async fn mesh(codec: hcm::http_connection_manager::CodecType) -> (Mesh, Backend) {
    let backend = Backend::named("more bytes than a window of a few").await;
    let mesh = Mesh::start(1, |at| {
        let mut manager = connection_manager(vec![to_cluster("/", "a")]);
        manager.codec_type = codec.into();
        let clusters = [static_cluster("a", &[backend.address])];
        let mut all = vec![encoded_listener(&listener("test", at, http_filter(&manager)))];
        all.extend(clusters.iter().map(encoded_cluster));
        all
    })
    .await;
    (mesh, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_h2spec_passes_in_the_clear() {
    let (mesh, _backend) = mesh(hcm::http_connection_manager::CodecType::Http2).await;
    let Some(report) = h2spec(mesh.address, &[]).await else { return };
    assert!(report.contains("145 tests, 145 passed, 0 skipped, 0 failed"), "{report}");
}

/// Where HTTP/1.1 is spoken too, what is no preface is no HTTP/2 (RFC 9113, 3.4: a server that cannot tell may answer
/// in the other version).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_both_versions_fails_the_invalid_preface_only() {
    let (mesh, _backend) = mesh(hcm::http_connection_manager::CodecType::Auto).await;
    let Some(report) = h2spec(mesh.address, &[]).await else { return };
    assert!(report.contains("145 tests, 144 passed, 0 skipped, 1 failed"), "{report}");
    assert!(report.contains("Sends invalid connection preface"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_h2spec_passes_over_tls() {
    let backend = Backend::named("more bytes than a window of a few").await;
    let mut common = presenting(&Authority::new("root").leaf("www.example.com"));
    common.alpn_protocols = vec!["h2".to_owned()];
    let context = downstream(common);
    let mesh = Mesh::start(1, |at| {
        let manager = connection_manager(vec![to_cluster("/", "a")]);
        let listener = secured(at, http_filter(&manager), &context);
        vec![encoded_listener(&listener), encoded_cluster(&static_cluster("a", &[backend.address]))]
    })
    .await;
    let Some(report) = h2spec(mesh.address, &["-t", "-k"]).await else { return };
    assert!(report.contains("145 tests, 145 passed, 0 skipped, 0 failed"), "{report}");
}
