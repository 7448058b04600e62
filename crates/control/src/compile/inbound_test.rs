use heddle_xds::ResourceType;
use serde_json::json;

use crate::{
    compile::tls_test::{goes_to, pair},
    kit::{self, Seen, world},
};

/// A captured workload `app: a` with one ingress listener on port 8443.
fn captured(port: &str, tls: &str, more: &str) -> Seen {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec: {{workloadSelector: {{labels: \
         {{app: a}}}}, ingress: [{{port: {{number: 8443, {port}}}, defaultEndpoint: '127.0.0.1:8080', tls: {{{tls}}}}}]}}\n---\n"
    );
    kit::sidecar_with(&world(&(text + more)), "default", json!({"LABELS": {"app": "a"}}))
}

/// A listener that asks for TLS has one chain for its port, whatever comes: nothing of it falls to the chain for
/// addresses that nobody knows, which would lead to the workload in the clear.
#[test]
fn what_is_captured_for_a_port_of_tls_is_tls_or_nothing() {
    let https = "name: https, protocol: HTTPS";
    let files = "mode: SIMPLE, serverCertificate: /c, privateKey: /k";
    for (port, tls, secrets) in [
        (https, files, &[][..]),
        (https, "mode: SIMPLE, credentialName: c", &["kubernetes://default/c"]),
        ("name: tcp-x, protocol: TCP", files, &[]),
        ("name: x, protocol: ''", files, &[]),
    ] {
        let seen = captured(port, tls, &pair("c"));
        let chains = seen.listener("virtualInbound").filter_chains;
        assert_eq!(chains.len(), 1, "{port}, {tls}");
        assert!(chains[0].transport_socket.is_some(), "{port}, {tls}");
        let matched = chains[0].filter_chain_match.clone().expect("a match");
        assert_eq!(matched.destination_port.map(|port| port.value), Some(8443));
        assert_eq!((matched.transport_protocol.as_str(), matched.application_protocols.len()), ("", 0));
        assert_eq!(seen.names(ResourceType::Secret), secrets, "{port}, {tls}");
    }
}

#[test]
fn a_listener_whose_certificate_is_missing_is_closed_and_said() {
    let seen = captured("name: https, protocol: HTTPS", "mode: SIMPLE, credentialName: gone", "");
    let chains = seen.listener("virtualInbound").filter_chains;
    assert_eq!((chains.len(), goes_to(&chains[0]).as_str()), (1, "BlackHoleCluster"));
    let said = seen.findings.join("\n");
    let wanted = "Sidecar default/s spec.ingress[0].tls.credentialName: there is no Secret default/gone";
    assert!(said.contains(wanted), "{said}");
}
