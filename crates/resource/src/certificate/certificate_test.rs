//! Pairs and authorities, good and bad.

use std::collections::BTreeMap;

use base64::Engine as _;

use super::{authorities, config_map_authorities, pair};
use crate::core::{ConfigMap, Secret};

fn secret<const N: usize>(values: [(&str, &str); N]) -> Secret {
    let string_data = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Secret { string_data, ..Secret::default() }
}

fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A certificate, its key in PKCS#8, and the same key in PKCS#1, as `openssl rsa -traditional` writes it.
fn rsa() -> (String, String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let params = rcgen::CertificateParams::new(["rsa.example".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    // What stands around an RSAPrivateKey in PKCS#8 is always as long.
    let inner = base64::engine::general_purpose::STANDARD.encode(&key.serialize_der()[26..]);
    let pkcs1 = format!("-----BEGIN RSA PRIVATE KEY-----\n{inner}\n-----END RSA PRIVATE KEY-----\n");
    (certificate.pem(), key.serialize_pem(), pkcs1)
}

#[test]
fn a_pair_in_either_form() {
    let (certificate, key) = made("a.example");
    for names in [["tls.crt", "tls.key"], ["cert", "key"]] {
        let pair = pair(&secret([(names[0], &certificate), (names[1], &key)])).expect("a pair");
        assert_eq!(pair.chain.matches("BEGIN CERTIFICATE").count(), 1);
        assert_eq!(pair.key, key);
        assert!(pair.leaf.not_after > pair.leaf.not_before);
    }
}

#[test]
fn rsa_keys_in_both_encodings() {
    let (certificate, pkcs8, pkcs1) = rsa();
    for key in [pkcs8, pkcs1] {
        pair(&secret([("tls.crt", &certificate), ("tls.key", &key)])).expect("a pair");
    }
    let (_, other) = made("b.example");
    let fault =
        pair(&secret([("tls.crt", &certificate), ("tls.key", &other)])).expect_err("another algorithm");
    assert_eq!(fault.field, r#"data["tls.key"]"#);
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let ((certificate, own), (_, other)) = (made("a.example"), made("a.example"));
    let fault = pair(&secret([("tls.crt", &certificate), ("tls.key", &other)])).expect_err("not its key");
    assert_eq!(fault.to_string(), r#"data["tls.key"]: the key is not that of the certificate in tls.crt"#);
    assert!(!format!("{fault:?}").contains("PRIVATE"), "no content in a fault");
    let good = pair(&secret([("tls.crt", &certificate), ("tls.key", &own)])).expect("a pair");
    assert!(!format!("{good:?}").contains("PRIVATE"), "no key in a debug text");
}

#[test]
fn what_is_no_pair() {
    let (certificate, key) = made("a.example");
    let broken = certificate.replace("MII", "AII");
    let cases: [(&str, Secret, &str); 5] = [
        ("nothing", secret([]), r#"data["tls.crt"]: is missing"#),
        ("no key", secret([("tls.crt", &certificate)]), r#"data["tls.key"]: is missing"#),
        ("no PEM", secret([("tls.crt", "Hello"), ("tls.key", &key)]), "holds no certificate in PEM"),
        ("not X.509", secret([("tls.crt", &broken), ("tls.key", &key)]), "is not X.509"),
        (
            "a certificate for a key",
            secret([("tls.crt", &certificate), ("tls.key", &certificate)]),
            "no private key",
        ),
    ];
    for (what, secret, wanted) in cases {
        let fault = pair(&secret).expect_err(what).to_string();
        assert!(fault.contains(wanted), "{what}: {fault}");
    }
}

#[test]
fn authorities_of_secrets_and_config_maps() {
    let ((a, key), (b, _)) = (made("a.example"), made("b.example"));
    let both = format!("{a}{b}{key}");
    let text = authorities(&secret([("ca.crt", &both)])).expect("authorities");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!text.contains("PRIVATE"), "what stands beside certificates goes no further");
    authorities(&secret([("cacert", &a)])).expect("Istio's name");
    let map = |text: &str| ConfigMap {
        data: BTreeMap::from([("ca.crt".to_owned(), text.to_owned())]),
        ..ConfigMap::default()
    };
    config_map_authorities(&map(&a)).expect("authorities");
    assert!(config_map_authorities(&map("none")).expect_err("none").message.contains("no certificate"));
    assert!(config_map_authorities(&ConfigMap::default()).expect_err("none").message.contains("missing"));
}

#[test]
fn the_time_is_judged_by_whoever_has_a_clock() {
    let (certificate, key) = made("a.example");
    let leaf = pair(&secret([("tls.crt", &certificate), ("tls.key", &key)])).expect("a pair").leaf;
    assert_eq!(leaf.untimely(leaf.not_after), None);
    assert!(leaf.untimely(leaf.not_after + 1).is_some_and(|text| text.contains("expired")));
    assert!(leaf.untimely(leaf.not_before - 1).is_some_and(|text| text.contains("valid from")));
}
