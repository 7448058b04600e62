//! `BackendTLSPolicy`: which one holds for a port of a Service, what it asks for, and whether it can be had.

use std::sync::Arc;

use heddle_resource::{
    Key, ObjectRef,
    gateway::{BackendTlsValidation, LocalReference},
    kind,
};

use crate::{
    compile::{
        origination::Denial,
        tls::{Client, Credential, Roots, Verification},
    },
    status::Condition,
    world::{BackendPolicyEntry, Service},
};

/// Asks whether authorities can be used.
pub(crate) type Usable<'u> = &'u dyn Fn(&Credential) -> Result<(), Arc<str>>;

/// What a policy says of a port, as far as its references are good.
pub(crate) struct Outcome {
    /// `Accepted` and `ResolvedRefs`.
    pub(crate) accepted: Condition,
    pub(crate) resolved: Condition,
    roots: Option<Roots>,
}

/// The policy for a port of a Service: one that names the port before one for all of them, then the older.
pub(crate) fn deciding<'p>(
    policies: &'p [Arc<BackendPolicyEntry>],
    service: &Service,
    port: u16,
) -> Option<&'p Arc<BackendPolicyEntry>> {
    let name = service.port(port).map(|port| &*port.name).unwrap_or_default();
    let targets = |entry: &&Arc<BackendPolicyEntry>, wanted: Option<&str>| {
        entry.spec.spec.target_refs.iter().any(|to| {
            to.group.is_empty()
                && to.kind == "Service"
                && *to.name == *service.name
                && to.section_name.as_deref() == wanted
        })
    };
    let by_name = policies.iter().find(|entry| targets(entry, Some(name)));
    by_name.or_else(|| policies.iter().find(|entry| targets(entry, None)))
}

/// Judges a policy by itself.
pub(crate) fn judge(entry: &BackendPolicyEntry, usable: Usable<'_>) -> Outcome {
    let refused = |kind, reason: &'static str, message: String| Condition::no(kind, reason, message);
    let yes = |kind: &'static str, reason: &'static str| Condition::yes(kind, reason);
    let Some(validation) = &entry.spec.spec.validation else {
        let message = "spec.validation is missing".to_owned();
        return Outcome {
            accepted: refused("Accepted", "Invalid", message),
            resolved: yes("ResolvedRefs", "ResolvedRefs"),
            roots: None,
        };
    };
    if let Some(known) = validation.well_known_ca_certificates.as_deref() {
        let system = known == "System";
        let message =
            format!("spec.validation.wellKnownCACertificates: {known} is not known here; use System");
        return Outcome {
            accepted: if system {
                yes("Accepted", "Accepted")
            } else {
                refused("Accepted", "Invalid", message)
            },
            resolved: yes("ResolvedRefs", "ResolvedRefs"),
            roots: system.then_some(Roots::System),
        };
    }
    let namespace = &entry.object.meta.namespace;
    let judged = validation.ca_certificate_refs.iter().enumerate();
    let judged = judged.map(|(n, to)| {
        authority(namespace, to, usable)
            .map_err(|(reason, fault)| (reason, format!("spec.validation.caCertificateRefs[{n}]: {fault}")))
    });
    let (good, bad): (Vec<_>, Vec<_>) = judged.partition(Result::is_ok);
    let keys: Vec<Key> = good.into_iter().flatten().collect();
    let resolved = match bad.into_iter().find_map(Result::err) {
        Some((reason, message)) => refused("ResolvedRefs", reason, message),
        None => yes("ResolvedRefs", "ResolvedRefs"),
    };
    if keys.is_empty() {
        let message = "spec.validation.caCertificateRefs: none can be used; requests get 503".to_owned();
        return Outcome {
            accepted: refused("Accepted", "NoValidCACertificate", message),
            resolved,
            roots: None,
        };
    }
    let roots = Some(Roots::Sds(Credential::Bundle(keys.into())));
    Outcome { accepted: yes("Accepted", "Accepted"), resolved, roots }
}

fn authority(
    namespace: &Arc<str>,
    to: &LocalReference,
    usable: Usable<'_>,
) -> Result<Key, (&'static str, String)> {
    let kind = match (&*to.group, &*to.kind) {
        ("", "ConfigMap") => &kind::CONFIG_MAP,
        ("", "Secret") => &kind::SECRET,
        _ => {
            return Err((
                "InvalidKind",
                format!("{} {} is neither a ConfigMap nor a Secret", to.kind, to.name),
            ));
        }
    };
    let key = Key::new(kind, namespace.clone(), to.name.as_str());
    match usable(&Credential::Bundle([key.clone()].into())) {
        Ok(()) => Ok(key),
        Err(fault) => Err(("InvalidCACertificateRef", fault.to_string())),
    }
}

/// What the way to a port takes by a policy.
///
/// # Errors
/// When it cannot be had: nothing may be sent.
pub(crate) fn client(
    entry: &BackendPolicyEntry,
    alpn: &'static [&'static str],
    usable: Usable<'_>,
) -> Result<(Client, Vec<Credential>), Denial> {
    let outcome = judge(entry, usable);
    let denial = |condition: &Condition| Denial {
        of: ObjectRef { key: entry.object.key(), field: "spec.validation".into() },
        why: condition.message.as_str().into(),
    };
    let (Some(roots), Some(validation)) = (outcome.roots, &entry.spec.spec.validation) else {
        let worse = if outcome.resolved.holds() { &outcome.accepted } else { &outcome.resolved };
        return Err(denial(worse));
    };
    let credentials = match &roots {
        Roots::Sds(credential) => vec![credential.clone()],
        Roots::File(_) | Roots::System => Vec::new(),
    };
    let servers = Some(Verification { names: names(validation), ..Verification::by(roots) });
    Ok((Client { sni: validation.hostname.clone(), certificate: None, servers, alpn }, credentials))
}

/// Names of which the certificate has to hold one.
fn names(validation: &BackendTlsValidation) -> Vec<String> {
    if validation.subject_alt_names.is_empty() {
        return vec![validation.hostname.clone()];
    }
    let each = validation.subject_alt_names.iter();
    each.filter_map(|name| name.hostname.clone().or_else(|| name.uri.clone())).collect()
}
