//! Between our heads and the `http` crate's, which HTTP/2 speaks.

use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};

use super::h1::parse::{Malformed, decimal};
use super::h1::target::valid_authority;
use super::h2::fields;
use super::head::{Method, RequestHead, Scheme, Version};

/// Fields that have no place in HTTP/2 (RFC 9113, 8.2.2).
const HOP_BY_HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// A request for HTTP/2; `None` when its target cannot be expressed. `upgrade` turns an HTTP/1.1 upgrade into an extended
/// CONNECT (RFC 8441).
pub(crate) fn to_h2(head: &RequestHead, upgrade: bool) -> Option<http::Request<()>> {
    let mut request = http::Request::new(());
    let mut uri = http::uri::Parts::default();
    uri.authority = Some(Authority::try_from(head.authority()).ok()?);
    if head.method != Method::Connect || !head.protocol().is_empty() {
        uri.scheme = Some(match head.scheme {
            Scheme::Http => UriScheme::HTTP,
            Scheme::Https => UriScheme::HTTPS,
        });
        uri.path_and_query = Some(PathAndQuery::try_from(head.path()).ok()?);
    }
    *request.uri_mut() = http::Uri::from_parts(uri).ok()?;
    *request.method_mut() = http::Method::from_bytes(head.method_bytes()).ok()?;
    if upgrade {
        let protocol = head.headers.get("upgrade").unwrap_or_else(|| head.protocol());
        let protocol = std::str::from_utf8(protocol).ok()?;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        *request.method_mut() = http::Method::CONNECT;
    }
    *request.version_mut() = http::Version::HTTP_2;
    let mut map = super::h2::map(&head.headers);
    for name in HOP_BY_HOP {
        map.remove(name);
    }
    *request.headers_mut() = map;
    Some(request)
}

/// What HTTP/2 lets through and no other hop should see. `most`: fields (Envoy `max_headers_count`).
pub(crate) fn check(parts: &http::request::Parts, most: usize) -> Result<(), Malformed> {
    if parts.headers.len() > most {
        return Err(Malformed::TooManyFields);
    }
    one_length(&parts.headers)?;
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = parts.headers.get("host").map(http::HeaderValue::as_bytes);
    if authority.or(host).is_some_and(|authority| !valid_authority(authority)) {
        return Err(Malformed::BadHost);
    }
    match parts.headers.get_all("host").iter().count() {
        0 | 1 => Ok(()),
        _ => Err(Malformed::ManyHosts),
    }
}

/// A length is said once and in digits: HTTP/1.1 would frame by it.
pub(crate) fn one_length(headers: &http::HeaderMap) -> Result<(), Malformed> {
    let mut lengths = headers.get_all("content-length").iter();
    let valid = lengths.next().is_none_or(|length| decimal(length.as_bytes()).is_some());
    if valid && lengths.next().is_none() { Ok(()) } else { Err(Malformed::ContentLength) }
}

/// A request that came by HTTP/2. Several `cookie` fields become one (RFC 9113, 8.2.3).
pub(crate) fn from_h2(parts: &http::request::Parts, head: &mut RequestHead) {
    head.clear();
    head.headers = fields(&parts.headers);
    head.version = Version::Http2;
    head.set_method(parts.method.as_str().as_bytes());
    if let Some(authority) = parts.uri.authority() {
        head.set_authority(authority.as_str().as_bytes());
    } else if let Some(host) = head.headers.get("host").map(<[u8]>::to_vec) {
        head.set_authority(&host);
    }
    head.headers.remove("host");
    if parts.uri.scheme_str() == Some("https") {
        head.scheme = Scheme::Https;
    }
    if let Some(path) = parts.uri.path_and_query() {
        head.set_path(path.as_str().as_bytes());
    }
    if let Some(protocol) = parts.extensions.get::<h2::ext::Protocol>() {
        head.set_protocol(protocol.as_str().as_bytes());
    }
    let cookies: Vec<&[u8]> = head.headers.get_all("cookie").collect();
    if cookies.len() > 1 {
        let joined = cookies.join(&b"; "[..]);
        head.headers.set("cookie", &joined);
    }
}
