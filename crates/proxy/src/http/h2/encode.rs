//! From a head to a block of fields.

use smallvec::SmallVec;

use super::fields::hop_by_hop;
use super::hpack::{Encoder, Index};
use crate::http::head::{Headers, Method, RequestHead, ResponseHead, is_grpc};

/// Fields that are rarely the same twice: in the table they would only push out those that are.
fn index(name: &[u8]) -> Index {
    match name {
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie" => Index::Never,
        b"content-length"
        | b"x-request-id"
        | b"traceparent"
        | b"tracestate"
        | b"b3"
        | b"x-b3-traceid"
        | b"x-b3-spanid"
        | b"x-b3-parentspanid"
        | b"grpc-timeout"
        | b"grpc-trace-bin"
        | b"grpc-tags-bin"
        | b"age"
        | b"etag"
        | b"last-modified"
        | b"if-none-match"
        | b"if-modified-since"
        | b"location"
        | b"range"
        | b"content-range"
        | b"expires"
        | b"x-envoy-upstream-service-time" => Index::No,
        _ => Index::Yes,
    }
}

fn fields(encoder: &mut Encoder, out: &mut Vec<u8>, headers: &Headers) {
    let mut lower: SmallVec<[u8; 64]> = SmallVec::new();
    for (name, value, never) in headers.iter_marked() {
        let mut name = name;
        if name.iter().any(u8::is_ascii_uppercase) {
            lower.clear();
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            name = &lower;
        }
        if hop_by_hop(name) {
            continue;
        }
        let index = if never { Index::Never } else { index(name) };
        encoder.field(out, name, value, index);
    }
}

/// Writes a request's fields. `upgrade` makes an extended CONNECT of a request to leave HTTP (RFC 8441, 5).
pub(super) fn request(encoder: &mut Encoder, out: &mut Vec<u8>, head: &RequestHead, upgrade: bool) {
    encoder.begin(out);
    let protocol = match upgrade && head.method != Method::Connect {
        true => head.headers.get("upgrade").unwrap_or_default(),
        false => b"",
    };
    let method = if protocol.is_empty() { head.method_bytes() } else { b"CONNECT" };
    encoder.field(out, b":method", method, Index::Yes);
    if head.method != Method::Connect || !protocol.is_empty() {
        encoder.field(out, b":scheme", head.scheme.as_str().as_bytes(), Index::Yes);
        // A service has few methods; other paths are as many as there are things.
        let index = if is_grpc(&head.headers) { Index::Yes } else { Index::No };
        encoder.field(out, b":path", head.path(), index);
    }
    encoder.field(out, b":authority", head.authority(), Index::Yes);
    if !protocol.is_empty() {
        encoder.field(out, b":protocol", protocol, Index::Yes);
    }
    fields(encoder, out, &head.headers);
}

/// Writes a response's fields.
pub(super) fn response(encoder: &mut Encoder, out: &mut Vec<u8>, head: &ResponseHead) {
    encoder.begin(out);
    let status = head.status;
    let digit = |power: u16| b'0' + (status / power % 10) as u8;
    encoder.field(out, b":status", &[digit(100), digit(10), digit(1)], Index::Yes);
    fields(encoder, out, &head.headers);
}

/// Writes trailers.
pub(super) fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>, headers: &Headers) {
    encoder.begin(out);
    fields(encoder, out, headers);
}
