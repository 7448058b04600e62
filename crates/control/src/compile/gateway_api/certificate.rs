//! Certificates that a Gateway, or a ListenerSet, names.

use heddle_resource::{Key, ObjectRef};

use super::{
    around::Around,
    backend::Surroundings,
    model::{GROUP, Reference},
    read,
};
use crate::{
    compile::{cx::Cx, origination::Denial, tls::Credential},
    scope::GatewayFamily,
    status::Condition,
    world::ParentId,
};

/// Reason and message of a condition.
pub(super) type Fault = (&'static str, String);

/// The field of a Gateway that names its own certificate, shown to backends.
const OWN: &str = "spec.tls.backend.clientCertificateRef";

/// A certificate of a listener.
pub(super) fn of_listener(
    owner: &Key,
    to: &Reference,
    around: &dyn Surroundings,
) -> Result<Credential, Fault> {
    find(owner, to, around, ("certificateRefs", "InvalidCertificateRef"))
}

/// A certificate, given the field of `owner` that names it and the reason if it cannot be used.
fn find(
    owner: &Key,
    to: &Reference,
    around: &dyn Surroundings,
    (field, invalid): (&str, &'static str),
) -> Result<Credential, Fault> {
    if !to.group.is_empty() || to.kind != "Secret" {
        return Err((invalid, format!("{field}: {to} is no Secret")));
    }
    if to.namespace != *owner.namespace && !around.permits(GROUP, owner.kind.kind, &owner.namespace, to) {
        let message = format!(
            "{field}: no ReferenceGrant in its namespace permits a {} of namespace {} to use {to}",
            owner.kind.kind, owner.namespace
        );
        return Err(("RefNotPermitted", message));
    }
    let credential = Credential::pair(&to.namespace, &to.name);
    match around.usable(&credential) {
        Ok(()) => Ok(credential),
        Err(fault) => Err((invalid, format!("{field}: {fault}"))),
    }
}

/// The condition `ResolvedRefs` of a Gateway that names a certificate of its own.
pub(super) fn resolved(
    gateway: &Key,
    own: Option<&Reference>,
    around: &dyn Surroundings,
) -> Option<Condition> {
    Some(match find(gateway, own?, around, (OWN, "InvalidClientCertificateRef")) {
        Ok(_) => Condition::yes("ResolvedRefs", "ResolvedRefs"),
        Err((reason, message)) => Condition::no("ResolvedRefs", reason, message),
    })
}

/// The certificate that this scope's Gateway shows to backends with a BackendTLSPolicy, if it names one.
///
/// # Errors
/// When it cannot be used: nothing may be sent to such backends.
pub(crate) fn shown(cx: &Cx<'_>) -> Option<Result<Credential, Denial>> {
    let asked = cx.scope_gateway().filter(|asked| asked.family != Some(GatewayFamily::Istio))?;
    let key = ParentId::gateway(&asked.namespace, &asked.name).key();
    let own = read::own(cx.object(&key)?)?;
    let found = find(&key, &own, &Around::new(cx), (OWN, "InvalidClientCertificateRef"));
    // The object and the field stand in front of a denial.
    let why = |(_, message): Fault| message.trim_start_matches(OWN).trim_start_matches(": ").into();
    Some(found.map_err(|fault| Denial { of: ObjectRef { key, field: OWN.into() }, why: why(fault) }))
}
