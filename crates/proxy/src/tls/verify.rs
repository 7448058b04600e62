//! Whom to believe: chains of trust, names, pins and revocation (`CertificateValidationContext`).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Names, dns_matches, sha256};
use crate::decide::matching::StringMatcher;

/// What a peer's certificate has to be.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// `trusted_ca`: chains end in one of these.
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// The same certificates' SHA-256: one that is trusted itself needs nobody to vouch for it.
    pub(crate) trusted: Vec<[u8; 32]>,
    /// `match_typed_subject_alt_names`: one must match, if there are any.
    pub(crate) names: Vec<NameMatcher>,
    /// `verify_certificate_hash` and `verify_certificate_spki`, SHA-256: one must match, if there are any.
    pub(crate) hashes: Vec<[u8; 32]>,
    pub(crate) keys: Vec<[u8; 32]>,
    /// `crl`.
    pub(crate) revoked: Vec<Arc<CertRevocationList<'static>>>,
    /// `only_verify_leaf_cert_crl`.
    pub(crate) leaf_only: bool,
    /// `suppress_client_ca_list`.
    pub(crate) hide_issuers: bool,
}

/// A name that is wanted.
#[derive(Clone, Debug)]
pub struct NameMatcher {
    pub(crate) kind: NameKind,
    pub(crate) matcher: StringMatcher,
    /// The text of an exact match: a name with `*` may stand for it.
    pub(crate) exact: Option<Box<str>>,
}

/// `SanType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    Dns,
    Uri,
    Email,
    Ip,
}

impl NameMatcher {
    fn is_match(&self, names: &Names) -> bool {
        let any = |list: &[Box<str>]| list.iter().any(|name| self.matcher.is_match(name.as_bytes()));
        match self.kind {
            NameKind::Dns => {
                let exact = self.exact.as_deref();
                any(&names.dns)
                    || exact.is_some_and(|wanted| names.dns.iter().any(|own| dns_matches(own, wanted)))
            }
            NameKind::Uri => any(&names.uri),
            NameKind::Email => any(&names.email),
            NameKind::Ip => names.ip.iter().any(|ip| self.matcher.is_match(ip.to_string().as_bytes())),
        }
    }
}

impl Validation {
    /// This and more: what is absent there is kept (`combined_validation_context`).
    pub(crate) fn and(mut self, more: &Self) -> Self {
        if !more.anchors.is_empty() {
            self.anchors.clone_from(&more.anchors);
            self.trusted.clone_from(&more.trusted);
        }
        self.names.extend_from_slice(&more.names);
        self.hashes.extend_from_slice(&more.hashes);
        self.keys.extend_from_slice(&more.keys);
        if !more.revoked.is_empty() {
            self.revoked.clone_from(&more.revoked);
        }
        self.leaf_only |= more.leaf_only;
        self.hide_issuers |= more.hide_issuers;
        self
    }

    /// It asks for something.
    pub(crate) fn asks(&self) -> bool {
        !self.anchors.is_empty() || !self.hashes.is_empty() || !self.keys.is_empty()
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        if !self.anchors.is_empty() {
            self.chain(certificate, others, now, usage)?;
        }
        if !self.hashes.is_empty() || !self.keys.is_empty() {
            let (_, parsed) =
                X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
            let pinned = self.hashes.contains(&sha256(certificate))
                || self.keys.contains(&sha256(parsed.public_key().raw));
            if !pinned {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        if !self.names.is_empty() {
            let names = Names::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
            if !self.names.iter().any(|wanted| wanted.is_match(&names)) {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        Ok(())
    }

    fn chain(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().map(|list| &**list).collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let depth =
                if self.leaf_only { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
            options.with_depth(depth).with_status_policy(UnknownStatusPolicy::Deny).build()
        });
        let parsed = EndEntityCert::try_from(certificate).map_err(bad)?;
        let checked =
            parsed.verify_for_usage(algorithms().all, &self.anchors, others, now, usage, revocation, None);
        match checked {
            Ok(_) => Ok(()),
            // Trusted by itself, as a certificate that signed itself is.
            Err(webpki::Error::CaUsedAsEndEntity) if self.trusted.contains(&sha256(certificate)) => {
                in_its_time(certificate, now)
            }
            Err(error) => Err(bad(error)),
        }
    }
}

/// How signatures are verified.
fn algorithms() -> &'static WebPkiSupportedAlgorithms {
    &super::provider().signature_verification_algorithms
}

fn in_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// In rustls's words, so that the right alert is sent.
fn bad(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertExpired { .. } => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
    .into()
}

/// What a server asks of its clients.
#[derive(Debug)]
pub(crate) struct Clients {
    validation: Validation,
    required: bool,
    issuers: Vec<DistinguishedName>,
}

impl Clients {
    pub(crate) fn new(validation: Validation, required: bool) -> Self {
        let named = validation.anchors.iter().filter(|_| !validation.hide_issuers);
        let issuers = named.map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        Self { validation, required, issuers }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.issuers
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.validation.check(certificate, others, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// What a client asks of its server.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) validation: Validation,
    /// `auto_sni_san_validation`: the name asked for must be one of the certificate's.
    pub(crate) own_name: bool,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.validation.check(certificate, others, now, KeyUsage::server_auth())?;
        if self.own_name {
            let parsed = EndEntityCert::try_from(certificate).map_err(bad)?;
            parsed.verify_is_valid_for_subject_name(name).map_err(|_| CertificateError::NotValidForName)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
