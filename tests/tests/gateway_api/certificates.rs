//! The certificates that the suite makes before its cases.

use std::collections::BTreeSet;

use heddle_tests::tls::{self, Authority, Issued};
use serde_json::{Value, json};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{bed::Bed, client::Outcome};

const INFRA: &str = "gateway-conformance-infra";

/// Makes what the manifests and cases name: server names come from the cases.
pub(crate) async fn make(bed: &Bed, cases: &[Value]) -> Outcome<()> {
    let (server, client, per_port) =
        (Authority::new("server"), Authority::new("client"), Authority::new("port"));
    let names = |secret: &str| -> BTreeSet<String> {
        let entries = cases.iter().flat_map(|case| case["http"].as_array().into_iter().flatten());
        let of = entries.filter(|entry| entry["tls"]["server_ca"]["$secret"]["Name"] == *secret);
        of.filter_map(|entry| entry["tls"]["sni"].as_str().map(str::to_owned)).collect()
    };
    for (namespace, secret, more) in [
        (INFRA, "tls-validity-checks-certificate", &["*.org"][..]),
        (INFRA, "tls-checks-certificate", &["abc.example.com", "spiffe://abc.example.com/test-identity"]),
        (INFRA, "tls-terminate-checks-certificate", &["abc.example.com"]),
        (INFRA, "tls-passthrough-checks-certificate", &["abc.example.com"]),
        ("gateway-conformance-app-backend", "tls-passthrough-checks-certificate", &["abc.example.com"]),
        ("gateway-conformance-app-backend", "tls-checks-certificate", &["abc.example.com"]),
        ("gateway-conformance-web-backend", "certificate", &["*.org"]),
        ("gateway-conformance-mesh", "tls-checks-certificate", &["abc.example.com"]),
    ] {
        let mut all = names(secret);
        all.extend(more.iter().map(|&name| name.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        bed.write(pair(namespace, secret, &server.issue(&all))).await?;
    }
    for (name, authority) in [
        ("tls-checks-client-certificate", &server),
        ("tls-validity-checks-client-certificate", &client),
        ("tls-validity-checks-per-port-client-certificate", &per_port),
    ] {
        bed.write(pair(INFRA, name, &authority.issue(&["client.example"]))).await?;
    }
    for (name, authority) in [
        ("tls-validity-checks-ca-certificate", &client),
        ("tls-validity-checks-per-port-ca-certificate", &per_port),
        ("tls-checks-ca-certificate", &server),
        ("mismatch-ca-certificate", &Authority::new("other")),
    ] {
        bed.write(bundle(name, &authority.pem())).await?;
    }
    Ok(())
}

fn pair(namespace: &str, name: &str, issued: &Issued) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"tls.crt": issued.chain, "tls.key": issued.key},
    })
}

/// A ConfigMap with authorities.
pub(crate) fn bundle(name: &str, pem: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": INFRA},
        "data": {"ca.crt": pem},
    })
}

/// A pair as it is stored.
pub(crate) async fn stored(bed: &Bed, namespace: &str, name: &str) -> Outcome<Issued> {
    let part = |part: &str| json!({"$secret": {"Name": name, "Namespace": namespace}, "part": part});
    Ok(Issued { chain: text(bed, &part("tls.crt")).await?, key: text(bed, &part("tls.key")).await? })
}

/// `{"$secret": {"Name", "Namespace"}, "part"}`.
async fn text(bed: &Bed, part: &Value) -> Outcome<String> {
    let of = &part["$secret"];
    let (name, namespace) =
        (of["Name"].as_str().unwrap_or_default(), of["Namespace"].as_str().unwrap_or_default());
    let secret = bed.get("Secret", namespace, name).await?;
    let part = part["part"].as_str().unwrap_or_default();
    let plain = secret["stringData"][part].as_str().map(str::to_owned);
    let encoded = || {
        let text = secret["data"][part].as_str()?;
        base64(text)
    };
    plain.or_else(encoded).ok_or_else(|| format!("Secret {namespace}/{name} has no {part}"))
}

fn base64(text: &str) -> Option<String> {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    // PEM's own decoder reads base64 between two lines.
    let framed = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let read = tokio_rustls::rustls::pki_types::CertificateDer::from_pem_slice(framed.as_bytes()).ok()?;
    String::from_utf8(read.to_vec()).ok()
}

/// TLS of a Deployment by its volumes: its certificate, and in the second the authorities that clients are held to.
pub(crate) async fn server(bed: &Bed, namespace: &str, volumes: &Value) -> Outcome<Option<TlsAcceptor>> {
    let Some(secret) = volumes[0]["secret"]["secretName"].as_str() else { return Ok(None) };
    let issued = stored(bed, namespace, secret).await?;
    let authorities = match volumes[1]["configMap"]["name"].as_str() {
        Some(name) => bed.get("ConfigMap", namespace, name).await?,
        None => Value::Null,
    };
    Ok(Some(tls::acceptor(&issued, authorities["data"]["ca.crt"].as_str())))
}

/// The client of an entry's `tls`.
pub(crate) async fn client(bed: &Bed, of: &Value) -> Outcome<(TlsConnector, String)> {
    let authorities = text(bed, &of["server_ca"]).await?;
    let own = if of["client_cert"].is_null() {
        None
    } else {
        Some(Issued { chain: text(bed, &of["client_cert"]).await?, key: text(bed, &of["client_key"]).await? })
    };
    let sni = of["sni"].as_str().unwrap_or_default().to_owned();
    Ok((tls::connector(&authorities, own.as_ref()), sni))
}
