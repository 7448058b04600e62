//! One message head for HTTP/1.1 and HTTP/2.
//!
//! All bytes of a head live in one buffer and everything else is a range into it, so that a parsed head costs one copy and
//! no allocation per field, and a reused head costs none at all. The case of names is kept as received; look-ups ignore it.
//! `Host` (HTTP/1.1) and `:authority` (HTTP/2) are both the head's authority and never a field.

pub use super::headers::Headers;
pub(crate) use super::headers::{Span, is_grpc};

/// A request method; what is not registered here keeps its bytes in the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    const NAMES: [(Self, &'static str); 9] = [
        (Self::Get, "GET"),
        (Self::Head, "HEAD"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Delete, "DELETE"),
        (Self::Connect, "CONNECT"),
        (Self::Options, "OPTIONS"),
        (Self::Trace, "TRACE"),
        (Self::Patch, "PATCH"),
    ];

    /// The method spelled by `bytes`; methods are case-sensitive (RFC 9110, 9.1).
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::NAMES
            .iter()
            .find(|(_, name)| name.as_bytes() == bytes)
            .map_or(Self::Other, |(method, _)| *method)
    }

    fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(method, _)| *method == self).map(|(_, name)| *name)
    }
}

/// The version of HTTP that a message came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// The scheme of the request's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method; its bytes are [`RequestHead::method_bytes`].
    pub method: Method,
    /// The version it was received with.
    pub version: Version,
    /// The scheme.
    pub scheme: Scheme,
    /// The fields, without `Host`.
    pub headers: Headers,
    method_other: Span,
    authority: Span,
    host_name: Span,
    path: Span,
    protocol: Span,
}

impl RequestHead {
    /// A head made by hand: for tests, mirrors and checks.
    pub fn new(method: &str, authority: &str, path: &str) -> Self {
        let mut head = Self::default();
        head.set_method(method.as_bytes());
        head.set_authority(authority.as_bytes());
        head.set_path(path.as_bytes());
        head
    }

    /// Adds a field; for chains in tests.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name, value.as_bytes());
        self
    }

    /// The method as sent.
    pub fn method_bytes(&self) -> &[u8] {
        match self.method.name() {
            Some(name) => name.as_bytes(),
            None => self.method_other.of(&self.headers.buf),
        }
    }

    /// Replaces the method.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = Method::from_bytes(method);
        if self.method == Method::Other {
            self.method_other = self.headers.store(method);
        }
    }

    /// `Host` or `:authority`, with its port if it has one; empty when there is none.
    pub fn authority(&self) -> &[u8] {
        self.authority.of(&self.headers.buf)
    }

    /// How the name `Host` was spelled; `host` where there was none (HTTP/2).
    pub fn host_spelled(&self) -> &[u8] {
        match self.host_name.of(&self.headers.buf) {
            [] => b"host",
            spelled => spelled,
        }
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.headers.store(authority);
    }

    /// Path and query; `*` for `OPTIONS *`, empty for CONNECT.
    pub fn path(&self) -> &[u8] {
        self.path.of(&self.headers.buf)
    }

    /// Replaces path and query.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.headers.store(path);
    }

    /// The path without query and fragment.
    pub fn path_only(&self) -> &[u8] {
        let path = self.path();
        let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
        &path[..end]
    }

    /// The query without its `?`; none when there is no `?`.
    pub fn query(&self) -> Option<&[u8]> {
        let path = self.path();
        let start = path.iter().position(|byte| *byte == b'?')?;
        let query = &path[start + 1..];
        let end = query.iter().position(|byte| *byte == b'#').unwrap_or(query.len());
        Some(&query[..end])
    }

    /// `:protocol` of an extended CONNECT (RFC 8441); empty when there is none.
    pub fn protocol(&self) -> &[u8] {
        self.protocol.of(&self.headers.buf)
    }

    /// Sets `:protocol`.
    pub fn set_protocol(&mut self, protocol: &[u8]) {
        self.protocol = self.headers.store(protocol);
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.method = Method::Get;
        self.version = Version::Http11;
        self.scheme = Scheme::Http;
        self.method_other = Span::default();
        self.authority = Span::default();
        self.host_name = Span::default();
        self.path = Span::default();
        self.protocol = Span::default();
    }

    pub(crate) fn set_path_span(&mut self, span: Span) {
        self.path = span;
    }

    pub(crate) fn set_authority_span(&mut self, span: Span) {
        self.authority = span;
    }

    /// The name of the host is written `host`, as in requests that are made here.
    pub(crate) fn forget_host_spelling(&mut self) {
        self.host_name = Span::default();
    }

    pub(crate) fn set_host_spelling(&mut self, name: Span) {
        self.host_name = name;
    }

    pub(crate) fn set_method_span(&mut self, method: Method, span: Span) {
        self.method = method;
        self.method_other = span;
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The version it was received with.
    pub version: Version,
    /// The fields.
    pub headers: Headers,
    reason: Span,
}

impl ResponseHead {
    /// A head without fields.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Adds a field; for chains.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name, value.as_bytes());
        self
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.status = 0;
        self.version = Version::Http11;
        self.reason = Span::default();
    }

    /// The reason phrase as received; empty when there was none.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.headers.buf)
    }

    pub(crate) fn set_reason_span(&mut self, span: Span) {
        self.reason = span;
    }
}

#[cfg(test)]
#[path = "head_test.rs"]
mod head_test;
