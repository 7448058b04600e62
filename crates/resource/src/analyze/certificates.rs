//! Certificates in Secrets, and who refers to authorities.

use super::{Report, index::Index};
use crate::{
    certificate,
    core::Secret,
    gateway::{BackendTlsPolicySpec, FrontendTlsConfig},
};

/// A Secret that says it holds a certificate: whether it can be used, and is in its time.
pub(super) fn secret(secret: &Secret, report: &mut Report<'_>) {
    let has = |key: &str| secret.data.contains_key(key) || secret.string_data.contains_key(key);
    let holds = secret.type_ == "kubernetes.io/tls"
        || (has("tls.crt") && has("tls.key"))
        || (has("cert") && has("key"));
    if holds {
        match certificate::pair(secret) {
            Err(fault) => {
                let message = "the certificate cannot be used: what names it is closed";
                report.warn(
                    "HDL0407",
                    &fault.field,
                    message,
                    &fault.message,
                    "a certificate and its key in PEM",
                );
            }
            Ok(pair) => {
                if let Some(untimely) = pair.leaf.untimely(jiff::Timestamp::now().as_second()) {
                    let until = certificate::date(pair.leaf.not_after);
                    report.warn("HDL0408", "data", &untimely, until, "a certificate in its time");
                }
            }
        }
    }
    if certificate::has_authorities(secret)
        && let Err(fault) = certificate::authorities(secret)
    {
        let message = "the authorities cannot be used: what names them is closed";
        report.warn("HDL0407", &fault.field, message, &fault.message, "certificates in PEM");
    }
}

/// The authorities of a BackendTLSPolicy.
pub(super) fn policy(spec: &BackendTlsPolicySpec, index: &Index<'_>, report: &mut Report<'_>) {
    for (at, to) in spec.validation.iter().flat_map(|validation| &validation.ca_certificate_refs).enumerate()
    {
        let field = format!("spec.validation.caCertificateRefs[{at}]");
        bundle(&to.kind, report.namespace(), &to.name, &field, index, report);
    }
    for (at, to) in spec.target_refs.iter().enumerate().filter(|(_, to)| to.kind == "Service") {
        if index.has_services() && index.service(report.namespace(), &to.name).is_none() {
            let field = format!("spec.targetRefs[{at}]");
            let message = "there is no such Service: the policy protects nothing";
            report.warn("HDL0301", &field, message, &to.name, "a Service of its namespace");
        }
    }
}

/// The authorities by which a Gateway verifies clients.
pub(super) fn frontend(all: &FrontendTlsConfig, index: &Index<'_>, report: &mut Report<'_>) {
    let default = all.default.as_ref().map(|tls| (tls, "default".to_owned()));
    let ports = all.per_port.iter().enumerate();
    let ports = ports.filter_map(|(n, port)| Some((port.tls.as_ref()?, format!("perPort[{n}].tls"))));
    for (tls, field) in default.into_iter().chain(ports) {
        for (at, to) in tls.validation.iter().flat_map(|own| &own.ca_certificate_refs).enumerate() {
            let field = format!("spec.tls.frontend.{field}.validation.caCertificateRefs[{at}]");
            let namespace = to.namespace.as_deref().unwrap_or(report.namespace());
            bundle(to.kind.as_deref().unwrap_or("ConfigMap"), namespace, &to.name, &field, index, report);
        }
    }
}

fn bundle(kind: &str, namespace: &str, name: &str, field: &str, index: &Index<'_>, report: &mut Report<'_>) {
    let there = match kind {
        "ConfigMap" => index.has_config_map(namespace, name),
        "Secret" => index.has_secret(namespace, name),
        _ => return,
    };
    if !there {
        let message = format!("there is no such {kind}: what it protects is closed");
        report.error("HDL0307", field, &message, format!("{namespace}/{name}"), "an object with ca.crt");
    }
}
