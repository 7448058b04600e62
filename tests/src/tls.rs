//! Certificates for tests, and clients and servers that use them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, string::Ia5String,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        client::Resumption,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// An authority that issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with the chain up to its authority, and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Authority {
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for names: DNS, or URIs where they have a scheme.
    ///
    /// # Panics
    /// When a name cannot stand in a certificate.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("client"));
        for name in names {
            let text = Ia5String::try_from(*name).expect("ASCII");
            params.subject_alt_names.push(if name.contains("://") {
                SanType::URI(text)
            } else {
                SanType::DnsName(text)
            });
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { chain: certificate.pem() + &self.pem(), key: key.serialize_pem() }
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.expect("PEM")).collect()
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(pem));
    roots
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key")
}

/// A client that trusts `authorities` (PEM), with a certificate of its own if it has one, and speaks HTTP/1.1.
///
/// # Panics
/// When the PEM is none.
#[must_use]
pub fn connector(authorities: &str, own: Option<&Issued>) -> TlsConnector {
    let builder = ClientConfig::builder().with_root_certificates(roots(authorities));
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(certificates(&own.chain), key(&own.key)).expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    // A session that is resumed shows the certificate of its first handshake.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A server with a certificate, that demands one of its clients where `authorities` (PEM) are given.
///
/// # Panics
/// When the PEM is none.
#[must_use]
pub fn acceptor(own: &Issued, authorities: Option<&str>) -> TlsAcceptor {
    acceptor_of(own, authorities, Vec::new())
}

/// The same, that speaks these protocols (ALPN).
///
/// # Panics
/// When the PEM is none.
#[must_use]
pub fn acceptor_of(own: &Issued, authorities: Option<&str>, protocols: Vec<String>) -> TlsAcceptor {
    let builder = match authorities {
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(pem))).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates(&own.chain), key(&own.key)).expect("a pair");
    config.alpn_protocols = protocols.into_iter().map(String::into_bytes).collect();
    TlsAcceptor::from(Arc::new(config))
}
