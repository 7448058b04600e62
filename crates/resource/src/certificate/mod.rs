//! Certificates, keys and authorities as Secrets and ConfigMaps hold them.
//!
//! A pair stands in `tls.crt` and `tls.key` (`kubernetes.io/tls`) or in `cert` and `key` (Istio's generic form);
//! authorities stand in `cacert` or `ca.crt`. Nothing here reads a clock: whoever asks compares the times.

mod key;

use std::fmt;

use base64::Engine as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::core::{ConfigMap, Secret};

/// Why an object's content cannot be used. Says nothing of the content itself: it may be a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fault {
    /// `data["tls.crt"]`.
    pub field: String,
    /// What is the matter, and what is wanted.
    pub message: String,
}

impl Fault {
    fn new(key: &str, message: impl Into<String>) -> Self {
        Self { field: format!("data[{key:?}]"), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A certificate with its chain, and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// PEM, the leaf first. Nothing but certificates.
    pub chain: String,
    /// PEM.
    pub key: String,
    pub leaf: Leaf,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// What is read of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    pub subject: String,
}

impl Leaf {
    /// Why it must not be trusted at a time (seconds since 1970), if so.
    pub fn untimely(&self, now: i64) -> Option<String> {
        if now > self.not_after {
            Some(format!("the certificate expired at {}; clients refuse it: renew it", date(self.not_after)))
        } else if now < self.not_before {
            let from = date(self.not_before);
            Some(format!("the certificate is valid from {from} only; clients refuse it until then"))
        } else {
            None
        }
    }
}

/// The first certificate of a PEM text.
pub fn first(pem: &str) -> Option<Leaf> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, leaf) = X509Certificate::from_der(&der).ok()?;
    Some(read_leaf(&leaf))
}

/// A time as people read it: RFC 3339, in UTC.
pub fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// Where a pair may stand, in the order in which it is looked for.
const PAIRS: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];
/// Where authorities may stand.
const AUTHORITIES: [&str; 2] = ["cacert", "ca.crt"];

/// The certificate and key of a Secret.
///
/// # Errors
/// When they are missing, are not PEM, or do not belong together.
pub fn pair(secret: &Secret) -> Result<Pair, Fault> {
    let has = |key: &str| secret.data.contains_key(key) || secret.string_data.contains_key(key);
    let (certificate, key) =
        PAIRS.into_iter().find(|(certificate, key)| has(certificate) || has(key)).unwrap_or(PAIRS[0]);
    let chain = certificates(certificate, &value(secret, certificate)?)?;
    let first = chain.first().ok_or_else(|| Fault::new(certificate, "holds no certificate in PEM"))?;
    let (_, leaf) = X509Certificate::from_der(first)
        .map_err(|_| Fault::new(certificate, "the first certificate is not X.509"))?;
    let text = value(secret, key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        Fault::new(key, "holds no private key in PEM (PKCS#8, PKCS#1 or SEC 1, not encrypted)")
    })?;
    if !key::belongs(&private, leaf.public_key()) {
        return Err(Fault::new(key, format!("the key is not that of the certificate in {certificate}")));
    }
    Ok(Pair {
        chain: pem(&chain),
        key: String::from_utf8(text).map_err(|_| Fault::new(key, "is not text"))?,
        leaf: read_leaf(&leaf),
    })
}

/// The authorities of a Secret, in PEM.
///
/// # Errors
/// When there are none, or they are no certificates in PEM.
pub fn authorities(secret: &Secret) -> Result<String, Fault> {
    let has = |key: &&str| secret.data.contains_key(*key) || secret.string_data.contains_key(*key);
    let key = AUTHORITIES.into_iter().find(has).unwrap_or("ca.crt");
    bundle(key, &value(secret, key)?)
}

/// Whether a Secret holds authorities, usable or not.
pub fn has_authorities(secret: &Secret) -> bool {
    AUTHORITIES.iter().any(|key| secret.data.contains_key(*key) || secret.string_data.contains_key(*key))
}

/// The authorities of a ConfigMap (`ca.crt`), in PEM.
///
/// # Errors
/// When there are none, or they are no certificates in PEM.
pub fn config_map_authorities(map: &ConfigMap) -> Result<String, Fault> {
    const KEY: &str = "ca.crt";
    let binary = || map.binary_data.get(KEY).map(|text| decode(KEY, text));
    match map.data.get(KEY) {
        Some(text) => bundle(KEY, text.as_bytes()),
        None => bundle(KEY, &binary().ok_or_else(|| Fault::new(KEY, "is missing"))??),
    }
}

fn bundle(key: &str, text: &[u8]) -> Result<String, Fault> {
    let all = certificates(key, text)?;
    if all.is_empty() {
        return Err(Fault::new(key, "holds no certificate in PEM"));
    }
    Ok(pem(&all))
}

/// Every certificate of a text; each has to be one.
fn certificates(key: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut all = Vec::new();
    for (n, found) in CertificateDer::pem_slice_iter(text).enumerate() {
        let der = found.map_err(|_| Fault::new(key, "is not PEM"))?;
        if X509Certificate::from_der(&der).is_err() {
            return Err(Fault::new(key, format!("certificate {} is not X.509", n + 1)));
        }
        all.push(der);
    }
    Ok(all)
}

fn read_leaf(leaf: &X509Certificate<'_>) -> Leaf {
    let validity = leaf.validity();
    Leaf {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        subject: leaf.subject().to_string(),
    }
}

/// A value of a Secret, decoded.
fn value(secret: &Secret, key: &str) -> Result<Vec<u8>, Fault> {
    if let Some(text) = secret.string_data.get(key) {
        return Ok(text.clone().into_bytes());
    }
    let text = secret.data.get(key).ok_or_else(|| Fault::new(key, "is missing"))?;
    decode(key, text)
}

fn decode(key: &str, text: &str) -> Result<Vec<u8>, Fault> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Fault::new(key, "is not base64"))
}

/// Certificates as PEM, and nothing else that may have stood beside them.
fn pem(all: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for der in all {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(der);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
#[path = "certificate_test.rs"]
mod certificate_test;
