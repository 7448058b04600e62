//! Certificates: read from PEM, and what can be read from them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate with those that vouch for it and its private key.
#[derive(Debug)]
pub struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names, in lower case.
    pub(crate) names: Box<[Box<str>]>,
    /// The first name that is a URI: who we are.
    pub(crate) uri: Option<Box<str>>,
}

impl Certificate {
    /// From PEM. The error says what is wrong, and with which of the two.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8], ocsp: Option<Vec<u8>>) -> Result<Self, String> {
        let chain = certificates(chain).map_err(|error| format!("certificate_chain: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("private_key: is no private key in PEM without a password: {error}"))?;
        let names = Names::of(&chain[0]).map_err(|error| format!("certificate_chain: {error}"))?;
        let mut key = CertifiedKey::from_der(chain, key, super::provider()).map_err(|error| {
            format!("private_key: does not fit the certificate, or is of an unknown kind: {error}")
        })?;
        key.ocsp = ocsp;
        Ok(Self { key: Arc::new(key), names: names.dns.into(), uri: names.uri.into_iter().next() })
    }

    /// One of its names stands for this one.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| dns_matches(own, name))
    }
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no PEM: {error}"))?;
    if all.is_empty() {
        return Err("has no certificate in PEM".into());
    }
    Ok(all)
}

/// A name of a certificate stands for `name`: itself, or `*` for its first label (RFC 6125, 6.4.3).
pub(crate) fn dns_matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(suffix), Some((first, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !first.is_empty() && rest.eq_ignore_ascii_case(suffix)
}

/// The subject alternative names of a certificate.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) dns: Vec<Box<str>>,
    pub(crate) uri: Vec<Box<str>>,
    pub(crate) email: Vec<Box<str>>,
    pub(crate) ip: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("is no X.509 certificate: {error}"))?;
        let mut out = Self::default();
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Ok(out) };
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => out.dns.push(name.to_ascii_lowercase().into()),
                GeneralName::URI(name) => out.uri.push((*name).into()),
                GeneralName::RFC822Name(name) => out.email.push((*name).into()),
                GeneralName::IPAddress(bytes) => out.ip.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(out)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

pub(crate) fn hex(data: &[u8]) -> String {
    data.iter().fold(String::with_capacity(data.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
