//! WebSockets in every pairing: by upgrade over HTTP/1.1 and by extended CONNECT over HTTP/2 (RFC 8441).
//!
//! `websockets` speaks HTTP/1.1. To speak HTTP/2 to the proxy there are `nghttpx`, which makes one of the other, and a client of
//! `h2` and `wsproto`; behind the proxy HAProxy takes HTTP/2 and asks the server over HTTP/1.1.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use heddle_tests::{envoy::free_address, eventually, peer};

use crate::{
    bed::{Bed, Keys, Pair, Version},
    python::{Server, call, told},
};

const SCRIPT: &str = "websocket_peer.py";

/// A running program.
struct Running(Child);

impl Running {
    async fn start(command: &mut Command, opens: &[SocketAddr]) -> Self {
        let process = Self(command.stdin(Stdio::null()).spawn().unwrap());
        for at in opens {
            eventually("the program listens", || async {
                tokio::net::TcpStream::connect(at).await.map(drop).map_err(|e| format!("{at}: {e}"))
            })
            .await;
        }
        process
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy, which takes HTTP/2 in the clear and over TLS.
async fn behind(program: &Path, keys: &Keys, server: SocketAddr) -> (Running, [(Version, SocketAddr); 2]) {
    let opened = [false, true].map(|tls| (Version { http2: true, tls }, free_address([127, 0, 0, 1])));
    let both = keys.file("both.pem");
    let read = |name| std::fs::read_to_string(keys.file(name)).unwrap();
    std::fs::write(&both, read("leaf.pem") + &read("leaf.key")).unwrap();
    let text = format!(
        "global\n  tune.ssl.default-dh-param 2048\ndefaults\n  mode http\n  timeout connect 20s\n  timeout client 60s\n  \
         timeout server 60s\n  timeout tunnel 60s\nfrontend all\n  bind {} proto h2\n  bind {} ssl crt {both} alpn h2\n  \
         default_backend server\nbackend server\n  server one {server}\n",
        opened[0].1, opened[1].1
    );
    std::fs::write(keys.file("haproxy.cfg"), text).unwrap();
    let mut command = Command::new(program);
    command.args(["-db", "-q", "-f", &keys.file("haproxy.cfg")]);
    (Running::start(&mut command, &opened.map(|(_, at)| at)).await, opened)
}

/// nghttpx, which takes HTTP/1.1 and asks the proxy over HTTP/2: pair by pair, told apart by path.
async fn before(program: &Path, keys: &Keys, pairs: &[&Pair]) -> (Running, SocketAddr) {
    let at = free_address([127, 0, 0, 1]);
    let mut command = Command::new(program);
    command.args(["--conf=/dev/null", "--workers=1", "--accesslog-file=/dev/null", "--log-level=ERROR"]);
    command.arg(format!("--frontend={},{};no-tls", at.ip(), at.port()));
    command.arg(format!("--cacert={}", keys.file("ca.pem")));
    for (number, pair) in pairs.iter().enumerate() {
        let secured = if pair.down.tls { ";tls;sni=localhost" } else { "" };
        let (ip, port) = (pair.at.ip(), pair.at.port());
        command.arg(format!("--backend={ip},{port};/{number}/;proto=h2{secured}"));
    }
    // What is asked for no pair goes nowhere.
    command.arg("--backend=127.0.0.1,9;/");
    (Running::start(&mut command, &[at]).await, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_in_every_pairing() {
    let nghttpx = peer::find("nghttpx", "HEDDLE_PEER_NGHTTPX", &[]);
    let haproxy = peer::find("haproxy", "HEDDLE_PEER_HAPROXY", &[]);
    let (Some(python), Some(nghttpx), Some(haproxy)) = (peer::python(), nghttpx, haproxy) else { return };
    let keys = Keys::new();
    let server = Server::start(&python, SCRIPT, &keys, false);
    let (_behind, http2) = behind(&haproxy, &keys, server.addresses[0].1).await;
    let bed = Bed::start(keys, &[server.addresses, http2].concat()).await;
    let mut pairs: Vec<_> = bed.pairs(|_| true).map(told).collect();
    let over: Vec<&Pair> = bed.pairs(|down| down.http2).collect();
    let (_before, at) = before(&nghttpx, &bed.keys, &over).await;
    for (number, pair) in over.iter().enumerate() {
        let mut told = told(pair);
        (told["name"], told["path"]) = (format!("nghttpx, {pair}").into(), format!("/{number}").into());
        (told["at"], told["http2"], told["tls"]) = (at.to_string().into(), false.into(), false.into());
        pairs.push(told);
    }
    assert_eq!(pairs.len(), 16 + 8);
    call(&python, SCRIPT, &bed.keys, pairs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_end_in_every_pairing_when_their_clients_leave() {
    const SCRIPT: &str = "websocket_leaving.py";
    let haproxy = peer::find("haproxy", "HEDDLE_PEER_HAPROXY", &[]);
    let (Some(python), Some(haproxy)) = (peer::python(), haproxy) else { return };
    let keys = Keys::new();
    let server = Server::start(&python, SCRIPT, &keys, false);
    let (_behind, http2) = behind(&haproxy, &keys, server.addresses[0].1).await;
    let bed = Bed::start(keys, &[server.addresses, http2].concat()).await;
    let pairs: Vec<_> = bed.pairs(|_| true).map(told).collect();
    assert_eq!(pairs.len(), 16);
    call(&python, SCRIPT, &bed.keys, pairs).await;
}
