//! What a Gateway's listeners are worth by themselves, before any route attaches.

use super::{
    attachment::ListenerOutcome,
    backend::Surroundings,
    model::{GROUP, Gateway, Listener, Reference, RouteKind},
};
use crate::status::Condition;

/// Judges every listener of a Gateway.
pub(crate) fn judge(gateway: &Gateway, around: &dyn Surroundings) -> Vec<ListenerOutcome> {
    gateway
        .listeners
        .iter()
        .enumerate()
        .map(|(at, listener)| {
            let (kinds, unknown) = supported_kinds(listener);
            ListenerOutcome {
                resolved: resolved(gateway, listener, unknown, around),
                kinds,
                accepted: accepted(listener),
                conflicted: conflicted(gateway, at),
                attached: Vec::new(),
            }
        })
        .collect()
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
    let bad: Vec<_> = gateway
        .listeners
        .iter()
        .zip(listeners)
        .filter(|(_, outcome)| !outcome.serves())
        .map(|(listener, _)| listener.name.as_str())
        .collect();
    let message = format!("not served: listeners {}; see their conditions", bad.join(", "));
    match bad.len() {
        0 => Condition::yes("Accepted", "Accepted"),
        all if all == listeners.len() => Condition::no("Accepted", "ListenersNotValid", message),
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

fn accepted(listener: &Listener) -> Condition {
    let refused = |reason, message: String| Condition::no("Accepted", reason, message);
    let protocol = &listener.protocol;
    match &**protocol {
        "HTTP" | "TCP" => Condition::yes("Accepted", "Accepted"),
        "TLS" if listener.tls.as_ref().is_none_or(|tls| !tls.passthrough) => refused(
            "UnsupportedValue",
            "tls.mode Terminate is not built yet; nothing is served here in the clear".into(),
        ),
        "HTTPS" | "TLS" => refused(
            "UnsupportedProtocol",
            format!("protocol {protocol} is not built yet; nothing is served here in the clear"),
        ),
        _ => refused("UnsupportedProtocol", format!("protocol {protocol} is not supported; use HTTP or TCP")),
    }
}

/// Listeners share a port if their protocols can be told apart there and their names differ.
fn conflicted(gateway: &Gateway, at: usize) -> Condition {
    let listener = &gateway.listeners[at];
    let others = gateway.listeners.iter().enumerate();
    let others = others.filter(|(other, theirs)| *other != at && theirs.port == listener.port);
    for (_, other) in others {
        if family(other) != family(listener) {
            let message = format!(
                "port {}: protocol {} here, {} on listener {}",
                listener.port, listener.protocol, other.protocol, other.name
            );
            return Condition { message, ..Condition::yes("Conflicted", "ProtocolConflict") };
        }
        if other.hostname == listener.hostname {
            let message = format!(
                "port {}: listener {} has the same hostname {}",
                listener.port, other.name, other.hostname
            );
            return Condition { message, ..Condition::yes("Conflicted", "HostnameConflict") };
        }
    }
    Condition::no("Conflicted", "NoConflicts", "")
}

/// Protocols of one family can share a port: TLS by server name, HTTP by Host.
fn family(listener: &Listener) -> &str {
    match &*listener.protocol {
        "HTTPS" | "TLS" => "TLS",
        other => other,
    }
}

fn resolved(
    gateway: &Gateway,
    listener: &Listener,
    unknown: Option<&str>,
    around: &dyn Surroundings,
) -> Condition {
    let refused = |reason, message: String| Condition::no("ResolvedRefs", reason, message);
    if let Some(kind) = unknown {
        let message =
            format!("allowedRoutes.kinds: a listener of protocol {} carries no {kind}", listener.protocol);
        return refused("InvalidRouteKinds", message);
    }
    let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
    for certificate in certificates {
        if let Some((reason, message)) = bad_certificate(gateway, certificate, around) {
            return refused(reason, message);
        }
    }
    Condition::yes("ResolvedRefs", "ResolvedRefs")
}

fn bad_certificate(
    gateway: &Gateway,
    certificate: &Reference,
    around: &dyn Surroundings,
) -> Option<(&'static str, String)> {
    const INVALID: &str = "InvalidCertificateRef";
    if !certificate.group.is_empty() || certificate.kind != "Secret" {
        return Some((INVALID, format!("certificateRefs: {certificate} is no Secret")));
    }
    if certificate.namespace != *gateway.key.namespace
        && !around.permits(GROUP, "Gateway", &gateway.key.namespace, certificate)
    {
        let message = format!("certificateRefs: no ReferenceGrant in its namespace permits {certificate}");
        return Some(("RefNotPermitted", message));
    }
    match around.certificate(&certificate.namespace, &certificate.name) {
        None => Some((INVALID, format!("certificateRefs: {certificate} does not exist"))),
        Some(false) => Some((
            INVALID,
            format!("certificateRefs: {certificate} holds no certificate and key in PEM (tls.crt, tls.key)"),
        )),
        Some(true) => None,
    }
}
