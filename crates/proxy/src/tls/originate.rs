//! The client's side of TLS, made of a context and of the secrets it names. Made once per change, shared by all workers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, SignatureScheme};

use super::accept::Material;
use super::certificate::Certificate;
use super::verify::{Servers, Validation};
use super::{provider_of, versions_of};
use crate::snapshot::UpstreamTls;

/// Ready to connect.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) config: Arc<ClientConfig>,
}

impl Connector {
    /// # Errors
    /// Says why this cannot be used.
    pub(crate) fn new(tls: &UpstreamTls, material: Material) -> Result<Self, String> {
        let validation = material.validation.iter().fold(Validation::default(), |all, more| all.and(more));
        let asks = validation.asks();
        if !material.validation.is_empty() && !asks {
            return Err("the validation context believes everybody; give it a trusted_ca".into());
        }
        let verifier = Servers { validation, own_name: tls.own_name };
        let builder = ClientConfig::builder_with_provider(provider_of(&tls.common))
            .with_protocol_versions(&versions_of(&tls.common))
            .map_err(|error| format!("tls_params: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match material.certificates.is_empty() {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(Arc::new(Presented(material.certificates))),
        };
        // The records are sealed here and not by rustls.
        config.enable_secret_extraction = true;
        config.resumption = match tls.max_sessions {
            0 => Resumption::disabled(),
            most => Resumption::store(Arc::new(Sessions { most, kept: Mutex::default() })),
        };
        Ok(Self { config: Arc::new(config) })
    }
}

/// Our certificates: the first that the server can verify.
#[derive(Debug)]
struct Presented(Vec<Arc<Certificate>>);

impl ResolvesClientCert for Presented {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let suits = |certificate: &&Arc<Certificate>| certificate.key.key.choose_scheme(schemes).is_some();
        self.0.iter().find(suits).map(|certificate| certificate.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What was remembered of a server.
#[derive(Debug, Default)]
struct Server {
    group: Option<NamedGroup>,
    older: Option<Tls12ClientSessionValue>,
    /// Each is used once.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// Sessions to resume, over all workers; nothing is held where nothing was remembered. Only handshakes come here.
#[derive(Debug)]
struct Sessions {
    most: usize,
    kept: Mutex<VecDeque<(ServerName<'static>, Server)>>,
}

/// Servers that are told apart under one context.
const SERVERS: usize = 64;

impl Sessions {
    fn with<T>(&self, name: &ServerName<'_>, act: impl FnOnce(&mut Server) -> T) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            if kept.len() >= SERVERS {
                kept.pop_front();
            }
            kept.push_back((name.to_owned(), Server::default()));
            kept.len() - 1
        });
        act(&mut kept[at].1)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(&name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(&name, |server| server.older = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(name, |server| server.older.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.with(name, |server| server.older = None);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(&name, |server| {
            if server.tickets.len() >= self.most {
                server.tickets.pop_front();
            }
            server.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(name, |server| server.tickets.pop_back())
    }
}
