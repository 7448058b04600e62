//! From a head to the bytes of HTTP/1.1.

use std::io::Write as _;

use super::framing::Framing;
use crate::http::head::{Headers, Method, RequestHead, ResponseHead};

/// How the names of fields are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// As received (Envoy `preserve_case`).
    Kept,
    /// In lower case, Envoy's default.
    Lower,
}

/// Writes a request's head. `framing` is what the body will be written with; `Connection` options are the caller's fields.
pub(crate) fn request(out: &mut Vec<u8>, head: &RequestHead, framing: Framing, case: Case) {
    out.reserve(head.headers.size() + head.headers.len() * 4 + 128);
    out.extend_from_slice(head.method_bytes());
    out.push(b' ');
    if head.method == Method::Connect {
        out.extend_from_slice(head.authority());
    } else {
        out.extend_from_slice(head.path());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out.extend_from_slice(if case == Case::Kept { head.host_spelled() } else { b"host" });
    out.extend_from_slice(b": ");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    fields(out, &head.headers, case);
    let needs_length =
        !matches!(head.method, Method::Get | Method::Head | Method::Delete | Method::Connect | Method::Trace);
    finish(out, &head.headers, framing, needs_length);
}

/// Writes a response's head. `body_allowed` is false for answers to HEAD, 1xx, 204 and 304, which declare no framing of their own.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    body_allowed: bool,
    case: Case,
) {
    out.reserve(head.headers.size() + head.headers.len() * 4 + 128);
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status;
    let digit = |power: u16| b'0' + (status / power % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(out, &head.headers, case);
    if body_allowed {
        finish(out, &head.headers, framing, true);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

fn fields(out: &mut Vec<u8>, headers: &Headers, case: Case) {
    headers.write_lines(out, case == Case::Lower);
}

fn finish(out: &mut Vec<u8>, headers: &Headers, framing: Framing, needs_length: bool) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if !headers.contains("content-length") => {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        Framing::Empty if needs_length && !headers.contains("content-length") => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::Empty | Framing::Length(_) | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one chunk.
pub(crate) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk with its trailers.
pub(crate) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Headers>, case: Case) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(out, trailers, case);
    }
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status, as Envoy writes it.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}
