//! Host name patterns: `a.example.org`, `*.example.org`, and the empty pattern that means every name.

use std::fmt;

/// A host name or a wildcard (`*.` in front, which stands for one label or more, as Gateway API has it).
///
/// Lower case, no port. The default is the pattern that matches every name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Hostname(String);

impl Hostname {
    pub(crate) fn new(text: &str) -> Self {
        match text {
            "*" => Self::default(),
            text => Self(text.to_ascii_lowercase()),
        }
    }

    /// Whether this pattern matches every name.
    pub(crate) fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows `*`: `.example.org`.
    fn suffix(&self) -> Option<&str> {
        if self.is_any() { Some("") } else { self.0.strip_prefix('*') }
    }

    /// Whether every name that `other` matches is matched by this pattern.
    pub(crate) fn covers(&self, other: &Hostname) -> bool {
        match (self.suffix(), other.suffix()) {
            (None, _) => self.0 == other.0,
            (Some(suffix), Some(theirs)) => theirs.ends_with(suffix),
            (Some(suffix), None) => other.0.len() > suffix.len() && other.0.ends_with(suffix),
        }
    }

    /// The names that both match: the narrower of the two where one covers the other, nothing elsewhere.
    pub(crate) fn intersect<'a>(&'a self, other: &'a Hostname) -> Option<&'a Hostname> {
        if self.covers(other) {
            Some(other)
        } else if other.covers(self) {
            Some(self)
        } else {
            None
        }
    }

    /// Larger is more specific: an exact name before any wildcard, then by length.
    pub(crate) fn specificity(&self) -> (bool, usize) {
        (self.suffix().is_none(), self.0.len())
    }

    /// As Envoy's virtual host domains spell it.
    pub(crate) fn domain(&self) -> &str {
        if self.is_any() { "*" } else { &self.0 }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.domain())
    }
}

#[cfg(test)]
mod tests {
    use super::Hostname;

    fn intersect(a: &str, b: &str) -> Option<String> {
        let (a, b) = (Hostname::new(a), Hostname::new(b));
        let forth = a.intersect(&b).map(ToString::to_string);
        assert_eq!(forth, b.intersect(&a).map(ToString::to_string), "not symmetric: {a} {b}");
        forth
    }

    #[test]
    fn intersections() {
        assert_eq!(intersect("*", "a.io").as_deref(), Some("a.io"));
        assert_eq!(intersect("*.io", "a.io").as_deref(), Some("a.io"));
        assert_eq!(intersect("*.io", "b.a.io").as_deref(), Some("b.a.io"));
        assert_eq!(intersect("*.io", "*.a.io").as_deref(), Some("*.a.io"));
        assert_eq!(intersect("*.a.io", "a.io"), None, "a wildcard needs a label in its place");
        assert_eq!(intersect("a.io", "A.IO").as_deref(), Some("a.io"));
        assert_eq!(intersect("*.ba.io", "xba.io"), None);
        assert_eq!(intersect("a.io", "b.io"), None);
    }

    #[test]
    fn the_more_specific_comes_first() {
        let mut names: Vec<_> =
            ["*", "*.io", "a.io", "*.very.long.name.io", "b.a.io"].map(Hostname::new).into();
        names.sort_by_key(|name| std::cmp::Reverse(name.specificity()));
        let order: Vec<_> = names.iter().map(Hostname::domain).collect();
        assert_eq!(order, ["b.a.io", "a.io", "*.very.long.name.io", "*.io", "*"]);
    }
}
