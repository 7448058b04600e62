//! A successor serves TLS at once, though its certificates came by a control plane that is gone.

use std::net::{Ipv4Addr, SocketAddr};

use heddle_tests::{
    eventually,
    tls::{Authority, connector},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Ground, HOST};

async fn handshake(connector: &TlsConnector, at: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(at).await.map_err(|e| e.to_string())?;
    let name = ServerName::try_from(HOST).map_err(|e| e.to_string())?;
    connector.connect(name, stream).await.map(drop).map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_handed_over() {
    let mut ground = Ground::new(1, &[]).await;
    let authority = Authority::new("everybody's");
    let own = authority.issue(&[HOST]);
    let port = heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "own"},
        "stringData": {"tls.crt": own.chain, "tls.key": own.key},
    });
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "front"},
        "spec": {"selector": {}, "servers": [
            {"port": {"number": ground.http.port(), "name": "http", "protocol": "HTTP"}, "hosts": [HOST]},
            {"port": {"number": port, "name": "https", "protocol": "HTTPS"}, "hosts": [HOST],
             "tls": {"mode": "SIMPLE", "credentialName": "own"}},
        ]},
    });
    ground.mesh.apply(&format!("{secret}\n---\n{gateway}\n"));
    let (client, at) = (connector(&authority.pem(), None), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    eventually("TLS is served", || handshake(&client, at)).await;

    ground.mesh.control.kill();
    let mut before = ground.replace(1);
    before.kill();
    handshake(&client, at).await.unwrap_or_else(|e| panic!("{e}\n{}", ground.gateway.log()));
}
