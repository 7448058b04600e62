//! What `x-forwarded-client-cert` says of a client: one element, in Envoy's form.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::certificate::{Names, hex, sha256};
use crate::snapshot::ClientCert;

/// The element for a client with these certificates, its own first; `by` is who we are.
pub(crate) fn element(told: &ClientCert, by: Option<&str>, certificates: &[CertificateDer<'_>]) -> Box<[u8]> {
    let Some(own) = certificates.first() else { return Box::default() };
    let mut parts = Vec::new();
    if let Some(by) = by {
        parts.push(format!("By={}", value(by)));
    }
    parts.push(format!("Hash={}", hex(&sha256(own))));
    if told.cert {
        parts.push(format!("Cert=\"{}\"", encoded(&certificates[..1])));
    }
    if told.chain {
        parts.push(format!("Chain=\"{}\"", encoded(certificates)));
    }
    if told.subject {
        let subject = X509Certificate::from_der(own).map(|(_, parsed)| rfc2253(parsed.subject()));
        parts.push(format!("Subject=\"{}\"", subject.unwrap_or_default().replace('"', "\\\"")));
    }
    let names = Names::of(own).unwrap_or_default();
    if told.uri {
        parts.extend(names.uri.iter().map(|name| format!("URI={}", value(name))));
    }
    if told.dns {
        parts.extend(names.dns.iter().map(|name| format!("DNS={}", value(name))));
    }
    parts.join(";").into_bytes().into()
}

/// A value that could end its element early is quoted, and what no header may hold is left out.
fn value(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if text.contains([',', ';', '=', '"']) { format!("\"{}\"", text.replace('"', "\\\"")) } else { text }
}

/// PEM, URL-encoded.
fn encoded(certificates: &[CertificateDer<'_>]) -> String {
    let mut out = String::new();
    for certificate in certificates {
        out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        let text = base64(certificate);
        for line in text.as_bytes().chunks(64) {
            for byte in line {
                match byte {
                    b'+' => out.push_str("%2B"),
                    b'/' => out.push_str("%2F"),
                    b'=' => out.push_str("%3D"),
                    byte => out.push(char::from(*byte)),
                }
            }
            out.push_str("%0A");
        }
        out.push_str("-----END%20CERTIFICATE-----%0A");
    }
    out
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for three in data.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > three.len() { '=' } else { char::from(DIGITS[at as usize]) });
        }
    }
    out
}

/// The name, most specific part first (RFC 2253).
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN".to_owned(),
            "2.5.4.6" => "C".to_owned(),
            "2.5.4.7" => "L".to_owned(),
            "2.5.4.8" => "ST".to_owned(),
            "2.5.4.10" => "O".to_owned(),
            "2.5.4.11" => "OU".to_owned(),
            "1.2.840.113549.1.9.1" => "emailAddress".to_owned(),
            other => other.to_owned(),
        };
        let mut part = format!("{kind}=");
        for (at, c) in attribute.as_str().unwrap_or_default().chars().enumerate() {
            match c {
                ',' | '+' | '"' | '\\' | '<' | '>' | ';' => part.extend(['\\', c]),
                '#' | ' ' if at == 0 => part.extend(['\\', c]),
                c if c.is_control() || !c.is_ascii() => {
                    for byte in c.to_string().bytes() {
                        let _ = write!(part, "\\{byte:02X}");
                    }
                }
                c => part.push(c),
            }
        }
        parts.push(part);
    }
    parts.reverse();
    parts.join(",")
}
