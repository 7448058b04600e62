//! httpx and grpcio, and what such scripts have in common. One process of each client goes through all pairs; servers end with their input.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use heddle_tests::{peer, root};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, Keys, Pair, Version},
    run,
};

/// A server of a peer's script: in the clear and over TLS.
pub(crate) struct Server {
    child: Child,
    pub(crate) addresses: [(Version, SocketAddr); 2],
}

impl Server {
    pub(crate) fn start(python: &PathBuf, script: &str, keys: &Keys, http2: bool) -> Self {
        let mut child = Command::new(python)
            .arg(root().join("tests/peers").join(script))
            .args(["serve", &keys.file("leaf.pem"), &keys.file("leaf.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut port = || lines.next().unwrap().unwrap().trim().parse::<u16>().unwrap();
        let mut address = || SocketAddr::from(([127, 0, 0, 1], port()));
        let addresses = [false, true].map(|tls| (Version { http2, tls }, address()));
        Self { child, addresses }
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
    let pairs = bed.pairs(speaks).map(told).collect();
    call(python, script, &bed.keys, pairs).await;
}

/// A pair as scripts are told of it.
pub(crate) fn told(pair: &Pair) -> Value {
    json!({"name": pair.to_string(), "at": pair.at, "http2": pair.down.http2, "tls": pair.down.tls})
}

pub(crate) async fn call(python: &PathBuf, script: &str, keys: &Keys, pairs: Vec<Value>) {
    let lines: Vec<String> = pairs.iter().map(Value::to_string).collect();
    let script = root().join("tests/peers").join(script).display().to_string();
    let args = [script.as_str(), "call", &keys.file("ca.pem")];
    let said = run(python, &args, Some(lines.join("\n").as_bytes())).await.unwrap_or_else(|e| panic!("{e}"));
    let passed = said.lines().filter(|line| line.starts_with("pass ")).count();
    assert_eq!(passed, pairs.len(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn httpx_passes_in_every_pairing() {
    let Some(python) = peer::python() else { return };
    let bed = crate::bed().await;
    through(&python, "httpx_peer.py", &bed, |_| true).await;
}

/// gRPC is HTTP/2 (its status is a trailer), so both sides have to be.
#[tokio::test(flavor = "multi_thread")]
async fn grpcio_passes_in_every_pairing_of_its_version() {
    let Some(python) = peer::python() else { return };
    let keys = Keys::new();
    let server = Server::start(&python, "grpc_pairs.py", &keys, true);
    let bed = Bed::start(keys, &server.addresses).await;
    through(&python, "grpc_pairs.py", &bed, |down| down.http2).await;
}
