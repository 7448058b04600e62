//! What a Gateway's listeners are worth by themselves, before any route attaches.

use super::{
    attachment::ListenerOutcome,
    backend::Surroundings,
    certificate::{self, Fault},
    conflict,
    model::{GROUP, Gateway, Listener, Reference, RouteKind},
};
use heddle_resource::{Key, kind};

use crate::{compile::tls::Credential, status::Condition};

/// Judges every listener of a Gateway.
pub(crate) fn judge(gateway: &Gateway, around: &dyn Surroundings) -> Vec<ListenerOutcome> {
    let conflicts = conflict::all(gateway);
    let judged = gateway.listeners.iter().zip(conflicts).map(|(listener, conflicted)| {
        let (kinds, unknown) = supported_kinds(listener);
        let Secured { security, unresolved, unacceptable } = secured(gateway, listener, around);
        let accepted = match listener.set {
            // Who comes later gives way.
            Some(_) if conflicted.holds() => {
                Condition::no("Accepted", conflicted.reason.clone(), conflicted.message.clone())
            }
            _ => accepted(listener, unacceptable),
        };
        ListenerOutcome {
            resolved: resolved(listener, unknown, unresolved),
            kinds,
            accepted,
            security,
            conflicted,
            attached: Vec::new(),
        }
    });
    judged.collect()
}

/// The condition `Accepted` of a Gateway.
pub(crate) fn gateway_accepted(gateway: &Gateway, listeners: &[ListenerOutcome]) -> Condition {
    if let Some(address) =
        gateway.addresses.iter().find(|address| !matches!(&*address.kind, "IPAddress" | "Hostname"))
    {
        let message = format!("spec.addresses: type {} is not supported; use IPAddress", address.kind);
        return Condition::no("Accepted", "UnsupportedAddress", message);
    }
    if let Some(parameters) = &gateway.parameters {
        let message = format!("spec.infrastructure.parametersRef: {parameters} is no kind that is read here");
        return Condition::no("Accepted", "InvalidParameters", message);
    }
    let own = || gateway.listeners.iter().zip(listeners).filter(|(listener, _)| listener.set.is_none());
    let bad: Vec<_> =
        own().filter(|(_, outcome)| !outcome.serves()).map(|(listener, _)| listener.name.as_str()).collect();
    let message = format!("not served: listeners {}; see their conditions", bad.join(", "));
    match bad.len() {
        0 => Condition::yes("Accepted", "Accepted"),
        all if all == own().count() => Condition::no("Accepted", "ListenersNotValid", message),
        _ => Condition::yes("Accepted", "ListenersNotValid").with_message(message),
    }
}

/// The kinds of route that a protocol can carry.
fn kinds_of(listener: &Listener) -> &'static [RouteKind] {
    match &*listener.protocol {
        "HTTP" | "HTTPS" => &[RouteKind::Http, RouteKind::Grpc],
        "TCP" => &[RouteKind::Tcp],
        "TLS" => &[RouteKind::Tls],
        _ => &[],
    }
}

/// The kinds that are allowed and supported, and the first that is allowed and is not.
fn supported_kinds(listener: &Listener) -> (Vec<RouteKind>, Option<&str>) {
    let possible = kinds_of(listener);
    if listener.kinds.is_empty() {
        return (possible.to_vec(), None);
    }
    let known = |(group, kind): &(String, String)| {
        possible.iter().copied().find(|possible| group == GROUP && kind == possible.name())
    };
    let mut kinds: Vec<_> = listener.kinds.iter().filter_map(known).collect();
    kinds.dedup();
    let unknown = listener.kinds.iter().find(|kind| known(kind).is_none()).map(|(_, kind)| kind.as_str());
    (kinds, unknown)
}

fn accepted(listener: &Listener, unacceptable: Option<Fault>) -> Condition {
    let refused = |reason, message: String| Condition::no("Accepted", reason, message);
    let protocol = &listener.protocol;
    let tls = listener.tls.as_ref();
    match &**protocol {
        "TLS" if tls.is_none_or(|tls| !tls.passthrough) => refused(
            "UnsupportedValue",
            "tls.mode Terminate is not built yet for protocol TLS; nothing is served here in the clear"
                .into(),
        ),
        "HTTPS" | "TLS" if tls.is_some_and(|tls| tls.old_validation) => refused(
            "UnsupportedValue",
            "tls.frontendValidation of a listener is not built yet: use spec.tls.frontend of the Gateway"
                .into(),
        ),
        "HTTP" | "TCP" | "HTTPS" | "TLS" => match unacceptable {
            Some((reason, message)) => refused(reason, message),
            None => Condition::yes("Accepted", "Accepted"),
        },
        _ => refused(
            "UnsupportedProtocol",
            format!("protocol {protocol} is not supported; use HTTP, HTTPS, TLS or TCP"),
        ),
    }
}

fn resolved(listener: &Listener, unknown: Option<&str>, unresolved: Option<Fault>) -> Condition {
    let refused = |reason, message: String| Condition::no("ResolvedRefs", reason, message);
    if let Some(kind) = unknown {
        let message =
            format!("allowedRoutes.kinds: a listener of protocol {} carries no {kind}", listener.protocol);
        return refused("InvalidRouteKinds", message);
    }
    match unresolved {
        Some((reason, message)) => refused(reason, message),
        None => Condition::yes("ResolvedRefs", "ResolvedRefs"),
    }
}

/// How a listener's connections are protected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Security {
    /// Not at all, as it says.
    Plain,
    /// By the backend.
    Passthrough,
    /// Here.
    Ends {
        certificates: Vec<Credential>,
        /// Who verifies clients, and whether those that fail are let in all the same.
        clients: Option<(Credential, bool)>,
    },
    /// What it needs is missing: nothing is served.
    Broken,
}

struct Secured {
    security: Security,
    /// Of `ResolvedRefs`.
    unresolved: Option<Fault>,
    /// Of `Accepted`.
    unacceptable: Option<Fault>,
}

fn secured(gateway: &Gateway, listener: &Listener, around: &dyn Surroundings) -> Secured {
    let passes = listener.tls.as_ref().is_some_and(|tls| tls.passthrough);
    let plain = |security| Secured { security, unresolved: None, unacceptable: None };
    let broken = |fault| Secured { security: Security::Broken, unresolved: Some(fault), unacceptable: None };
    match &*listener.protocol {
        "HTTPS" => {}
        "TLS" if passes => return plain(Security::Passthrough),
        "TLS" => {}
        _ => return plain(Security::Plain),
    }
    let named = listener.tls.iter().flat_map(|tls| &tls.certificates);
    let mut certificates = Vec::new();
    for reference in named {
        match certificate::of_listener(listener.owner(gateway), reference, around) {
            Ok(credential) => certificates.push(credential),
            Err(fault) => return broken(fault),
        }
    }
    if certificates.is_empty() {
        return broken(("InvalidCertificateRef", "tls.certificateRefs names no certificate".to_owned()));
    }
    let Some((validation, field)) = gateway.frontend.at(listener.port) else {
        return plain(Security::Ends { certificates, clients: None });
    };
    let judged = validation.authorities.iter().map(|reference| authority(gateway, reference, &field, around));
    let (good, bad): (Vec<_>, Vec<_>) = judged.partition(Result::is_ok);
    let keys: Vec<Key> = good.into_iter().flatten().collect();
    let unresolved = bad.into_iter().find_map(Result::err);
    if keys.is_empty() {
        let message =
            format!("{field}.caCertificateRefs: none of them can be used; nobody is let in unverified");
        return Secured {
            security: Security::Broken,
            unresolved,
            unacceptable: Some(("NoValidCACertificate", message)),
        };
    }
    let clients = Some((Credential::Bundle(keys.into()), validation.insecure));
    Secured { security: Security::Ends { certificates, clients }, unresolved, unacceptable: None }
}

/// An object with authorities that clients are verified by.
fn authority(
    gateway: &Gateway,
    to: &Reference,
    field: &str,
    around: &dyn Surroundings,
) -> Result<Key, Fault> {
    let kind = match (&*to.group, &*to.kind) {
        ("", "ConfigMap") => &kind::CONFIG_MAP,
        ("", "Secret") => &kind::SECRET,
        _ => {
            let message = format!("{field}.caCertificateRefs: {to} is neither a ConfigMap nor a Secret");
            return Err(("InvalidCACertificateKind", message));
        }
    };
    if to.namespace != *gateway.key.namespace && !around.permits(GROUP, "Gateway", &gateway.key.namespace, to)
    {
        let message = format!("{field}.caCertificateRefs: no ReferenceGrant in its namespace permits {to}");
        return Err(("RefNotPermitted", message));
    }
    let key = Key::new(kind, to.namespace.as_str(), to.name.as_str());
    match around.usable(&Credential::Bundle([key.clone()].into())) {
        Ok(()) => Ok(key),
        Err(fault) => Err(("InvalidCACertificateRef", format!("{field}.caCertificateRefs: {fault}"))),
    }
}
