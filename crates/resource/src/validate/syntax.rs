//! Rules for single values: names, hosts, ports, addresses, durations, expressions.

use std::{collections::BTreeMap, net::IpAddr};

use super::Judge;
use crate::{istio::HeaderMatch, istio::StringMatch, value::Dur};

/// The longest regular expression that is compiled, in bytes.
const MAX_REGEX: usize = 4096;
/// The most memory that a compiled expression may take.
const MAX_REGEX_PROGRAM: usize = 1 << 20;

/// Parses and compiles an expression (RE2's syntax), within bounds.
pub(crate) fn regex(text: &str) -> Result<(), String> {
    use regex_automata::nfa::thompson;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > MAX_REGEX {
        return Err(format!("it is longer than {MAX_REGEX} bytes"));
    }
    let config = thompson::Config::new().nfa_size_limit(Some(MAX_REGEX_PROGRAM));
    match thompson::Compiler::new().configure(config).build(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Err(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    }
}

/// RFC 1123: `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63; upper case as hosts may have it.
pub(crate) fn is_label(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

pub(crate) fn is_lower_label(text: &str) -> bool {
    is_label(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// A host name: labels joined by dots, at most 255 bytes. Underscores are let through, as Istio does.
pub(crate) fn is_fqdn(text: &str) -> bool {
    let label = |l: &str| is_label(&l.replace('_', "a"));
    let text = text.strip_suffix('.').unwrap_or(text);
    !text.is_empty() && text.len() <= 255 && text.split('.').all(label)
}

/// `*`, `*.suffix` or a host name.
pub(crate) fn is_wildcard_host(text: &str) -> bool {
    text == "*" || is_fqdn(text.strip_prefix("*.").unwrap_or(text))
}

pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

pub(crate) fn is_subnet(text: &str) -> bool {
    is_ip(text) || text.parse::<ipnet::IpNet>().is_ok()
}

/// RFC 9110's token.
pub(crate) fn is_token(text: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

/// Whether two hosts, `*` in front allowed, share a name.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a.eq_ignore_ascii_case(b),
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
    }
}

impl Judge<'_> {
    pub(super) fn regex(&mut self, text: &str) {
        if let Err(why) = regex(text) {
            let expected = format!("RE2's syntax: {why}");
            self.error("HDL0105", "not a usable regular expression", text, &expected);
        }
    }

    pub(super) fn host(&mut self, text: &str) {
        if !is_wildcard_host(text) && !is_ip(text) {
            self.error("HDL0102", "not a host", text, "a name, *.suffix or *");
        }
    }

    pub(super) fn port(&mut self, number: impl Into<i64>) {
        let number = number.into();
        if !(1..=65535).contains(&number) {
            self.error("HDL0103", "not a port", number, "1 to 65535");
        }
    }

    pub(super) fn percent(&mut self, percent: impl Into<f64>) {
        let percent = percent.into();
        if !(0.0..=100.0).contains(&percent) {
            self.error("HDL0109", "not a share", percent, "0 to 100");
        }
    }

    pub(super) fn not_negative(&mut self, number: Option<i32>) {
        if let Some(number) = number.filter(|n| *n < 0) {
            self.error("HDL0109", "it is negative", number, "0 or more");
        }
    }

    /// At least a millisecond, and whole ones: what Envoy's timers hold.
    pub(super) fn duration(&mut self, duration: Option<Dur>) {
        let Some(Dur(duration)) = duration else { return };
        if duration.as_nanos() < 1_000_000 || duration.as_nanos() % 1_000_000 != 0 {
            let found = Dur(duration);
            self.error("HDL0109", "not a usable time", found, "whole milliseconds, at least one");
        }
    }

    /// The same, 0 meaning none.
    pub(super) fn duration_or_zero(&mut self, duration: Option<Dur>) {
        self.duration(duration.filter(|d| !d.0.is_zero()));
    }

    pub(super) fn string_match(&mut self, matched: Option<&StringMatch>) {
        match matched {
            Some(StringMatch::Prefix(prefix)) if prefix.is_empty() => {
                self.error("HDL0106", "an empty prefix matches everything", "", "a prefix");
            }
            Some(StringMatch::Regex(text)) => self.regex(text),
            _ => {}
        }
    }

    pub(super) fn header_match(&mut self, name: &str, matched: &HeaderMatch) {
        if !is_token(name) {
            self.error("HDL0110", "not a header name", name, "letters, digits and -");
        }
        self.value_match(matched);
    }

    pub(super) fn value_match(&mut self, matched: &HeaderMatch) {
        let set = [&matched.exact, &matched.prefix, &matched.regex].iter().filter(|m| m.is_some()).count();
        if set > 1 {
            self.conflict("exact, prefix and regex exclude each other");
        }
        self.string_match(matched.value().as_ref());
    }

    /// Labels as Kubernetes has them.
    pub(super) fn labels(&mut self, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(p, n)| (Some(p), n));
            if !is_label_word(name) || name.is_empty() || prefix.is_some_and(|p| !is_fqdn(p)) {
                self.error("HDL0112", "not a label", key, "[PREFIX/]NAME of letters, digits, -, _ and .");
            }
            if !is_label_word(value) {
                self.error("HDL0112", "not a label's value", value, "letters, digits, -, _ and .");
            }
        }
    }

    /// `.`, `*`, `~` or namespaces.
    pub(super) fn export_to(&mut self, namespaces: &[String]) {
        let mut at = self.field("exportTo");
        for namespace in namespaces {
            if !matches!(namespace.as_str(), "." | "*" | "~") && !is_lower_label(namespace) {
                at.error("HDL0114", "not a namespace", namespace, "., *, ~ or a name");
            }
        }
        at.unique(namespaces.iter().map(String::as_str));
        if namespaces.len() > 1 && namespaces.iter().any(|n| n == "*" || n == "~") {
            at.conflict("`*` and `~` stand alone");
        }
    }
}

fn is_label_word(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    text.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}

/// Istio's protocols, of which `UDP` is taken for ServiceEntries only.
pub(crate) fn is_protocol(text: &str) -> bool {
    let known = [
        "http",
        "https",
        "http2",
        "grpc",
        "grpc-web",
        "tcp",
        "tls",
        "mongo",
        "redis",
        "mysql",
        "hbone",
        "udp",
        "http_proxy",
    ];
    known.iter().any(|k| k.eq_ignore_ascii_case(text))
}
