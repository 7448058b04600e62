//! Istio's `Gateway`.

use super::{
    Judge,
    syntax::{is_ip, is_lower_label, is_protocol, is_wildcard_host},
};
use crate::istio::{Gateway, Port, Server, ServerTlsMode, ServerTlsSettings};

pub(super) fn check(spec: &Gateway, at: &mut Judge<'_>) {
    if spec.servers.is_empty() {
        at.field("servers").missing("at least one server");
    }
    for (index, entry) in spec.servers.iter().enumerate() {
        server(entry, &mut at.item("servers", index));
    }
    let names = spec.servers.iter().map(|s| s.name.as_str()).filter(|n| !n.is_empty());
    at.field("servers").unique(names);
    at.field("selector").labels(&spec.selector);
}

fn server(server: &Server, at: &mut Judge<'_>) {
    if server.hosts.is_empty() {
        at.field("hosts").missing("at least one host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        server_host(host, &mut at.item("hosts", index));
    }
    let socket = server.bind.starts_with("unix://");
    if !server.bind.is_empty() && !socket && !is_ip(&server.bind) {
        at.field("bind").error("HDL0111", "not an address", &server.bind, "an IP address or unix://PATH");
    }
    if let Some(path) = server.bind.strip_prefix("unix://") {
        at.field("bind").socket(&server.bind, path);
    }
    let Some(port) = &server.port else { return at.field("port").missing("a port") };
    server_port(port, socket, &mut at.field("port"));
    let secure = matches!(port.protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
    let mut at = at.field("tls");
    match (&server.tls, secure) {
        (None, true) => {
            at.error("HDL0113", "a server for HTTPS or TLS needs TLS settings", &port.protocol, "tls")
        }
        (None, false) => {}
        (Some(tls), true) => {
            if tls.https_redirect {
                let mut at = at.field("httpsRedirect");
                at.error("HDL0113", "only a server for plain HTTP redirects to HTTPS", "true", "false");
            }
            server_tls(tls, &mut at);
        }
        (Some(tls), false) => {
            let alone =
                ServerTlsSettings { https_redirect: tls.https_redirect, ..ServerTlsSettings::default() };
            let is_http = port.protocol.to_ascii_uppercase().starts_with("HTTP");
            if *tls != alone {
                at.error(
                    "HDL0113",
                    "TLS settings on a server for plain traffic",
                    &port.protocol,
                    "HTTPS or TLS",
                );
            } else if tls.https_redirect && !is_http {
                at.error("HDL0113", "only HTTP can be redirected to HTTPS", &port.protocol, "HTTP");
            }
        }
    }
}

fn server_host(host: &str, at: &mut Judge<'_>) {
    let (namespace, name) = host.split_once('/').unwrap_or(("*", host));
    if !matches!(namespace, "*" | ".") && !is_lower_label(namespace) {
        at.error("HDL0114", "not a namespace", namespace, "*, . or a name");
    }
    if !is_wildcard_host(name) && !is_ip(name) {
        at.error("HDL0102", "not a host", name, "a name, *.suffix or *");
    }
}

/// The rules that servers and sidecars' listeners share.
pub(super) fn server_port(port: &Port, socket: bool, at: &mut Judge<'_>) {
    if socket && port.number != 0 {
        at.field("number").error("HDL0103", "a socket has no port", port.number, "0");
    } else if !socket {
        at.field("number").port(port.number);
    }
    if port.protocol.is_empty() {
        at.field("protocol").missing("a protocol");
    } else if !is_protocol(&port.protocol) {
        at.field("protocol").error(
            "HDL0103",
            "not a protocol",
            &port.protocol,
            "HTTP, HTTPS, GRPC, TCP, TLS ...",
        );
    }
    if port.name.is_empty() {
        at.field("name").missing("the port's name");
    }
}

fn server_tls(tls: &ServerTlsSettings, at: &mut Judge<'_>) {
    use ServerTlsMode::{AutoPassthrough, IstioMutual, Mutual, OptionalMutual, Passthrough, Simple};
    let named = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    let files = !tls.server_certificate.is_empty() || !tls.private_key.is_empty();
    let mode = tls.mode.unwrap_or_default();
    match mode {
        Passthrough | AutoPassthrough => {
            if named || files || !tls.ca_certificates.is_empty() || !tls.ca_crl.is_empty() {
                let message = "TLS goes through; certificates are not used";
                at.warn("HDL0207", message, "", "no certificates");
            }
        }
        IstioMutual => {
            if named || files || !tls.ca_certificates.is_empty() || !tls.tls_certificates.is_empty() {
                at.error(
                    "HDL0113",
                    "ISTIO_MUTUAL takes the mesh's own certificates",
                    "",
                    "none of the user's",
                );
            }
        }
        Simple | Mutual | OptionalMutual => certificates(tls, mode != Simple, named, files, at),
    }
    suites(tls, at);
}

fn certificates(tls: &ServerTlsSettings, verifies: bool, named: bool, files: bool, at: &mut Judge<'_>) {
    let several = !tls.tls_certificates.is_empty();
    let twice = !tls.credential_name.is_empty() && !tls.credential_names.is_empty();
    if twice || several && (named || files) {
        let message = "credentialName, credentialNames, tlsCertificates and the files exclude each other";
        return at.error("HDL0113", message, "", "one of them");
    }
    for (name, count) in
        [("tlsCertificates", tls.tls_certificates.len()), ("credentialNames", tls.credential_names.len())]
    {
        if count > 2 {
            at.field(name).warn("HDL0207", "more than one RSA and one ECDSA certificate", count, "at most 2");
        }
    }
    if named {
        return;
    }
    for (index, pair) in tls.tls_certificates.iter().enumerate() {
        let mut at = at.item("tlsCertificates", index);
        pair_of_files(&pair.server_certificate, &pair.private_key, &mut at);
    }
    if !several {
        pair_of_files(&tls.server_certificate, &tls.private_key, at);
    }
    if verifies && tls.ca_certificates.is_empty() && tls.ca_cert_credential_name.is_empty() {
        at.field("caCertificates").missing("the authorities that clients are verified by");
    }
}

fn pair_of_files(certificate: &str, key: &str, at: &mut Judge<'_>) {
    if certificate.is_empty() {
        at.field("serverCertificate").missing("a certificate, or credentialName");
    }
    if key.is_empty() {
        at.field("privateKey").missing("the certificate's key");
    }
}

fn suites(tls: &ServerTlsSettings, at: &mut Judge<'_>) {
    let known = [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-PSK-AES128-CBC-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "ECDHE-PSK-AES256-CBC-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "PSK-AES128-CBC-SHA",
        "PSK-AES256-CBC-SHA",
        "DES-CBC3-SHA",
    ];
    for (index, suite) in tls.cipher_suites.iter().enumerate() {
        let name = suite.trim_start_matches(['-', '+', '!']);
        if !known.contains(&name) && !matches!(name, "ALL" | "DEFAULT") {
            at.item("cipherSuites", index).warn(
                "HDL0207",
                "not a known cipher suite",
                suite,
                &known.join(", "),
            );
        }
    }
}
