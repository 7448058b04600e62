//! httpx, websockets and grpcio. One process of each client goes through all pairs; servers end with their input.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use heddle_tests::{peer, root};
use serde_json::json;

use crate::{
    bed::{Bed, Keys, Version},
    run,
};

/// A server of a peer's script: in the clear at the first address, over TLS at the second.
struct Server {
    child: Child,
    addresses: [SocketAddr; 2],
}

impl Server {
    fn start(python: &PathBuf, script: &str, keys: &Keys) -> Self {
        let mut child = Command::new(python)
            .arg(root().join("tests/peers").join(script))
            .args(["serve", &keys.file("leaf.pem"), &keys.file("leaf.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut port = || lines.next().unwrap().unwrap().trim().parse::<u16>().unwrap();
        let addresses = [port(), port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Self { child, addresses }
    }

    fn endpoints(&self, http2: bool) -> [(Version, SocketAddr); 2] {
        [false, true].map(|tls| (Version { http2, tls }, self.addresses[usize::from(tls)]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client's script gets the pairs, one JSON object a line, and prints `pass` for each.
async fn through(python: &PathBuf, script: &str, bed: &Bed, speaks: impl Fn(Version) -> bool) {
    let pairs: Vec<String> = bed
        .pairs(speaks)
        .map(|pair| {
            json!({"name": pair.to_string(), "at": pair.at, "http2": pair.down.http2, "tls": pair.down.tls})
                .to_string()
        })
        .collect();
    let script = root().join("tests/peers").join(script).display().to_string();
    let args = [script.as_str(), "call", &bed.keys.file("ca.pem")];
    let said = run(python, &args, Some(pairs.join("\n").as_bytes())).await.unwrap_or_else(|e| panic!("{e}"));
    let passed = said.lines().filter(|line| line.starts_with("pass ")).count();
    assert_eq!(passed, pairs.len(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn httpx_passes_in_every_pairing() {
    let Some(python) = peer::python() else { return };
    let bed = crate::bed().await;
    through(&python, "httpx_peer.py", &bed, |_| true).await;
}

/// Between HTTP/1.1 on both sides. Over HTTP/2 a WebSocket is an extended CONNECT (RFC 8441): its pairs belong here,
/// `server.endpoints(true)` and a client that speaks it, as soon as the proxy does.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_passes_by_upgrade() {
    let Some(python) = peer::python() else { return };
    let keys = Keys::new();
    let server = Server::start(&python, "websocket_peer.py", &keys);
    let bed = Bed::start(keys, &server.endpoints(false)).await;
    through(&python, "websocket_peer.py", &bed, |down| !down.http2).await;
}

/// gRPC is HTTP/2 (its status is a trailer), so both sides have to be.
#[tokio::test(flavor = "multi_thread")]
async fn grpcio_passes_in_every_pairing_of_its_version() {
    let Some(python) = peer::python() else { return };
    let keys = Keys::new();
    let server = Server::start(&python, "grpc_pairs.py", &keys);
    let bed = Bed::start(keys, &server.endpoints(true)).await;
    through(&python, "grpc_pairs.py", &bed, |down| down.http2).await;
}
