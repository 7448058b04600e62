//! `BackendTLSPolicy`: the CEL rules of its CRD.

use super::{Judge, gateway};
use crate::gateway::{BackendTlsPolicySpec, BackendTlsValidation};

pub(super) fn policy(spec: &BackendTlsPolicySpec, at: &mut Judge<'_>) {
    if !(1..=16).contains(&spec.target_refs.len()) {
        at.field("targetRefs").error("HDL0109", "not a number of targets", spec.target_refs.len(), "1 to 16");
    }
    let names: Vec<String> = spec
        .target_refs
        .iter()
        .map(|to| format!("{}/{} {}", to.kind, to.name, to.section_name.as_deref().unwrap_or_default()))
        .collect();
    at.field("targetRefs").unique(names.iter().map(String::as_str));
    match &spec.validation {
        Some(validation) => verification(validation, &mut at.field("validation")),
        None => at.field("validation").missing("how backends are verified"),
    }
}

fn verification(validation: &BackendTlsValidation, at: &mut Judge<'_>) {
    let known = validation.well_known_ca_certificates.as_deref().unwrap_or_default();
    match (validation.ca_certificate_refs.len(), known) {
        (0, "") => at.missing("caCertificateRefs or wellKnownCACertificates"),
        (1.., known) if !known.is_empty() => {
            at.conflict("caCertificateRefs and wellKnownCACertificates exclude each other");
        }
        (9.., _) => at.field("caCertificateRefs").error("HDL0109", "too many", "more than 8", "at most 8"),
        (0, known) if known != "System" && !known.contains('/') => {
            at.field("wellKnownCACertificates").error("HDL0109", "not a known word", known, "System");
        }
        _ => {}
    }
    if validation.hostname.is_empty() || validation.hostname.starts_with('*') {
        at.field("hostname").error("HDL0102", "not a host name", &validation.hostname, "a lower-case name");
    } else {
        gateway::hostname(&validation.hostname, &mut at.field("hostname"));
    }
    for (index, name) in validation.subject_alt_names.iter().enumerate() {
        let mut at = at.item("subjectAltNames", index);
        let fits = match name.type_.as_str() {
            "Hostname" => name.hostname.is_some() && name.uri.is_none(),
            _ => name.uri.as_deref().is_some_and(|uri| uri.contains("://")) && name.hostname.is_none(),
        };
        if !fits {
            at.error(
                "HDL0116",
                "the type names one field",
                &name.type_,
                "hostname for Hostname, uri for URI",
            );
        }
    }
}
