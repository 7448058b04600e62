//! One message head for HTTP/1.1 and HTTP/2.
//!
//! All bytes of a head live in one buffer and everything else is a range into it, so that a parsed head costs one copy and
//! no allocation per field, and a reused head costs none at all. The case of names is kept as received; look-ups ignore it.
//! `Host` (HTTP/1.1) and `:authority` (HTTP/2) are both the head's authority and never a field.

use smallvec::SmallVec;

/// A range of the head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The span of `len` bytes at `start`. Heads are limited to 60 KiB, so both fit.
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    fn of(self, buf: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buf.get(start..start + self.len as usize).unwrap_or(&[])
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// The header fields of one message, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    buf: Vec<u8>,
    fields: SmallVec<[Field; 16]>,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True when there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of `name` (which is lower-case), compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.position(name).map(|index| self.fields[index].value.of(&self.buf))
    }

    /// True when a field of that name (lower-case) exists.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every value of `name` (lower-case) in order.
    pub fn get_all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        self.fields
            .iter()
            .filter(move |field| self.is_named(field, name))
            .map(|field| field.value.of(&self.buf))
    }

    /// Name (case as received) and value of every field in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        self.fields.iter().map(|field| (field.name.of(&self.buf), field.value.of(&self.buf)))
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        let name = self.store(name.as_bytes());
        let value = self.store(value);
        self.fields.push(Field { name, value });
    }

    /// Makes `value` the only value of `name` (lower-case): the first such field keeps its place and case.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let Some(first) = self.position(name) else {
            self.append(name, value);
            return;
        };
        let span = self.store(value);
        self.fields[first].value = span;
        let (buf, mut index) = (&self.buf, 0);
        self.fields.retain(|field| {
            let keep = index <= first || !field.name.of(buf).eq_ignore_ascii_case(name.as_bytes());
            index += 1;
            keep
        });
    }

    /// Removes every field called `name` (lower-case); true when there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.position(name).is_none() {
            return false;
        }
        let buf = &self.buf;
        self.fields.retain(|field| !field.name.of(buf).eq_ignore_ascii_case(name.as_bytes()));
        true
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let buf = &self.buf;
        self.fields.retain(|field| keep(field.name.of(buf), field.value.of(buf)));
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
    }

    /// Bytes that the fields' names and values take.
    pub fn size(&self) -> usize {
        self.fields.iter().map(|field| (field.name.len + field.value.len) as usize).sum()
    }

    /// Takes over the raw bytes of a head; the fields are then added by [`Headers::push_span`].
    pub(crate) fn load(&mut self, raw: &[u8]) {
        self.clear();
        self.buf.extend_from_slice(raw);
    }

    /// Adds a field whose bytes are in the buffer already.
    pub(crate) fn push_span(&mut self, name: Span, value: Span) {
        self.fields.push(Field { name, value });
    }

    /// Releases memory beyond what an ordinary head needs.
    pub(crate) fn shrink(&mut self) {
        self.clear();
        self.buf.shrink_to(2048);
        self.fields.shrink_to_fit();
    }

    pub(crate) fn store(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.buf.len(), bytes.len());
        self.buf.extend_from_slice(bytes);
        span
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| self.is_named(field, name))
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        debug_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        field.name.len as usize == name.len()
            && field.name.of(&self.buf).eq_ignore_ascii_case(name.as_bytes())
    }
}

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

/// `content-type: application/grpc` or a subtype of it.
pub(crate) fn is_grpc(headers: &Headers) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    headers
        .get("content-type")
        .and_then(|value| value.strip_prefix(TYPE))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
#[path = "head_test.rs"]
mod head_test;
