//! From the fields of a block to a head, with the rules of RFC 9113, section 8.

use crate::http::h1::parse::{Malformed, decimal};
use crate::http::h1::target::valid_authority;
use crate::http::head::{Headers, Method, RequestHead, ResponseHead, Scheme, Span, Version};

/// How many times the limit of a head may be asked for in one block: beyond it lies an attack.
const ABUSE: usize = 4;
/// What a field counts besides its bytes (RFC 9113, 6.5.2).
const OVERHEAD: usize = 32;

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of all fields, each counted as its name, its value and 32.
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

/// The peer asks for too much memory or work: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abuse;

/// What a whole block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Well-formed; the length that it declares.
    Good(Option<u64>),
    /// HTTP/2 can carry it, and no other hop should see it.
    Refused(Malformed),
    /// A stream error (RFC 9113, 8.1.1).
    Malformed,
}

/// What the fields of every block have in common.
#[derive(Debug)]
struct Common {
    limits: Limits,
    size: usize,
    count: usize,
    malformed: bool,
    refused: Option<Malformed>,
    /// A field that is no pseudo-field has come.
    regular: bool,
    length: Option<u64>,
}

impl Common {
    fn new(limits: Limits) -> Self {
        let (malformed, regular, refused, length) = (false, false, None, None);
        Self { limits, size: 0, count: 0, malformed, refused, regular, length }
    }

    /// Counts a field; false when it is not to be kept.
    fn count(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Abuse> {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.size > self.limits.bytes {
            if self.size > self.limits.bytes.saturating_mul(ABUSE) {
                return Err(Abuse);
            }
            self.refuse(Malformed::TooLarge);
            return Ok(false);
        }
        Ok(true)
    }

    fn refuse(&mut self, why: Malformed) {
        self.refused.get_or_insert(why);
    }

    /// Looks at a field that is no pseudo-field; false when it is not to be kept.
    fn field(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.regular = true;
        self.count += 1;
        if self.count > self.limits.fields {
            self.refuse(Malformed::TooManyFields);
            return false;
        }
        if !valid_name(name) || !valid_value(value) || forbidden(name, value) {
            self.malformed = true;
            return false;
        }
        true
    }

    /// A length is said once and in digits: HTTP/1.1 would frame by it.
    fn content_length(&mut self, value: &[u8]) {
        match decimal(value) {
            Some(length) if self.length.is_none() => self.length = Some(length),
            _ => self.refuse(Malformed::ContentLength),
        }
    }

    fn verdict(&self) -> Verdict {
        match self.refused {
            _ if self.malformed => Verdict::Malformed,
            Some(why) => Verdict::Refused(why),
            None => Verdict::Good(self.length),
        }
    }
}

/// Which bytes a name consists of: those of a token, without large letters (RFC 9113, 8.2.1).
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
            | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

fn valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| NAME[usize::from(*byte)])
}

/// No control characters, and no space at either end (RFC 9113, 8.2.1).
fn valid_value(value: &[u8]) -> bool {
    let control = |byte: u8| (byte < 0x20) & (byte != b'\t') | (byte == 0x7f);
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().fold(false, |bad, byte| bad | control(*byte))
        && !space(value.first())
        && !space(value.last())
}

/// Fields that speak of a connection have no place in HTTP/2 (RFC 9113, 8.2.2).
fn forbidden(name: &[u8], value: &[u8]) -> bool {
    hop_by_hop(name) || (name == b"te" && !value.eq_ignore_ascii_case(b"trailers"))
}

/// The fields of HTTP/1.1's connections, in lower case.
pub(super) fn hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    }
}

/// Visible characters of ASCII, but for the fragment's mark, which is no part of a target.
fn valid_path(path: &[u8]) -> bool {
    path.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#')
}

/// A request on its way into a head.
#[derive(Debug)]
pub(super) struct Request<'h> {
    head: &'h mut RequestHead,
    common: Common,
    /// Extended CONNECT was offered.
    connect: bool,
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
    host: Option<Span>,
    cookies: u32,
}

impl<'h> Request<'h> {
    pub(super) fn new(head: &'h mut RequestHead, limits: Limits, connect: bool) -> Self {
        head.clear();
        head.version = Version::Http2;
        let (method, scheme, path, authority) = (false, false, false, false);
        let common = Common::new(limits);
        Self { head, common, connect, method, scheme, path, authority, host: None, cookies: 0 }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8], never: bool) -> Result<(), Abuse> {
        if !self.common.count(name, value)? {
            return Ok(());
        }
        if name.first() == Some(&b':') {
            self.pseudo(name, value);
            return Ok(());
        }
        if !self.common.field(name, value) {
            return Ok(());
        }
        match name.len() {
            4 if name == b"host" => {
                if self.host.replace(self.head.headers.store(value)).is_some() {
                    self.common.refuse(Malformed::ManyHosts);
                }
                return Ok(());
            }
            6 if name == b"cookie" => self.cookies += 1,
            14 if name == b"content-length" => self.common.content_length(value),
            _ => {}
        }
        self.head.headers.push(name, value, never);
        Ok(())
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        let head = &mut *self.head;
        let twice = match name {
            b":method" if valid_method(value) => {
                head.set_method(value);
                std::mem::replace(&mut self.method, true)
            }
            b":scheme" if valid_scheme(value) => {
                head.scheme = if value.eq_ignore_ascii_case(b"https") { Scheme::Https } else { Scheme::Http };
                std::mem::replace(&mut self.scheme, true)
            }
            b":path" if valid_path(value) => {
                head.set_path(value);
                std::mem::replace(&mut self.path, true)
            }
            b":authority" => {
                head.set_authority(value);
                std::mem::replace(&mut self.authority, true)
            }
            b":protocol" if self.connect && valid_protocol(value) => {
                let twice = !head.protocol().is_empty();
                head.set_protocol(value);
                twice
            }
            _ => true,
        };
        self.common.malformed |= twice || self.common.regular;
    }

    /// What the whole block is.
    pub(super) fn finish(mut self) -> Verdict {
        let head = &mut *self.head;
        if self.cookies > 1 {
            // Cut into pieces for compression; others know one such field (RFC 9113, 8.2.3).
            let cookies: Vec<&[u8]> = head.headers.get_all("cookie").collect();
            let joined = cookies.join(&b"; "[..]);
            head.headers.set("cookie", &joined);
        }
        if let Some(host) = self.host.filter(|_| !self.authority) {
            head.set_authority_span(host);
        }
        if !valid_authority(head.authority()) {
            self.common.refuse(Malformed::BadHost);
        }
        let plain_connect = head.method == Method::Connect && head.protocol().is_empty();
        let extended = !head.protocol().is_empty();
        let complete = match plain_connect {
            true => !self.scheme && !self.path && !head.authority().is_empty(),
            false => self.scheme && valid_target(head) && (!extended || head.method == Method::Connect),
        };
        if self.common.length.is_some() && head.method == Method::Connect {
            self.common.refuse(Malformed::ConnectContent);
        }
        if head.protocol().eq_ignore_ascii_case(b"h2c") {
            // In HTTP/1.1 this upgrade is passed over, and a request with another meaning would be left (RFC 9220, 3: 501).
            self.common.refuse(Malformed::Protocol);
        }
        // What was left out because of its size may have been what is missing.
        let partial = self.common.refused == Some(Malformed::TooLarge);
        self.common.malformed |= !partial && (!self.method || !complete);
        self.common.verdict()
    }
}

fn valid_method(method: &[u8]) -> bool {
    !method.is_empty() && method.iter().all(|byte| NAME[usize::from(byte.to_ascii_lowercase())])
}

fn valid_scheme(scheme: &[u8]) -> bool {
    !scheme.is_empty() && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn valid_protocol(protocol: &[u8]) -> bool {
    let token = |byte: &u8| NAME[usize::from(byte.to_ascii_lowercase())] || *byte == b'/';
    !protocol.is_empty() && protocol.iter().all(token)
}

fn valid_target(head: &RequestHead) -> bool {
    match head.path() {
        [b'/', ..] => true,
        b"*" => head.method == Method::Options,
        _ => false,
    }
}

/// A response on its way into a head.
#[derive(Debug)]
pub(super) struct Response<'h> {
    head: &'h mut ResponseHead,
    common: Common,
}

impl<'h> Response<'h> {
    pub(super) fn new(head: &'h mut ResponseHead, limits: Limits) -> Self {
        head.clear();
        head.version = Version::Http2;
        Self { head, common: Common::new(limits) }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8], never: bool) -> Result<(), Abuse> {
        if !self.common.count(name, value)? {
            return Ok(());
        }
        if name.first() == Some(&b':') {
            let status = decimal(value).filter(|status| (100..1000).contains(status) && value.len() == 3);
            let good = name == b":status" && self.head.status == 0 && !self.common.regular;
            match status.and_then(|status| u16::try_from(status).ok()) {
                Some(status) if good => self.head.status = status,
                _ => self.common.malformed = true,
            }
            return Ok(());
        }
        if self.common.field(name, value) {
            if name == b"content-length" {
                self.common.content_length(value);
            }
            self.head.headers.push(name, value, never);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Verdict {
        self.common.malformed |= self.head.status == 0;
        self.common.verdict()
    }
}

/// Trailers.
#[derive(Debug)]
pub(super) struct Trailers {
    pub(super) headers: Headers,
    common: Common,
}

impl Trailers {
    pub(super) fn new(limits: Limits) -> Self {
        Self { headers: Headers::new(), common: Common::new(limits) }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8], never: bool) -> Result<(), Abuse> {
        let framing = name == b"content-length" || name == b"host";
        if self.common.count(name, value)? && self.common.field(name, value) && !framing {
            self.headers.push(name, value, never);
        }
        Ok(())
    }

    /// False when they are malformed. A pseudo-field is, as its name is none.
    pub(super) fn good(&self) -> bool {
        matches!(self.common.verdict(), Verdict::Good(_))
    }
}

/// Fields that are read only because those behind them depend on it.
#[derive(Debug)]
pub(super) struct Ignored(Common);

impl Ignored {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Common::new(limits))
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Abuse> {
        self.0.count(name, value).map(|_| ())
    }
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod fields_test;
