//! From the bytes of a head to a [`RequestHead`] or [`ResponseHead`] and the framing of what follows.

use std::mem::MaybeUninit;
use std::num::NonZeroU16;

use crate::http::h1::framing::Framing;
use crate::http::h1::target::{set_target, valid_authority};
use crate::http::head::{Headers, Method, RequestHead, ResponseHead, Span, Version};

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the whole head (Envoy `max_request_headers_kb`, 60 KiB).
    pub(crate) bytes: usize,
    /// Number of fields (Envoy `max_headers_count`, 100).
    pub(crate) fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 60 * 1024, fields: 100 }
    }
}

/// The most fields that can be configured.
pub(crate) const MAX_FIELDS: usize = 256;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("not an HTTP/1 message")]
    Syntax,
    #[error("a line that does not end in CR LF")]
    BareLineEnd,
    #[error("no Host field")]
    NoHost,
    #[error("more than one Host field")]
    ManyHosts,
    #[error("an invalid Host or authority")]
    BadHost,
    #[error("an invalid Content-Length, or more than one")]
    ContentLength,
    #[error("Content-Length beside Transfer-Encoding")]
    TwoFramings,
    #[error("a transfer coding other than chunked")]
    TransferEncoding,
    #[error("an invalid request target")]
    Target,
    #[error("an invalid Connection field")]
    Connection,
    #[error("a head larger than its limit")]
    TooLarge,
    #[error("more fields than the limit")]
    TooManyFields,
    #[error("an unsupported version of HTTP")]
    Version,
    #[error("a switch of protocols that nobody asked for")]
    Switch,
    #[error("a Sec-WebSocket-Accept that is not of the key")]
    Accept,
    #[error("more interim responses than the limit")]
    TooManyInterim,
    #[error("CONNECT with content")]
    ConnectContent,
    #[error("a broken chunk")]
    Chunk,
    #[error("a body of gRPC-Web that is no base64")]
    Base64,
    #[error("an extended CONNECT for a protocol that is none of its own")]
    Protocol,
}

impl Malformed {
    /// The status that answers such a request (as Envoy's HTTP/1 codec does).
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyFields => 431,
            Self::TransferEncoding | Self::Protocol => 501,
            _ => 400,
        }
    }
}

/// What a complete head said besides its fields.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message {
    /// Bytes the head took.
    pub(crate) len: usize,
    /// How its body is delimited.
    pub(crate) framing: Framing,
    /// The connection may carry another message after this one.
    pub(crate) keep_alive: bool,
    /// `Expect: 100-continue`.
    pub(crate) expects_continue: bool,
    /// `Connection: upgrade`, or CONNECT: what follows may not be HTTP.
    pub(crate) leaves_http: bool,
    /// Seconds for which the peer says that it leaves the connection open (`Keep-Alive: timeout=`).
    pub(crate) stays_open: Option<NonZeroU16>,
}

/// Parses a request's head; `None` when more bytes are needed.
pub(crate) fn request(
    raw: &[u8],
    head: &mut RequestHead,
    limits: Limits,
) -> Result<Option<Message>, Malformed> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
    let fields = limits.fields.min(MAX_FIELDS);
    let mut request = httparse::Request::new(&mut []);
    let status = request.parse_with_uninit_headers(raw, &mut slots[..fields]);
    let Some(len) = complete(status, raw, limits)? else {
        return Ok(None);
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Malformed::Syntax);
    };
    head.clear();
    head.headers.load(&raw[..len]);
    head.version = version(minor);
    let method_span = span(raw, method.as_bytes());
    head.set_method_span(Method::from_bytes(method.as_bytes()), method_span);
    let scan = load_fields(raw, request.headers, &mut head.headers)?;
    if let Some(host) = scan.host {
        head.set_authority_span(host);
        head.set_host_spelling(scan.host_name);
        if !valid_authority(head.authority()) {
            return Err(Malformed::BadHost);
        }
    }
    set_target(raw, target, head)?;
    if scan.host.is_none() && head.version == Version::Http11 {
        return Err(Malformed::NoHost);
    }
    let framing = match (scan.chunked, scan.length) {
        (true, Some(_)) => return Err(Malformed::TwoFramings),
        (true, None) if head.version == Version::Http10 => return Err(Malformed::TransferEncoding),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::length(length),
        (false, None) => Framing::Empty,
    };
    let connect = head.method == Method::Connect;
    if connect && (scan.chunked || scan.length.is_some()) {
        return Err(Malformed::ConnectContent);
    }
    Ok(Some(Message {
        len,
        framing,
        keep_alive: scan.keep_alive(head.version),
        leaves_http: scan.upgrade || connect,
        stays_open: None,
        expects_continue: scan.expects_continue && head.version == Version::Http11,
    }))
}

/// Parses a response's head; `None` when more bytes are needed. What follows a response depends on its request.
pub(crate) fn response(
    raw: &[u8],
    head: &mut ResponseHead,
    method: Method,
    limits: Limits,
) -> Result<Option<Message>, Malformed> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
    let fields = limits.fields.min(MAX_FIELDS);
    let mut response = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        raw,
        &mut slots[..fields],
    );
    let Some(len) = complete(status, raw, limits)? else {
        return Ok(None);
    };
    let (Some(code), Some(minor)) = (response.code, response.version) else {
        return Err(Malformed::Syntax);
    };
    if code < 100 {
        return Err(Malformed::Syntax);
    }
    head.clear();
    head.headers.load(&raw[..len]);
    head.version = version(minor);
    head.status = code;
    if let Some(reason) = response.reason.filter(|reason| !reason.is_empty()) {
        head.set_reason_span(span(raw, reason.as_bytes()));
    }
    let scan = load_fields(raw, response.headers, &mut head.headers)?;
    if scan.chunked && scan.length.is_some() {
        return Err(Malformed::TwoFramings);
    }
    // Neither has a body, nor says how one would be coded (RFC 9112, 6.1).
    if scan.chunked && (code < 200 || code == 204) {
        return Err(Malformed::TransferEncoding);
    }
    let tunnel = code == 101 || (method == Method::Connect && (200..300).contains(&code));
    let framing = if tunnel {
        Framing::UntilClose
    } else if method == Method::Head || code == 204 || code == 304 || code < 200 {
        Framing::Empty
    } else if scan.chunked && head.version == Version::Http11 {
        Framing::Chunked
    } else if scan.chunked {
        return Err(Malformed::TransferEncoding);
    } else if let Some(length) = scan.length {
        Framing::length(length)
    } else {
        Framing::UntilClose
    };
    Ok(Some(Message {
        len,
        framing,
        keep_alive: scan.keep_alive(head.version) && framing != Framing::UntilClose,
        expects_continue: false,
        leaves_http: false,
        stays_open: scan.stays_open,
    }))
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// Turns the tokenizer's verdict into the length of the head, and refuses line ends that it lets pass.
fn complete(status: httparse::Result<usize>, raw: &[u8], limits: Limits) -> Result<Option<usize>, Malformed> {
    match status {
        Ok(httparse::Status::Complete(len)) if len > limits.bytes => Err(Malformed::TooLarge),
        Ok(httparse::Status::Complete(len)) => {
            let bare = |at: usize| at.checked_sub(1).and_then(|before| raw.get(before)) != Some(&b'\r');
            if memchr::memchr_iter(b'\n', &raw[..len]).any(bare) {
                return Err(Malformed::BareLineEnd);
            }
            Ok(Some(len))
        }
        Ok(httparse::Status::Partial) if raw.len() > limits.bytes => Err(Malformed::TooLarge),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooManyFields),
        Err(httparse::Error::Version) => Err(Malformed::Version),
        Err(_) => Err(Malformed::Syntax),
    }
}

/// Where `part`, which the tokenizer cut out of `raw`, lies in it.
pub(super) fn span(raw: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
    Span::new(start, part.len())
}

#[derive(Default)]
struct Scan {
    host: Option<Span>,
    host_name: Span,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    expects_continue: bool,
    upgrade: bool,
    names: bool,
    stays_open: Option<NonZeroU16>,
}

impl Scan {
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep)
    }
}

/// Adds the fields to `headers` and looks at those that frame the message.
fn load_fields(
    raw: &[u8],
    fields: &[httparse::Header<'_>],
    headers: &mut Headers,
) -> Result<Scan, Malformed> {
    let mut scan = Scan::default();
    for field in fields {
        let name = field.name.as_bytes();
        let value = trim(field.value);
        let value_span = span(raw, value);
        // Lengths first: they tell the few framing fields from all others in one comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if scan.host.replace(value_span).is_some() {
                    return Err(Malformed::ManyHosts);
                }
                scan.host_name = span(raw, name);
                continue;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                scan.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => scan_connection(value, &mut scan),
            10 if name.eq_ignore_ascii_case(b"keep-alive") => scan.stays_open = stays_open(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or(Malformed::ContentLength)?;
                // Two that agree could be made one; they are refused, as by Envoy (RFC 9110, 8.6 leaves the choice).
                if scan.length.replace(length).is_some() {
                    return Err(Malformed::ContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if scan.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                scan.chunked = true;
            }
            _ => {}
        }
        headers.push_span(span(raw, name), value_span);
    }
    if scan.names {
        drop_nominated(headers)?;
    }
    Ok(scan)
}

fn scan_connection(value: &[u8], scan: &mut Scan) {
    for option in value.split(|byte| *byte == b',') {
        let option = trim(option);
        if option.eq_ignore_ascii_case(b"close") {
            scan.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            scan.keep = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            scan.upgrade = true;
        } else if !option.is_empty() {
            scan.names = true;
        }
    }
}

/// `timeout=5, max=100`.
fn stays_open(value: &[u8]) -> Option<NonZeroU16> {
    let mut parameters = value.split(|byte| *byte == b',').map(trim);
    let seconds = parameters.find_map(|parameter| decimal(trim(parameter.strip_prefix(b"timeout=")?)));
    NonZeroU16::new(u16::try_from(seconds?).unwrap_or(u16::MAX))
}

/// Removes the fields that `Connection` names: they are for this hop only (RFC 9110, 7.6.1).
fn drop_nominated(headers: &mut Headers) -> Result<(), Malformed> {
    let mut names: Vec<String> = Vec::new();
    for value in headers.get_all("connection") {
        for option in value.split(|byte| *byte == b',') {
            let name = String::from_utf8_lossy(trim(option)).to_ascii_lowercase();
            if matches!(name.as_str(), "" | "close" | "keep-alive" | "upgrade" | "te" | "http2-settings") {
                continue;
            }
            // A client must not make the next hop lose what it routes or frames by.
            if matches!(
                name.as_str(),
                "content-length"
                    | "transfer-encoding"
                    | "host"
                    | "connection"
                    | "x-forwarded-for"
                    | "x-forwarded-host"
                    | "x-forwarded-proto"
            ) || name.starts_with(':')
            {
                return Err(Malformed::Connection);
            }
            names.push(name);
        }
    }
    for name in names {
        headers.remove(&name);
    }
    Ok(())
}

/// Decimal digits only: no sign, no list, no space.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
#[path = "parse_test.rs"]
mod parse_test;
