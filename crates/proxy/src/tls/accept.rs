//! The server's side of TLS, made of a context and of the secrets it names. Made once per change, shared by all workers.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm};

use super::certificate::Certificate;
use super::verify::{Clients, Validation};
use super::{provider_of, versions_of};
use crate::snapshot::{DownstreamTls, Resumption};

/// Sessions that are remembered where clients get no tickets.
const REMEMBERED: usize = 4096;

/// The material of a context, as its secrets stand.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) certificates: Vec<Arc<Certificate>>,
    pub(crate) validation: Vec<Arc<Validation>>,
}

/// Ready to accept.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) config: Arc<ServerConfig>,
    /// The URI of the first certificate (`By` of `x-forwarded-client-cert`).
    pub(crate) uri: Option<Box<str>>,
    /// Whom its clients are believed by: sessions are resumed only as long as this stays.
    validation: Vec<Arc<Validation>>,
}

impl Acceptor {
    /// `before`: the same context with other secrets. Its sessions stay valid if clients are believed by the same.
    ///
    /// # Errors
    /// Says why this cannot be used.
    pub(crate) fn new(
        tls: &DownstreamTls,
        material: Material,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let validation = material.validation.iter().fold(Validation::default(), |all, more| all.and(more));
        if !material.validation.is_empty() && !validation.asks() {
            return Err("the validation context believes everybody; give it a trusted_ca".into());
        }
        let verifier: Arc<dyn rustls::server::danger::ClientCertVerifier> = match validation.asks() {
            true => Arc::new(Clients::new(validation, tls.require_client_certificate)),
            false => WebPkiClientVerifier::no_client_auth(),
        };
        let uri = material.certificates.first().and_then(|first| first.uri.clone());
        let mut config = ServerConfig::builder_with_provider(provider_of(&tls.common))
            .with_protocol_versions(&versions_of(&tls.common))
            .map_err(|error| format!("tls_params: {error}"))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Choice {
                certificates: material.certificates,
                require_name: tls.require_sni,
            }));
        config.alpn_protocols = tls.common.protocols.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = !tls.prefer_client_ciphers;
        // The records are sealed here and not by rustls.
        config.enable_secret_extraction = true;
        let same = |before: &&Self| {
            before.validation.len() == material.validation.len()
                && before.validation.iter().zip(&material.validation).all(|(old, new)| Arc::ptr_eq(old, new))
        };
        match (before.filter(same), tls.resumption) {
            (Some(before), _) => {
                config.ticketer = before.config.ticketer.clone();
                config.session_storage = before.config.session_storage.clone();
            }
            (None, Resumption::Tickets) => {
                let inner = Ticketer::new().map_err(|error| format!("session tickets: {error}"))?;
                config.ticketer = Arc::new(Dated { inner, life: tls.session_timeout });
                config.session_storage = Arc::new(NoServerSessionStorage {});
            }
            (None, Resumption::Memory) => config.session_storage = ServerSessionMemoryCache::new(REMEMBERED),
            (None, Resumption::Never) => config.session_storage = Arc::new(NoServerSessionStorage {}),
        }
        if tls.resumption == Resumption::Never {
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), validation: material.validation, uri })
    }
}

/// Chooses among certificates: one for the name that is asked for, of a kind that the client can verify.
#[derive(Debug)]
struct Choice {
    certificates: Vec<Arc<Certificate>>,
    require_name: bool,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        if self.require_name && name.is_none() {
            return None;
        }
        if let [only] = &self.certificates[..] {
            return Some(only.key.clone());
        }
        let suits = |certificate: &&Arc<Certificate>| {
            certificate.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = |certificate: &&Arc<Certificate>| name.is_some_and(|name| certificate.is_for(name));
        let small =
            |certificate: &&Arc<Certificate>| certificate.key.key.algorithm() != SignatureAlgorithm::RSA;
        let usable = || self.certificates.iter().filter(suits);
        let found = usable()
            .filter(named)
            .find(small)
            .or_else(|| usable().find(named))
            .or_else(|| usable().find(small))
            .or_else(|| usable().next())
            .or_else(|| self.certificates.first());
        found.map(|certificate| certificate.key.clone())
    }
}

/// Tickets that are not taken back after their time.
#[derive(Debug)]
struct Dated {
    inner: Arc<dyn ProducesTickets>,
    life: Duration,
}

impl ProducesTickets for Dated {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.life.as_secs()).unwrap_or(u32::MAX).min(self.inner.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut dated = UnixTime::now().as_secs().to_be_bytes().to_vec();
        dated.extend_from_slice(plain);
        self.inner.encrypt(&dated)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut dated = self.inner.decrypt(cipher)?;
        let made = u64::from_be_bytes(*dated.first_chunk()?);
        let age = UnixTime::now().as_secs().checked_sub(made)?;
        (age < self.life.as_secs()).then(|| dated.split_off(8))
    }
}
