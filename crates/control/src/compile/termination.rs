//! TLS that is ended as `ServerTlsSettings` ask for it: by servers of Istio Gateways, and ingress listeners of Sidecars.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use heddle_resource::{
    ObjectRef,
    istio::{ServerTlsMode, ServerTlsSettings},
};

use super::{
    cx::Cx,
    tls::{self, Certificate, Credential, Roots, Server, Verification},
    unit::Unit,
};
use crate::finding::{Finding, code};

/// The object and a field of it, given what stands behind the path of what has the settings: `.tls.credentialName`.
pub(super) type At<'a> = &'a dyn Fn(&str) -> ObjectRef;

/// The settings as a transport socket; nothing, reported, where that cannot be had.
pub(super) fn socket(
    cx: &Cx<'_>,
    at: At<'_>,
    settings: &ServerTlsSettings,
    alpn: &'static [&'static str],
    units: &mut Vec<Unit>,
) -> Option<TransportSocket> {
    let mode = settings.mode.unwrap_or_default();
    let certificates = certificates(cx, at, settings, units)?;
    let verifies = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let clients = if verifies { Some(verification(cx, at, settings, units)?) } else { None };
    let text = |version: &Option<String>| version.clone().unwrap_or_default();
    Some(tls::downstream(&Server {
        certificates,
        clients,
        demands: mode == ServerTlsMode::Mutual,
        oldest: text(&settings.min_protocol_version),
        newest: text(&settings.max_protocol_version),
        suites: settings.cipher_suites.clone(),
        alpn,
    }))
}

/// Takes up a credential, or says why it cannot be.
fn take(cx: &Cx<'_>, at: At<'_>, field: &str, credential: &Credential, units: &mut Vec<Unit>) -> Option<()> {
    match tls::usable(cx, credential) {
        Ok(()) => {
            units.push(Unit::Secret(credential.clone()));
            Some(())
        }
        Err(fault) => {
            let message = format!("{fault}: connections are closed, nothing is served in the clear");
            cx.report(Finding::new(code::CREDENTIAL, at(&format!(".tls.{field}")), message));
            None
        }
    }
}

/// The server's certificates. Secrets are looked up in the gateway proxy's own namespace, as in Istio.
fn certificates(
    cx: &Cx<'_>,
    at: At<'_>,
    settings: &ServerTlsSettings,
    units: &mut Vec<Unit>,
) -> Option<Vec<Certificate>> {
    let mut found = Vec::new();
    for (field, name) in named(settings) {
        let credential = Credential::pair(cx.namespace(), name);
        take(cx, at, &field, &credential, units)?;
        found.push(Certificate::Sds(credential));
    }
    if !found.is_empty() {
        return Some(found);
    }
    let own = [(&settings.server_certificate, &settings.private_key)];
    let more = settings.tls_certificates.iter().map(|pair| (&pair.server_certificate, &pair.private_key));
    for (chain, key) in own.into_iter().chain(more).filter(|(chain, _)| !chain.is_empty()) {
        found.push(Certificate::Files { chain: chain.clone(), key: key.clone() });
    }
    if found.is_empty() {
        let message = "no certificate: connections are closed; name a Secret in credentialName";
        cx.report(Finding::new(code::CREDENTIAL, at(".tls"), message));
        return None;
    }
    Some(found)
}

/// The Secrets that a server names, with the field of each.
fn named(settings: &ServerTlsSettings) -> impl Iterator<Item = (String, &str)> {
    let one = Some(&*settings.credential_name).filter(|name| !name.is_empty());
    let one = one.map(|name| ("credentialName".to_owned(), name));
    let several = settings.credential_names.iter().enumerate();
    one.into_iter().chain(several.map(|(n, name)| (format!("credentialNames[{n}]"), name.as_str())))
}

fn verification(
    cx: &Cx<'_>,
    at: At<'_>,
    settings: &ServerTlsSettings,
    units: &mut Vec<Unit>,
) -> Option<Verification> {
    let more = settings.tls_certificates.iter().map(|pair| &pair.ca_certificates);
    let files = [&settings.ca_certificates].into_iter().chain(more).filter(|path| !path.is_empty());
    let files: BTreeSet<_> = files.collect();
    if files.len() > 1 {
        let message =
            "clients are verified by one file of authorities, and several are named: connections are closed";
        cx.report(Finding::new(code::DENIED, at(".tls.caCertificates"), message));
        return None;
    }
    let file = files.into_iter().next();
    let secret = Some(&*settings.ca_cert_credential_name).filter(|name| !name.is_empty());
    let secret = secret.map(|name| ("caCertCredentialName".to_owned(), name));
    let roots = match (secret.or_else(|| named(settings).next().filter(|_| file.is_none())), file) {
        (Some((field, name)), _) => {
            let credential = Credential::companion(cx.namespace(), name);
            take(cx, at, &field, &credential, units)?;
            Roots::Sds(credential)
        }
        (None, Some(path)) => Roots::File(path.clone()),
        (None, None) => {
            let message = "no authorities for clients' certificates: connections are closed";
            cx.report(Finding::new(code::CREDENTIAL, at(".tls.caCertificates"), message));
            return None;
        }
    };
    Some(Verification {
        names: settings.subject_alt_names.clone(),
        spki: settings.verify_certificate_spki.clone(),
        hashes: settings.verify_certificate_hash.clone(),
        revoked: settings.ca_crl.clone(),
        ..Verification::by(roots)
    })
}
