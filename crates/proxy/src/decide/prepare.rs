//! The connection manager's own work on requests and responses.

#![expect(clippy::result_large_err, reason = "an answer is built once per request and lives on the stack")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::matching::{is_grpc, roll};
use super::path::{self, Slashes};
use super::{Downstream, Respond, domains, requested_upgrade, rewrite};
use crate::http::head::{Headers, Method, RequestHead, ResponseHead, Scheme};
use crate::snapshot::{ForwardClientCert, HttpConnectionManager, ServerHeader, StripPort, Underscores};

/// The addresses that Envoy takes for loopback.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Headers that a client outside of the mesh may not set.
const EDGE_HEADERS: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
];

/// Headers that only an internal client may set.
const INTERNAL_HEADERS: [&str; 14] = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
];

/// The connection manager's own work on a request before it is routed: host and path normalisation, hop-by-hop headers,
/// `x-forwarded-*`, `x-request-id`, removal of what only this hop may read.
///
/// `random` makes the request id when one is needed. An `Err` is to be answered as it stands.
pub fn prepare<'s>(
    downstream: &'s Downstream,
    head: &mut RequestHead,
    random: u64,
) -> Result<(), Respond<'s>> {
    let Some(http) = downstream.http() else { return Ok(()) };
    underscores(http, head)?;
    if head.authority().is_empty() {
        return Err(refuse(head, 400, "missing_host_header"));
    }
    normalize_path(http, head)?;
    normalize_host(http, downstream, head);
    hop_by_hop(head);
    let edge = http.use_remote_address;
    forwarded(http, downstream, head);
    clean(http, downstream, head, edge);
    if edge && let Some(peer) = downstream.peer_ip() {
        head.headers.set("x-envoy-external-address", peer.to_string().as_bytes());
    }
    if !http.via.is_empty() {
        append_via(&mut head.headers, &http.via);
    }
    if http.generate_request_id {
        let force = edge && !http.preserve_external_request_id;
        if force || head.headers.get("x-request-id").is_none_or(<[u8]>::is_empty) {
            head.headers.set("x-request-id", request_id(random).as_bytes());
        }
    }
    Ok(())
}

fn refuse<'s>(head: &RequestHead, status: u16, details: &'static str) -> Respond<'s> {
    let flag = if status == 400 { "DPE" } else { "" };
    Respond { details, flag, grpc: is_grpc(head), ..Respond::new(status) }
}

fn underscores<'s>(http: &HttpConnectionManager, head: &mut RequestHead) -> Result<(), Respond<'s>> {
    match http.underscores {
        Underscores::Allow => Ok(()),
        Underscores::Drop => {
            head.headers.retain(|name, _| !name.contains(&b'_'));
            Ok(())
        }
        Underscores::Reject if head.headers.iter().any(|(name, _)| name.contains(&b'_')) => {
            Err(refuse(head, 400, "http1.unexpected_underscore"))
        }
        Underscores::Reject => Ok(()),
    }
}

fn normalize_path<'s>(http: &HttpConnectionManager, head: &mut RequestHead) -> Result<(), Respond<'s>> {
    let full = head.path();
    if full.is_empty() && head.method == Method::Connect {
        return Ok(());
    }
    if full == b"*" && head.method == Method::Options {
        return Ok(());
    }
    if full.first() != Some(&b'/') {
        return Err(refuse(head, 404, "absolute_path_rejected"));
    }
    if full.contains(&b'#') {
        return Err(refuse(head, 400, "path_normalization_failed"));
    }
    let (only, query) = rewrite::split_path(full);
    let mut path: Option<Vec<u8>> = None;
    let mut redirect = false;
    match path::escaped_slashes(http.escaped_slashes, only) {
        Slashes::Same => {}
        Slashes::Reject => return Err(refuse(head, 400, "path_normalization_failed")),
        Slashes::Forward(new) => path = Some(new),
        Slashes::Redirect(new) => {
            redirect = true;
            path = Some(new);
        }
    }
    let odd = |path: &[u8]| path.iter().any(|b| !b.is_ascii_graphic() || b"\\%\"<>`{}".contains(b));
    let current = path.as_deref().unwrap_or(only);
    if http.normalize_path && (odd(current) || current.windows(2).any(|pair| pair == b"/.")) {
        let Some(new) = path::normalize(current) else {
            return Err(refuse(head, 400, "path_normalization_failed"));
        };
        path = Some(new);
    }
    let current = path.as_deref().unwrap_or(only);
    if http.merge_slashes && current.windows(2).any(|pair| pair == b"//") {
        path = Some(path::merge_slashes(current));
    }
    let Some(mut path) = path else { return Ok(()) };
    path.extend_from_slice(query);
    if redirect {
        return Err(refuse(head, 307, "path_normalization_redirect").with("location", &path));
    }
    head.set_path(&path);
    Ok(())
}

fn normalize_host(http: &HttpConnectionManager, downstream: &Downstream, head: &mut RequestHead) {
    if http.strip_trailing_host_dot {
        let host = head.authority();
        let (name, port) = host.split_at(domains::port_start(host).unwrap_or(host.len()));
        if let Some(name) = name.strip_suffix(b".") {
            let joined = [name, port].concat();
            head.set_authority(&joined);
        }
    }
    normalize_port(http, downstream, head);
}

fn normalize_port(http: &HttpConnectionManager, downstream: &Downstream, head: &mut RequestHead) {
    let host = head.authority();
    let Some(colon) = domains::port_start(host) else { return };
    let strip = match http.strip_port {
        StripPort::Keep => false,
        StripPort::Any => head.method != Method::Connect,
        StripPort::Matching => {
            let is_ours = |port: u16| host[colon + 1..] == *port.to_string().as_bytes();
            head.method != Method::Connect && downstream.destination().port().is_some_and(is_ours)
        }
    };
    if strip {
        let host = host[..colon].to_vec();
        head.set_authority(&host);
    }
}

fn hop_by_hop(head: &mut RequestHead) {
    let upgrade = requested_upgrade(head);
    let upgrading = upgrade.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"h2c"));
    if !upgrading && head.method != Method::Connect {
        let trailers = head.headers.get_all("te").any(|value| {
            value.split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
        let h2c = head.headers.contains("http2-settings");
        nominated(head);
        head.headers.remove("connection");
        head.headers.remove("upgrade");
        if h2c {
            head.headers.remove("http2-settings");
        }
        if head.headers.contains("te") {
            if trailers {
                head.headers.set("te", b"trailers");
            } else {
                head.headers.remove("te");
            }
        }
    }
    for name in ["x-envoy-internal", "keep-alive", "proxy-connection", "transfer-encoding"] {
        head.headers.remove(name);
    }
}

/// Removes the headers that `connection` nominates (RFC 9110, 7.6.1), except those that the framing needs.
fn nominated(head: &mut RequestHead) {
    let Some(value) = head.headers.get("connection") else { return };
    if value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close") {
        return;
    }
    let names: Vec<String> = head
        .headers
        .get_all("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        .filter(|name| !["", "close", "te", "host", "content-length", "cookie"].contains(&name.as_str()))
        .filter(|name| !name.starts_with("x-forwarded") && !name.starts_with(':'))
        .collect();
    for name in names {
        head.headers.remove(&name);
    }
}

fn forwarded(http: &HttpConnectionManager, downstream: &Downstream, head: &mut RequestHead) {
    if http.use_remote_address {
        if !http.skip_xff_append
            && let Some(peer) = downstream.peer_ip()
        {
            // A loopback address says nothing to others, so Envoy puts its own in its place.
            let own = downstream.machine.filter(|_| LOOPBACK.contains(&peer));
            append_list(&mut head.headers, "x-forwarded-for", own.unwrap_or(peer).to_string().as_bytes());
        }
        if http.xff_num_trusted_hops == 0 || !head.headers.contains("x-forwarded-proto") {
            head.headers.set("x-forwarded-proto", downstream.scheme.as_str().as_bytes());
        }
    } else if !head.headers.contains("x-forwarded-proto") {
        head.headers.set("x-forwarded-proto", downstream.scheme.as_str().as_bytes());
    }
    if http.append_x_forwarded_port
        && !head.headers.contains("x-forwarded-port")
        && let Some(port) = downstream.destination().port()
    {
        head.headers.set("x-forwarded-port", port.to_string().as_bytes());
    }
    head.scheme = match (&http.scheme_override, head.headers.get("x-forwarded-proto")) {
        (Some(scheme), _) if &**scheme == "https" => Scheme::Https,
        (Some(_), _) => Scheme::Http,
        (None, Some(b"https")) => Scheme::Https,
        (None, Some(b"http")) => Scheme::Http,
        (None, _) => head.scheme,
    };
}

pub(super) fn append_list(headers: &mut Headers, name: &str, value: &[u8]) {
    let mut all = Vec::new();
    for existing in headers.get_all(name) {
        all.extend_from_slice(existing);
        all.extend_from_slice(b",");
    }
    all.extend_from_slice(value);
    headers.set(name, &all);
}

fn append_via(headers: &mut Headers, via: &str) {
    let mut all = headers.get("via").map(|value| [value, b", "].concat()).unwrap_or_default();
    all.extend_from_slice(via.as_bytes());
    headers.set("via", &all);
}

fn clean(http: &HttpConnectionManager, downstream: &Downstream, head: &mut RequestHead, edge: bool) {
    let suspicious = head.headers.iter().any(|(name, _)| {
        name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"x-envoy-"))
            || name.eq_ignore_ascii_case(b"x-forwarded-client-cert")
    });
    if suspicious {
        if edge {
            for name in EDGE_HEADERS {
                head.headers.remove(name);
            }
        }
        for name in INTERNAL_HEADERS {
            head.headers.remove(name);
        }
    }
    client_cert(http, downstream, head, suspicious);
}

/// `x-forwarded-client-cert`: what others say of their clients, and what we know of ours.
fn client_cert(http: &HttpConnectionManager, downstream: &Downstream, head: &mut RequestHead, there: bool) {
    const NAME: &str = "x-forwarded-client-cert";
    match (http.client_cert.forward, &downstream.client_cert) {
        (ForwardClientCert::Always, _) | (ForwardClientCert::Forward, Some(_)) => {}
        (ForwardClientCert::Append, Some(own)) => append_list(&mut head.headers, NAME, own),
        (ForwardClientCert::Set, Some(own)) => head.headers.set(NAME, own),
        _ if there => {
            head.headers.remove(NAME);
        }
        _ => {}
    }
}

/// A version 4 UUID.
fn request_id(random: u64) -> String {
    let (a, b) = (roll(random, 31), roll(random, 32));
    let b = (b & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// The connection manager's own work on every response, upstream's or made here: hop-by-hop headers, `server`, `via`.
/// `upgraded`: the response switches protocols, so `connection` and `upgrade` stay. `date` is the exchange's.
pub fn finish_response(
    downstream: &Downstream,
    request: &RequestHead,
    upgraded: bool,
    head: &mut ResponseHead,
) {
    let Some(http) = downstream.http() else { return };
    if !upgraded {
        head.headers.remove("connection");
        head.headers.remove("upgrade");
    }
    for name in ["transfer-encoding", "keep-alive", "proxy-connection"] {
        head.headers.remove(name);
    }
    if http.always_set_request_id_in_response
        && let Some(id) = request.headers.get("x-request-id")
    {
        head.headers.set("x-request-id", id);
    }
    if !http.via.is_empty() {
        append_via(&mut head.headers, &http.via);
    }
    match http.server_header {
        ServerHeader::Overwrite => head.headers.set("server", http.server_name.as_bytes()),
        ServerHeader::AppendIfAbsent if !head.headers.contains("server") => {
            head.headers.append("server", http.server_name.as_bytes());
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "prepare_test.rs"]
mod prepare_test;
