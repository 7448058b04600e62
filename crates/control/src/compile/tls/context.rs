//! `DownstreamTlsContext` and `UpstreamTlsContext`.

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
        SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
        certificate_validation_context::{SystemRootCerts, TrustChainVerification},
        common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
        subject_alt_name_matcher::SanType,
        tls_parameters::TlsProtocol,
    },
    r#type::matcher::v3::string_matcher::MatchPattern,
};

use heddle_xds::ClientKind;

use super::Credential;
use crate::compile::build::{ads, any, boolean, string};

/// Where a certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Certificate {
    Sds(Credential),
    /// On the proxy's machine.
    Files {
        chain: String,
        key: String,
    },
}

/// Where the authorities are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Roots {
    Sds(Credential),
    /// On the proxy's machine.
    File(String),
    /// Those that the proxy's machine trusts.
    System,
}

/// How the peer's certificate is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verification {
    pub(crate) roots: Roots,
    /// Names of which the certificate holds at least one; none: any.
    pub(crate) names: Vec<String>,
    /// SHA-256 of the certificate's key, in base64.
    pub(crate) spki: Vec<String>,
    /// SHA-256 of the certificate, in hexadecimal.
    pub(crate) hashes: Vec<String>,
    /// File of revoked certificates; empty: none.
    pub(crate) revoked: String,
    /// A certificate that fails is taken all the same.
    pub(crate) lenient: bool,
}

impl Verification {
    pub(crate) fn by(roots: Roots) -> Self {
        Self {
            roots,
            names: Vec::new(),
            spki: Vec::new(),
            hashes: Vec::new(),
            revoked: String::new(),
            lenient: false,
        }
    }
}

/// TLS towards clients.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Server {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) clients: Option<Verification>,
    /// A client without a certificate is refused.
    pub(crate) demands: bool,
    /// `TLSV1_2` and the like; empty: TLS 1.2.
    pub(crate) oldest: String,
    /// Empty: the newest there is.
    pub(crate) newest: String,
    pub(crate) suites: Vec<String>,
    /// Names of protocols above, the preferred first.
    pub(crate) alpn: &'static [&'static str],
}

/// TLS towards endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Client {
    /// Empty: none is sent.
    pub(crate) sni: String,
    pub(crate) certificate: Option<Certificate>,
    /// None: the endpoint is not verified.
    pub(crate) servers: Option<Verification>,
    pub(crate) alpn: &'static [&'static str],
}

const NAME: &str = "envoy.transport_sockets.tls";
/// Where Debian, Ubuntu, Alpine and Istio's images keep the authorities that they trust.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn downstream(server: &Server) -> TransportSocket {
    // Clients are verified by authorities that are named.
    let mut common = common(&server.certificates, server.clients.as_ref(), server.alpn, ClientKind::Envoy);
    common.tls_params = Some(TlsParameters {
        tls_minimum_protocol_version: version(&server.oldest).unwrap_or(TlsProtocol::TlSv12) as i32,
        tls_maximum_protocol_version: version(&server.newest).unwrap_or(TlsProtocol::TlsAuto) as i32,
        cipher_suites: server.suites.clone(),
        ..Default::default()
    });
    let context = DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: boolean(server.clients.is_some() && server.demands),
        ..Default::default()
    };
    TransportSocket { name: NAME.to_owned(), config_type: Some(ConfigType::TypedConfig(any(&context))) }
}

pub(crate) fn upstream(client: &Client, kind: ClientKind) -> TransportSocket {
    let certificates: Vec<_> = client.certificate.iter().cloned().collect();
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(&certificates, client.servers.as_ref(), client.alpn, kind)),
        sni: client.sni.clone(),
        ..Default::default()
    };
    TransportSocket { name: NAME.to_owned(), config_type: Some(ConfigType::TypedConfig(any(&context))) }
}

fn version(text: &str) -> Option<TlsProtocol> {
    Some(match text {
        "TLSV1_0" => TlsProtocol::TlSv10,
        "TLSV1_1" => TlsProtocol::TlSv11,
        "TLSV1_2" => TlsProtocol::TlSv12,
        "TLSV1_3" => TlsProtocol::TlSv13,
        _ => return None,
    })
}

fn common(
    certificates: &[Certificate],
    peers: Option<&Verification>,
    alpn: &[&str],
    kind: ClientKind,
) -> CommonTlsContext {
    let mut common = CommonTlsContext {
        alpn_protocols: alpn.iter().map(|&name| name.to_owned()).collect(),
        validation_context_type: peers.map(|peers| verification(peers, kind)),
        ..Default::default()
    };
    for certificate in certificates {
        match certificate {
            Certificate::Sds(credential) => common.tls_certificate_sds_secret_configs.push(sds(credential)),
            Certificate::Files { chain, key } => common.tls_certificates.push(TlsCertificate {
                certificate_chain: file(chain),
                private_key: file(key),
                ..Default::default()
            }),
        }
    }
    common
}

fn verification(of: &Verification, kind: ClientKind) -> ValidationContextType {
    let lenient = TrustChainVerification::AcceptUntrusted as i32;
    let mut context = CertificateValidationContext {
        match_typed_subject_alt_names: of.names.iter().map(|name| alternative(name)).collect(),
        verify_certificate_spki: of.spki.clone(),
        verify_certificate_hash: of.hashes.clone(),
        crl: Some(&*of.revoked).filter(|path| !path.is_empty()).and_then(file),
        trust_chain_verification: if of.lenient { lenient } else { 0 },
        ..Default::default()
    };
    match &of.roots {
        Roots::File(path) => {
            context.trusted_ca = file(path);
            ValidationContextType::ValidationContext(context)
        }
        // Envoy has to be told the file.
        Roots::System if kind == ClientKind::Heddle => {
            context.system_root_certs = Some(SystemRootCerts::default());
            ValidationContextType::ValidationContext(context)
        }
        Roots::System => {
            context.trusted_ca = file(SYSTEM_ROOTS);
            ValidationContextType::ValidationContext(context)
        }
        Roots::Sds(credential) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                validation_context_sds_secret_config: Some(sds(credential)),
                ..Default::default()
            })
        }
    }
}

/// A name that a certificate may hold: a URI, an address, or a DNS name.
fn alternative(name: &str) -> SubjectAltNameMatcher {
    let kind = if name.contains("://") {
        SanType::Uri
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        SanType::IpAddress
    } else {
        SanType::Dns
    };
    SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(string(MatchPattern::Exact(name.to_owned()))),
        ..Default::default()
    }
}

fn sds(credential: &Credential) -> SdsSecretConfig {
    SdsSecretConfig { name: credential.resource_name(), sds_config: Some(ads()) }
}

fn file(path: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::Filename(path.to_owned())), ..Default::default() })
}
