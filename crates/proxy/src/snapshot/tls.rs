//! TLS as configured (`extensions.transport_sockets.tls.v3`): what to present, whom to believe, what to speak.

use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::SupportedKxGroup;

use super::Name;
use crate::tls::certificate::Certificate;
use crate::tls::verify::Validation;

/// What is given in place, or comes by SDS.
#[derive(Clone, Debug)]
pub enum Given<T> {
    /// Part of the resource, or read from a file when the resource came.
    Here(Arc<T>),
    /// The secret of this name.
    Secret(Name),
}

/// A resource of type `Secret`.
#[derive(Clone, Debug)]
pub enum Secret {
    /// `tls_certificate`.
    Certificate(Arc<Certificate>),
    /// `validation_context`.
    Validation(Arc<Validation>),
}

/// `CommonTlsContext`.
#[derive(Debug)]
pub struct CommonTls {
    /// TLS 1.2, TLS 1.3.
    pub versions: [bool; 2],
    /// In order of preference; empty for the provider's own.
    pub suites: Box<[SupportedCipherSuite]>,
    /// In order of preference; empty for the provider's own, X25519MLKEM768 first.
    pub groups: Box<[&'static dyn SupportedKxGroup]>,
    /// What is presented; the first that suits the peer.
    pub certificates: Box<[Given<Certificate>]>,
    /// Whom to believe; later entries add to earlier ones (`combined_validation_context`).
    pub validation: Box<[Given<Validation>]>,
    /// `alpn_protocols`.
    pub protocols: Box<[Box<[u8]>]>,
}

/// `DownstreamTlsContext`.
#[derive(Debug)]
pub struct DownstreamTls {
    /// Tells contexts of different content apart.
    pub key: Name,
    /// Both sides have this.
    pub common: CommonTls,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// `require_sni`.
    pub require_sni: bool,
    /// `prefer_client_ciphers`.
    pub prefer_client_ciphers: bool,
    /// Resumption by ticket (default), by memory of the proxy, or none.
    pub resumption: Resumption,
    /// `session_timeout`, default 2 hours.
    pub session_timeout: Duration,
}

/// `UpstreamTlsContext`.
#[derive(Debug)]
pub struct UpstreamTls {
    /// Tells contexts of different content apart.
    pub key: Name,
    /// Both sides have this.
    pub common: CommonTls,
    /// `sni`.
    pub sni: Option<Box<str>>,
    /// `auto_host_sni`: the endpoint's host name is asked for, where it has one.
    pub auto_host_sni: bool,
    /// `upstream_http_protocol_options.auto_sni`: the request's host is asked for.
    pub auto_sni: bool,
    /// `auto_sni_san_validation`, `auto_san_validation`: the certificate must be for the name that is asked for.
    pub own_name: bool,
    /// `max_session_keys`: sessions that are remembered of a server, default 1; 0 for none.
    pub max_sessions: usize,
}

/// How endpoints are reached that were described in a certain way (`transport_socket_matches`).
#[derive(Clone, Debug)]
pub struct SocketMatch {
    /// What must stand in the endpoint's metadata `envoy.transport_socket_match`; empty holds for all.
    pub wanted: SocketCriteria,
    /// TLS, or the socket as it is.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// Names and values, sorted.
pub type SocketCriteria = Box<[(Box<str>, Box<str>)]>;

/// How sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The client keeps a ticket.
    Tickets,
    /// `disable_stateless_session_resumption`: the proxy remembers.
    Memory,
    /// Every handshake is a full one.
    Never,
}

impl CommonTls {
    /// The secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        fn named<T>(given: &Given<T>) -> Option<&Name> {
            match given {
                Given::Secret(name) => Some(name),
                Given::Here(_) => None,
            }
        }
        self.certificates.iter().filter_map(named).chain(self.validation.iter().filter_map(named))
    }
}
