//! A WebSocket from app to app where the hop between their two sidecars is HTTP/2.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use heddle_tests::{eventually, mesh::Mesh, peer, root};
use serde_json::json;

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: PORT}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec: {host: shop, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}
";

/// Ends its process with its scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_between_sidecars_that_speak_http2() {
    let Some(python) = peer::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mesh = Mesh::with(&["--access-log-file", log.to_str().unwrap()]);
    let script = root().join("tests/peers/websocket_peer.py");
    let mut server = Command::new(&python);
    server.arg(&script).args(["serve"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Running(server.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();

    // The sidecar knows by the service's port what the program speaks.
    mesh.apply(&SHOP.replace("PORT", &port.to_string()));
    let sidecar = mesh.sidecar("shop-1", "default", &BTreeMap::from([("app", "shop")]), port);
    let address = sidecar.inbound(port).to_string();
    let (code, out, err) =
        mesh.heddle(&["register", "--service", "shop", "--address", &address, "--labels", "app=shop"]);
    assert_eq!(code, 0, "register: {out}{err}");
    let client = mesh.client("front", "default", &BTreeMap::new());
    let pair = json!({"name": "mesh", "at": client.outbound(), "host": "shop", "http2": false, "tls": false});
    // The endpoint is known to the proxy some time after it was registered.
    eventually("a WebSocket from app to app", || async {
        let mut call = Command::new(&python);
        call.arg(&script).arg("call").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut call = call.spawn().unwrap();
        call.stdin.take().unwrap().write_all(pair.to_string().as_bytes()).unwrap();
        let said = String::from_utf8(call.wait_with_output().unwrap().stdout).unwrap();
        if said.starts_with("pass ") { Ok(()) } else { Err(said) }
    })
    .await;
    eventually("the log says how it came", || async {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let (app, hop) = ("\"GET /chat HTTP/1.1\" 101", "\"GET /chat HTTP/2\" 101");
        if text.contains(app) && text.contains(hop) { Ok(()) } else { Err(text) }
    })
    .await;
}
