//! Whether a private key is that of a certificate, told without computing with either: private keys carry
//! their public part along, or at least say of which algorithm they are.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// DER of the object identifiers, without tag and length.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[1]` of SEC 1 (explicit) and of PKCS#8 version 2 (implicit).
const PUBLIC_KEY: [u8; 2] = [0xa1, 0x81];

/// What a private key tells of its public one.
#[derive(PartialEq, Eq, Debug)]
struct Told<'a> {
    algorithm: &'a [u8],
    public: Option<Public<'a>>,
}

#[derive(PartialEq, Eq, Debug)]
enum Public<'a> {
    /// Modulus and exponent.
    Rsa(&'a [u8], &'a [u8]),
    /// The content of the certificate's BIT STRING.
    Bits(&'a [u8]),
}

/// Whether the key can be the certificate's. A key that does not carry its public part (an Ed25519 key of
/// PKCS#8's first version) is compared by its algorithm alone.
pub(super) fn belongs(key: &PrivateKeyDer<'_>, certified: &SubjectPublicKeyInfo<'_>) -> bool {
    let told = match key {
        PrivateKeyDer::Pkcs1(key) => pkcs1(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => sec1(key.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
        _ => None,
    };
    let Some(told) = told else { return false };
    if told.algorithm != certified.algorithm.algorithm.as_bytes() {
        return false;
    }
    let bits: &[u8] = &certified.subject_public_key.data;
    match told.public {
        None => true,
        Some(Public::Bits(own)) => own == bits,
        Some(Public::Rsa(modulus, exponent)) => rsa(bits) == Some((modulus, exponent)),
    }
}

/// The content of the first element, if it has that tag, and what follows it.
fn element(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag == wanted).then_some((content, rest))
}

/// RSAPublicKey (RFC 8017, A.1.1).
fn rsa(bits: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inner, _) = element(bits, SEQUENCE)?;
    let (modulus, rest) = element(inner, INTEGER)?;
    let (exponent, _) = element(rest, INTEGER)?;
    Some((modulus, exponent))
}

/// RSAPrivateKey (RFC 8017, A.1.2): version, modulus, exponent, and what is secret.
fn pkcs1(der: &[u8]) -> Option<Told<'_>> {
    let (inner, _) = element(der, SEQUENCE)?;
    let (_, rest) = element(inner, INTEGER)?;
    let (modulus, rest) = element(rest, INTEGER)?;
    let (exponent, _) = element(rest, INTEGER)?;
    Some(Told { algorithm: RSA, public: Some(Public::Rsa(modulus, exponent)) })
}

/// ECPrivateKey (RFC 5915): version, the number, parameters `[0]`, public key `[1]`.
fn sec1(der: &[u8]) -> Option<Told<'_>> {
    let (inner, _) = element(der, SEQUENCE)?;
    let (_, rest) = element(inner, INTEGER)?;
    let (_, rest) = element(rest, OCTET_STRING)?;
    let rest = element(rest, 0xa0).map_or(rest, |(_, rest)| rest);
    let public = element(rest, PUBLIC_KEY[0])
        .and_then(|(content, _)| element(content, BIT_STRING))
        .and_then(|(bits, _)| bits.split_first());
    Some(Told { algorithm: EC, public: public.map(|(_, bits)| Public::Bits(bits)) })
}

/// OneAsymmetricKey (RFC 5958): version, algorithm, the key, attributes `[0]`, public key `[1]`.
fn pkcs8(der: &[u8]) -> Option<Told<'_>> {
    let (inner, _) = element(der, SEQUENCE)?;
    let (_, rest) = element(inner, INTEGER)?;
    let (algorithm, rest) = element(rest, SEQUENCE)?;
    let (algorithm, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let (key, rest) = element(rest, OCTET_STRING)?;
    match algorithm {
        RSA => pkcs1(key),
        EC => sec1(key),
        _ => {
            let rest = element(rest, 0xa0).map_or(rest, |(_, rest)| rest);
            let public = element(rest, PUBLIC_KEY[1]).and_then(|(bits, _)| bits.split_first());
            Some(Told { algorithm, public: public.map(|(_, bits)| Public::Bits(bits)) })
        }
    }
}
