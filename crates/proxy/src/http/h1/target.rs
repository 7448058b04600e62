//! The target of a request: where it wants to go.

use super::parse::{Malformed, span};
use crate::http::head::{Method, RequestHead, Scheme};

/// Splits a request target: origin-form, absolute-form, authority-form, asterisk-form (RFC 9112, 3.2).
pub(super) fn set_target(raw: &[u8], target: &str, head: &mut RequestHead) -> Result<(), Malformed> {
    let bytes = target.as_bytes();
    if bytes.contains(&b'#') || bytes.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(Malformed::Target);
    }
    if head.method == Method::Connect {
        if !valid_authority(bytes) || !bytes.contains(&b':') {
            return Err(Malformed::Target);
        }
        head.set_authority_span(span(raw, bytes));
        return Ok(());
    }
    if bytes.first() == Some(&b'/') {
        head.set_path_span(span(raw, bytes));
        return Ok(());
    }
    if bytes == b"*" {
        if head.method != Method::Options {
            return Err(Malformed::Target);
        }
        head.set_path_span(span(raw, bytes));
        return Ok(());
    }
    let scheme_end = bytes.windows(3).position(|window| window == b"://").ok_or(Malformed::Target)?;
    head.scheme = match &bytes[..scheme_end] {
        scheme if scheme.eq_ignore_ascii_case(b"http") => Scheme::Http,
        scheme if scheme.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => return Err(Malformed::Target),
    };
    let rest = &bytes[scheme_end + 3..];
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if path == 0 || !valid_authority(&rest[..path]) {
        return Err(Malformed::Target);
    }
    head.set_authority_span(span(raw, &rest[..path]));
    match rest.get(path) {
        Some(b'/') => head.set_path_span(span(raw, &rest[path..])),
        Some(_) => head.set_path(&[b"/", &rest[path..]].concat()),
        None => head.set_path(b"/"),
    }
    Ok(())
}

/// `host[:port]`: no user information, no characters outside RFC 3986's host and port. Empty is allowed in a `Host`.
pub(crate) fn valid_authority(authority: &[u8]) -> bool {
    let (host, port) = match authority {
        [b'[', literal @ ..] => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let (literal, port) = (&literal[..end], &literal[end + 1..]);
            let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'%');
            if literal.is_empty() || !literal.iter().all(valid) {
                return false;
            }
            (&[][..], port)
        }
        name => name.split_at(name.iter().position(|byte| *byte == b':').unwrap_or(name.len())),
    };
    let port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte))
}
