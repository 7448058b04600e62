//! Kinds that a mesh has and this version does not: a user who applies one has to hear that nothing follows it.

/// Kinds that restrict, encrypt, or may do either. Whoever writes one takes his traffic for protected, so it is refused.
const PROTECTING: &[(&str, &[&str])] = &[
    ("security.istio.io", &["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"]),
    ("networking.istio.io", &["EnvoyFilter"]),
    ("extensions.istio.io", &["WasmPlugin", "TrafficExtension"]),
    // Rate limits, keys, checks: none of them is built.
    ("heddle.dev", &[]),
];

/// Kinds without which traffic goes its way, only less well.
const HARMLESS: &[(&str, &[&str])] = &[
    ("networking.istio.io", &["ProxyConfig"]),
    ("telemetry.istio.io", &["Telemetry"]),
    ("gateway.networking.k8s.io", &["UDPRoute"]),
    ("networking.k8s.io", &["Ingress", "IngressClass"]),
];

/// What leaving a kind out means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Traffic would pass that somebody believes is stopped or encrypted.
    Unprotected,
    Harmless,
}

/// Whether a kind is one of a mesh, though not of this one yet. No names under a group: all of its kinds.
pub(crate) fn absence(group: &str, kind: &str) -> Option<Absence> {
    let stands = |table: &[(&str, &[&str])]| {
        table.iter().any(|(of, kinds)| *of == group && (kinds.is_empty() || kinds.contains(&kind)))
    };
    if stands(PROTECTING) {
        Some(Absence::Unprotected)
    } else {
        stands(HARMLESS).then_some(Absence::Harmless)
    }
}
