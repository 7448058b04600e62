//! Host names: short forms, wildcards, and who may see what.

use std::{collections::BTreeSet, sync::Arc};

/// A host as written in a resource, made a full name: names without a dot belong to the resource's
/// namespace (Istio's `ResolveShortnameToFQDN`); `*` and everything with a dot stand as they are.
pub(crate) fn resolve(host: &str, namespace: &str, domain: &str) -> Arc<str> {
    if host.is_empty() || host == "*" || host.contains('.') || host.parse::<std::net::IpAddr>().is_ok() {
        return host.to_ascii_lowercase().into();
    }
    format!("{}.{namespace}.svc.{domain}", host.to_ascii_lowercase()).into()
}

/// Whether a host pattern (`*`, `*.suffix` or a name) covers a host, which may be a pattern itself.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            let host = host.strip_prefix('*').unwrap_or(host);
            host.len() >= suffix.len() && host.ends_with(suffix)
        }
        None => pattern == host,
    }
}

/// Whether some host is covered by both patterns.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// The patterns that cover a host, the most specific first: itself, then `*.` and each suffix, then `*`.
pub(crate) fn patterns(host: &str) -> impl Iterator<Item = String> {
    let bare = host.strip_prefix("*.").unwrap_or(host);
    let own = (host != bare).then(|| host.to_owned());
    let mut suffixes = Vec::new();
    let mut rest = bare;
    while let Some((_, after)) = rest.split_once('.') {
        suffixes.push(format!("*.{after}"));
        rest = after;
    }
    let exact = (host == bare && host != "*").then(|| host.to_owned());
    own.into_iter().chain(exact).chain(suffixes).chain(std::iter::once("*".to_owned()))
}

/// Orders patterns by how specific they are: exact names before wildcards, longer wildcards before
/// shorter ones, then by name (Istio's `host.Names` order).
pub(crate) fn specificity(a: &str, b: &str) -> std::cmp::Ordering {
    let rank = |host: &str| (host.starts_with('*'), usize::MAX - host.len());
    rank(a).cmp(&rank(b)).then_with(|| a.cmp(b))
}

/// Which namespaces may see an object: `exportTo`, or the annotation `networking.istio.io/exportTo`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ExportTo {
    #[default]
    All,
    /// `~`: nobody.
    Nobody,
    These(BTreeSet<Arc<str>>),
}

impl ExportTo {
    /// Reads `*`, `.`, `~` and namespaces. Nothing said means everybody.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>, namespace: &str) -> Self {
        let mut these = BTreeSet::new();
        let mut nobody = false;
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "*" => return Self::All,
                "." => {
                    these.insert(namespace.into());
                }
                "~" => nobody = true,
                other => {
                    these.insert(other.into());
                }
            }
        }
        match (these.is_empty(), nobody) {
            (true, false) => Self::All,
            (true, true) => Self::Nobody,
            (false, _) => Self::These(these),
        }
    }

    /// Whether a client in that namespace may see the object.
    pub fn visible_to(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nobody => false,
            Self::These(these) => these.contains(namespace),
        }
    }
}

#[cfg(test)]
#[path = "host_test.rs"]
mod host_test;
