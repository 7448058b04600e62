//! Certificates made for a test, and TLS contexts that use them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::BoolValue;
use heddle_xds::{Encoded, ResourceType};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

/// Who vouches for others.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Leaf {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a DNS name, or a URI.
    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| {})
    }

    pub fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "heddle tests");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let text = name.try_into().unwrap();
        params.subject_alt_names =
            vec![if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }];
        change(&mut params);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { chain, key: key.serialize_pem() }
    }

    /// One whose time is over.
    pub fn expired(&self, name: &str) -> Leaf {
        self.leaf_with(name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }
}

pub fn inline(text: &str) -> Option<core::DataSource> {
    let specifier = Some(core::data_source::Specifier::InlineString(text.to_owned()));
    Some(core::DataSource { specifier, ..Default::default() })
}

pub fn file(path: &std::path::Path) -> Option<core::DataSource> {
    let specifier = Some(core::data_source::Specifier::Filename(path.to_str().unwrap().to_owned()));
    Some(core::DataSource { specifier, ..Default::default() })
}

impl Leaf {
    pub fn certificate(&self) -> tls::TlsCertificate {
        tls::TlsCertificate {
            certificate_chain: inline(&self.chain),
            private_key: inline(&self.key),
            ..Default::default()
        }
    }

    /// As a secret.
    pub fn secret(&self, name: &str) -> Arc<Encoded> {
        encoded(name, tls::secret::Type::TlsCertificate(self.certificate()))
    }

    /// Into files, for programs that read them.
    pub fn write(&self, dir: &std::path::Path, name: &str) -> (PathBuf, PathBuf) {
        let (chain, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&chain, &self.chain).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (chain, key)
    }
}

pub fn encoded(name: &str, secret: tls::secret::Type) -> Arc<Encoded> {
    let secret = tls::Secret { name: name.to_owned(), r#type: Some(secret) };
    Encoded::new(ResourceType::Secret, name, &secret)
}

/// A secret that comes by the stream of everything else.
pub fn sds(name: &str) -> tls::SdsSecretConfig {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource::default());
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource { config_source_specifier: Some(ads), ..Default::default() }),
    }
}

pub fn trusting(pem: &str) -> tls::CertificateValidationContext {
    tls::CertificateValidationContext { trusted_ca: inline(pem), ..Default::default() }
}

pub fn san(kind: tls::subject_alt_name_matcher::SanType, exact: &str) -> tls::SubjectAltNameMatcher {
    let pattern = matcher::string_matcher::MatchPattern::Exact(exact.to_owned());
    tls::SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}

/// What presents a certificate.
pub fn presenting(leaf: &Leaf) -> tls::CommonTlsContext {
    tls::CommonTlsContext { tls_certificates: vec![leaf.certificate()], ..Default::default() }
}

pub fn validated_by(
    mut common: tls::CommonTlsContext,
    validation: tls::CertificateValidationContext,
) -> tls::CommonTlsContext {
    common.validation_context_type =
        Some(tls::common_tls_context::ValidationContextType::ValidationContext(validation));
    common
}

pub fn downstream(common: tls::CommonTlsContext) -> tls::DownstreamTlsContext {
    tls::DownstreamTlsContext { common_tls_context: Some(common), ..Default::default() }
}

pub fn requiring(common: tls::CommonTlsContext) -> tls::DownstreamTlsContext {
    tls::DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        ..downstream(common)
    }
}

pub fn socket(url: &str, context: &impl prost::Message) -> Option<core::TransportSocket> {
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(super::any(
            &format!("envoy.extensions.transport_sockets.tls.v3.{url}"),
            context,
        ))),
    })
}

/// A listener whose only chain is TLS.
pub fn secured(
    at: SocketAddr,
    filter: listener::Filter,
    context: &tls::DownstreamTlsContext,
) -> listener::Listener {
    let mut listener = super::listener("test", at, filter);
    listener.filter_chains[0].transport_socket = socket("DownstreamTlsContext", context);
    listener
}
