//! Matchers of paths, headers and query parameters, with Envoy's meaning.

use std::borrow::Cow;

pub use super::pattern::{Pattern, RegexRewrite};
use crate::http::head::{Method, RequestHead};

/// A share of the requests in parts per million (`FractionalPercent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction(pub u32);

impl Fraction {
    /// All requests.
    pub const ALL: Fraction = Fraction(1_000_000);

    /// The roll falls into the share.
    pub fn hit(self, roll: u64) -> bool {
        roll % 1_000_000 < u64::from(self.0)
    }
}

/// An independent roll from the decision's random bits, one per purpose.
pub fn roll(random: u64, purpose: u64) -> u64 {
    let mut z = random.wrapping_add(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug)]
pub struct StringMatcher {
    kind: StringKind,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum StringKind {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Box<Pattern>),
}

impl StringMatcher {
    /// The whole text.
    pub fn exact(text: &str, ignore_case: bool) -> StringMatcher {
        StringMatcher { kind: StringKind::Exact(text.as_bytes().into()), ignore_case }
    }
    /// Its beginning.
    pub fn prefix(text: &str, ignore_case: bool) -> StringMatcher {
        StringMatcher { kind: StringKind::Prefix(text.as_bytes().into()), ignore_case }
    }
    /// Its end.
    pub fn suffix(text: &str, ignore_case: bool) -> StringMatcher {
        StringMatcher { kind: StringKind::Suffix(text.as_bytes().into()), ignore_case }
    }
    /// Any part of it.
    pub fn contains(text: &str, ignore_case: bool) -> StringMatcher {
        StringMatcher { kind: StringKind::Contains(text.as_bytes().into()), ignore_case }
    }
    /// The whole text by pattern.
    pub fn regex(pattern: Pattern) -> StringMatcher {
        StringMatcher { kind: StringKind::Regex(Box::new(pattern)), ignore_case: false }
    }

    /// The one text that matches, if there is only one.
    pub(super) fn only(&self) -> Option<&[u8]> {
        match &self.kind {
            StringKind::Exact(text) if !self.ignore_case => Some(text),
            _ => None,
        }
    }

    /// The text matches.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.kind {
            StringKind::Exact(s) => same(text, s),
            StringKind::Prefix(s) => text.get(..s.len()).is_some_and(|head| same(head, s)),
            StringKind::Suffix(s) => {
                text.len().checked_sub(s.len()).is_some_and(|start| same(&text[start..], s))
            }
            StringKind::Contains(s) => s.is_empty() || text.windows(s.len()).any(|window| same(window, s)),
            StringKind::Regex(pattern) => pattern.is_match(text),
        }
    }
}

impl std::fmt::Display for StringMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, text) = match &self.kind {
            StringKind::Exact(s) => ("is", String::from_utf8_lossy(s)),
            StringKind::Prefix(s) => ("starts with", String::from_utf8_lossy(s)),
            StringKind::Suffix(s) => ("ends with", String::from_utf8_lossy(s)),
            StringKind::Contains(s) => ("contains", String::from_utf8_lossy(s)),
            StringKind::Regex(p) => ("matches", Cow::Borrowed(p.as_str())),
        };
        write!(f, "{word} {text:?}{}", if self.ignore_case { " ignoring case" } else { "" })
    }
}

/// How a route looks at the path (`RouteMatch.path_specifier`). Query and fragment do not count.
#[derive(Clone, Debug)]
pub enum PathMatcher {
    /// `prefix`.
    Prefix(Box<[u8]>, Case),
    /// `path`.
    Exact(Box<[u8]>, Case),
    /// `path_separated_prefix`: the path itself or what is below it.
    Separated(Box<[u8]>, Case),
    /// `safe_regex`.
    Regex(Box<Pattern>),
    /// `connect_matcher`: CONNECT requests.
    Connect,
}

/// `case_sensitive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// True, the default.
    Sensitive,
    /// False.
    Insensitive,
}

impl Case {
    fn same(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Case::Sensitive => a == b,
            Case::Insensitive => a.eq_ignore_ascii_case(b),
        }
    }
}

impl PathMatcher {
    /// The path (without query) of this request matches.
    pub fn is_match(&self, head: &RequestHead, path: &[u8]) -> bool {
        if let PathMatcher::Connect = self {
            return head.method == Method::Connect;
        }
        if path.is_empty() && head.method == Method::Connect {
            return false;
        }
        match self {
            PathMatcher::Prefix(p, case) => path.get(..p.len()).is_some_and(|start| case.same(start, p)),
            PathMatcher::Exact(p, case) => case.same(path, p),
            PathMatcher::Separated(p, case) => {
                path.get(..p.len()).is_some_and(|start| case.same(start, p))
                    && path.get(p.len()).is_none_or(|next| *next == b'/')
            }
            PathMatcher::Regex(pattern) => pattern.is_match(path),
            PathMatcher::Connect => true,
        }
    }

    /// How much of the path a prefix rewrite replaces.
    pub fn matched_len(&self, path: &[u8]) -> usize {
        match self {
            PathMatcher::Prefix(p, _) | PathMatcher::Separated(p, _) => p.len().min(path.len()),
            _ => path.len(),
        }
    }
}

impl std::fmt::Display for PathMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, text, case) = match self {
            PathMatcher::Prefix(p, case) => ("starts with", String::from_utf8_lossy(p), *case),
            PathMatcher::Exact(p, case) => ("is", String::from_utf8_lossy(p), *case),
            PathMatcher::Separated(p, case) => ("is or is below", String::from_utf8_lossy(p), *case),
            PathMatcher::Regex(p) => ("matches", Cow::Borrowed(p.as_str()), Case::Sensitive),
            PathMatcher::Connect => return f.write_str("a CONNECT request"),
        };
        write!(f, "path {word} {text:?}{}", if case == Case::Insensitive { " ignoring case" } else { "" })
    }
}

/// `HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// Name, lowercased; `:method`, `:path`, `:authority` and `:scheme` too.
    pub name: Box<str>,
    /// What the value must be.
    pub value: HeaderKind,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_as_empty: bool,
}

/// What a header's value must be.
#[derive(Clone, Debug)]
pub enum HeaderKind {
    /// There, or not there.
    Present(bool),
    /// A number in start..end.
    Range(i64, i64),
    /// This text.
    Text(StringMatcher),
}

impl HeaderMatcher {
    /// The request's header matches.
    pub fn is_match(&self, head: &RequestHead) -> bool {
        if let Some(value) = pseudo_value(head, &self.name) {
            return self.is_match_values(value.into_iter());
        }
        self.is_match_values(head.headers.get_all(&self.name))
    }

    /// Name and value, if nothing but a field with exactly this value matches.
    pub(super) fn exact(&self) -> Option<(&str, &[u8])> {
        let field = !self.name.starts_with(':') && &*self.name != "host";
        match &self.value {
            HeaderKind::Text(text) if field && !self.invert && !self.missing_as_empty => {
                Some((&self.name, text.only()?))
            }
            _ => None,
        }
    }

    /// Any of the values matches, each looked at by itself.
    pub fn is_match_values<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        let mut values = values.peekable();
        if values.peek().is_none() && !self.missing_as_empty {
            return matches!(self.value, HeaderKind::Present(wanted) if wanted == self.invert);
        }
        let empty = values.peek().is_none().then_some(&[][..]);
        values.chain(empty).any(|value| self.is_value(value)) != self.invert
    }

    fn is_value(&self, value: &[u8]) -> bool {
        match &self.value {
            HeaderKind::Present(wanted) => *wanted,
            HeaderKind::Range(start, end) => std::str::from_utf8(value)
                .ok()
                .and_then(parse_int)
                .is_some_and(|n| (*start..*end).contains(&n)),
            HeaderKind::Text(text) => text.is_match(value),
        }
    }
}

fn parse_int(text: &str) -> Option<i64> {
    text.trim_matches(|c: char| c.is_ascii_whitespace()).parse().ok()
}

impl std::fmt::Display for HeaderMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not = if self.invert { "not: " } else { "" };
        match &self.value {
            HeaderKind::Present(true) => write!(f, "{not}header {} is present", self.name),
            HeaderKind::Present(false) => write!(f, "{not}header {} is absent", self.name),
            HeaderKind::Range(start, end) => write!(f, "{not}header {} is in {start}..{end}", self.name),
            HeaderKind::Text(text) => write!(f, "{not}header {} {text}", self.name),
        }
    }
}

/// The value of what is no field of the head, if the name is one of those.
fn pseudo_value<'h>(head: &'h RequestHead, name: &str) -> Option<Option<&'h [u8]>> {
    let value = match name {
        ":method" => head.method_bytes(),
        ":path" => head.path(),
        ":authority" | "host" => head.authority(),
        ":scheme" => head.scheme.as_str().as_bytes(),
        ":protocol" => head.protocol(),
        _ => return None,
    };
    Some((!value.is_empty()).then_some(value))
}

/// The value of a request header by its lowercased name: pseudo headers too, several joined by commas.
pub(crate) fn first_value<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    pseudo_value(head, name).unwrap_or_else(|| head.headers.get(name))
}

pub fn request_value<'h>(head: &'h RequestHead, name: &str) -> Option<Cow<'h, [u8]>> {
    if let Some(value) = pseudo_value(head, name) {
        return value.map(Cow::Borrowed);
    }
    let mut values = head.headers.get_all(name);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = [first, b",", second].concat();
    for value in values {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    Some(Cow::Owned(joined))
}

/// `QueryParameterMatcher`: looks at the first value of the parameter, not decoded.
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    /// Name.
    pub name: Box<str>,
    /// What the value must be; `None`: the parameter is there.
    pub value: Option<StringMatcher>,
}

impl QueryMatcher {
    /// A parameter of the query matches.
    pub fn is_match(&self, query: Option<&[u8]>) -> bool {
        let Some(query) = query else { return false };
        let found = query.split(|byte| *byte == b'&').find_map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            (name == self.name.as_bytes()).then_some(value)
        });
        match (found, &self.value) {
            (Some(value), Some(matcher)) => matcher.is_match(value),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

impl std::fmt::Display for QueryMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "query parameter {} {value}", self.name),
            None => write!(f, "query parameter {} is present", self.name),
        }
    }
}

/// `application/grpc`, alone or with a `+suffix`.
pub fn is_grpc(head: &RequestHead) -> bool {
    head.headers.get("content-type").is_some_and(|value| {
        value
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.first().is_none_or(|next| *next == b'+'))
    })
}
