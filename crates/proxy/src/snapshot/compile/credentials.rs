//! Certificates, what vouches for them, and `Secret`s of both.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use proto::certificate_validation_context::TrustChainVerification;
use proto::common_tls_context::ValidationContextType;
use proto::subject_alt_name_matcher::SanType;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::tls::secret_name;
use super::value;
use crate::decide::matching::StringMatcher;
use crate::snapshot::{Given, Secret};
use crate::tls::certificate::{Certificate, certificates, sha256};
use crate::tls::verify::{NameKind, NameMatcher, Validation};

judge!(certificate, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate as "TlsCertificate",
    acts: [certificate_chain, private_key, ocsp_staple],
    listed: [signed_certificate_timestamp],
    refused: [pkcs12, watched_directory, private_key_provider, password, tls_params]);
judge!(validation, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext as "CertificateValidationContext",
    acts: [trusted_ca, system_root_certs, verify_certificate_spki, verify_certificate_hash, match_typed_subject_alt_names,
        match_subject_alt_names, crl, only_verify_leaf_cert_crl, suppress_client_ca_list, trust_chain_verification],
    listed: [],
    refused: [ca_certificate_provider_instance, watched_directory, require_signed_certificate_timestamp,
        allow_expired_certificate, custom_validator_config, max_verify_depth]);

/// Where Linux distributions keep the certificates of public authorities.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a context is made of, gathered to tell contexts apart by content.
#[derive(Default)]
pub(super) struct Content(pub(super) Vec<u8>);

pub(super) fn tls_certificate(
    value: &proto::TlsCertificate,
    seen: &mut Listed,
    content: &mut Content,
) -> Compiled<Certificate> {
    certificate::judge(value, seen)?;
    let chain = content.read(value.certificate_chain.as_ref(), "certificate_chain")?;
    let chain = chain.ok_or_else(|| Refusal::new("certificate_chain", "is required"))?;
    let key = content.read(value.private_key.as_ref(), "private_key")?;
    let key = key.ok_or_else(|| Refusal::new("private_key", "is required"))?;
    let ocsp = content.read(value.ocsp_staple.as_ref(), "ocsp_staple")?;
    Certificate::from_pem(&chain, &key, ocsp).map_err(|reason| Refusal::new("", reason))
}

pub(super) fn validations(
    value: Option<&ValidationContextType>,
    seen: &mut Listed,
    content: &mut Content,
) -> Compiled<Box<[Given<Validation>]>> {
    let mut out = Vec::new();
    match value {
        None => {}
        Some(ValidationContextType::ValidationContext(context)) => {
            let within = |error: Refusal| error.within("validation_context");
            let validation = validation_of(context, seen, content).map_err(within)?;
            if !validation.names.is_empty() && !validation.asks() {
                let reason = "names prove nothing without a trusted_ca that vouches for them";
                return Err(within(Refusal::new("match_typed_subject_alt_names", reason)));
            }
            out.push(Given::Here(Arc::new(validation)));
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let within = |error: Refusal| error.within("validation_context_sds_secret_config");
            out.push(Given::Secret(secret_name(config).map_err(within)?));
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let within = |error: Refusal| error.within("combined_validation_context");
            if let Some(context) = &combined.default_validation_context {
                let validation = validation_of(context, seen, content)
                    .map_err(|error| within(error.within("default_validation_context")))?;
                out.push(Given::Here(Arc::new(validation)));
            }
            let config = combined.validation_context_sds_secret_config.as_ref();
            let config = config
                .ok_or_else(|| within(Refusal::new("validation_context_sds_secret_config", "is required")))?;
            let name = secret_name(config)
                .map_err(|error| within(error.within("validation_context_sds_secret_config")))?;
            out.push(Given::Secret(name));
        }
        Some(_) => {
            return Err(Refusal::new("validation_context_certificate_provider", "is not built"));
        }
    }
    Ok(out.into())
}

fn validation_of(
    value: &proto::CertificateValidationContext,
    seen: &mut Listed,
    content: &mut Content,
) -> Compiled<Validation> {
    validation::judge(value, seen)?;
    if value.trust_chain_verification != i32::from(TrustChainVerification::VerifyTrustChain) {
        let reason = "ACCEPT_UNTRUSTED is not built: leave the validation context out to believe everybody";
        return Err(Refusal::new("trust_chain_verification", reason));
    }
    let mut out = Validation {
        leaf_only: value.only_verify_leaf_cert_crl,
        hide_issuers: value.suppress_client_ca_list,
        hashes: digests(&value.verify_certificate_hash, "verify_certificate_hash", from_hex)?,
        keys: digests(&value.verify_certificate_spki, "verify_certificate_spki", from_base64)?,
        ..Validation::default()
    };
    let mut roots = content.read(value.trusted_ca.as_ref(), "trusted_ca")?;
    if roots.is_none() && value.system_root_certs.is_some() {
        roots = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok());
        if roots.is_none() {
            let reason =
                format!("this machine has no certificates of authorities at {}", SYSTEM_ROOTS.join(", "));
            return Err(Refusal::new("system_root_certs", reason));
        }
    }
    for root in roots.iter().flat_map(|pem| certificates(pem)).flatten() {
        let anchor = webpki::anchor_from_trusted_cert(&root);
        let anchor = anchor
            .map_err(|error| Refusal::new("trusted_ca", format!("a certificate is unusable: {error}")))?;
        out.anchors.push(anchor.to_owned());
        out.trusted.push(sha256(&root));
    }
    if roots.is_some() && out.anchors.is_empty() {
        return Err(Refusal::new("trusted_ca", "has no certificate in PEM"));
    }
    if let Some(pem) = content.read(value.crl.as_ref(), "crl")? {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        for list in lists.map_err(|error| Refusal::new("crl", format!("is no PEM: {error}")))? {
            let list = webpki::OwnedCertRevocationList::from_der(&list)
                .map_err(|error| Refusal::new("crl", format!("a list is unusable: {error}")))?;
            out.revoked.push(Arc::new(list.into()));
        }
    }
    out.names = names(value)?;
    Ok(out)
}

fn names(value: &proto::CertificateValidationContext) -> Compiled<Vec<NameMatcher>> {
    use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    let mut out = Vec::new();
    let mut add = |given: &envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher, kinds: &[NameKind]| {
        let matcher: StringMatcher = value::string_matcher(given)?;
        let exact = match &given.match_pattern {
            Some(MatchPattern::Exact(text)) => Some(text.as_str().into()),
            _ => None,
        };
        out.extend(kinds.iter().map(|kind| NameMatcher {
            kind: *kind,
            matcher: matcher.clone(),
            exact: exact.clone(),
        }));
        Ok::<(), Refusal>(())
    };
    for (index, given) in value.match_typed_subject_alt_names.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("match_typed_subject_alt_names[{index}]"));
        let kind = match SanType::try_from(given.san_type) {
            Ok(SanType::Dns) => NameKind::Dns,
            Ok(SanType::Uri) => NameKind::Uri,
            Ok(SanType::Email) => NameKind::Email,
            Ok(SanType::IpAddress) => NameKind::Ip,
            Ok(SanType::OtherName | SanType::Unspecified) | Err(_) => {
                return Err(place(Refusal::new("san_type", "DNS, URI, EMAIL and IP_ADDRESS are built")));
            }
        };
        let matcher = given.matcher.as_ref();
        let matcher = matcher.ok_or_else(|| place(Refusal::new("matcher", "is required")))?;
        add(matcher, &[kind]).map_err(|error| place(error.within("matcher")))?;
    }
    for (index, given) in value.match_subject_alt_names.iter().enumerate() {
        add(given, &[NameKind::Dns, NameKind::Uri, NameKind::Email, NameKind::Ip])
            .map_err(|error| error.within(format!("match_subject_alt_names[{index}]")))?;
    }
    Ok(out)
}

fn digests(given: &[String], field: &str, read: fn(&str) -> Option<Vec<u8>>) -> Compiled<Vec<[u8; 32]>> {
    let one = |text: &String| {
        let digest = read(text).and_then(|bytes| bytes.try_into().ok());
        digest.ok_or_else(|| Refusal::new(field, format!("{text:?} is no SHA-256")))
    };
    given.iter().map(one).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.len() % 2 == 1 { None } else { digits.chunks(2).map(pair).collect() }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(out)
}

impl Content {
    /// What a source holds; files and the environment are read when the resource comes.
    fn read(&mut self, source: Option<&core::DataSource>, field: &str) -> Compiled<Option<Vec<u8>>> {
        use core::data_source::Specifier;
        let Some(source) = source else { return Ok(None) };
        if source.watched_directory.is_some() {
            return Err(Refusal::new(
                &format!("{field}.watched_directory"),
                "is not built: send the secret by SDS",
            ));
        }
        let unreadable = |what: &str, error: &dyn std::fmt::Display| {
            Refusal::new(field, format!("{what} cannot be read: {error}"))
        };
        let bytes = match source.specifier.as_ref() {
            None => return Err(Refusal::new(field, "is empty")),
            Some(Specifier::InlineBytes(bytes)) => return Ok(Some(bytes.clone())),
            Some(Specifier::InlineString(text)) => return Ok(Some(text.clone().into_bytes())),
            Some(Specifier::Filename(path)) => {
                std::fs::read(path).map_err(|error| unreadable(path, &error))?
            }
            Some(Specifier::EnvironmentVariable(name)) => {
                std::env::var(name).map_err(|error| unreadable(name, &error))?.into_bytes()
            }
        };
        self.0.extend_from_slice(&bytes);
        Ok(Some(bytes))
    }
}

/// A secret.
pub(crate) fn secret(value: &proto::Secret, seen: &mut Listed) -> Compiled<Secret> {
    let mut content = Content::default();
    match &value.r#type {
        Some(proto::secret::Type::TlsCertificate(given)) => {
            let read = tls_certificate(given, seen, &mut content).map_err(|e| e.within("tls_certificate"))?;
            Ok(Secret::Certificate(Arc::new(read)))
        }
        Some(proto::secret::Type::ValidationContext(given)) => {
            let read =
                validation_of(given, seen, &mut content).map_err(|e| e.within("validation_context"))?;
            Ok(Secret::Validation(Arc::new(read)))
        }
        Some(proto::secret::Type::SessionTicketKeys(_)) => {
            Err(Refusal::new("session_ticket_keys", "is not built"))
        }
        Some(proto::secret::Type::GenericSecret(_)) => Err(Refusal::new("generic_secret", "is not built")),
        None => Err(Refusal::new("type", "tls_certificate or validation_context is required")),
    }
}
