//! Who may knock: a web page that somebody reads must not be able to steer a mesh.
//!
//! A request is refused when its `Host` is neither loopback nor configured (DNS rebinding), when its
//! `Origin` or `Sec-Fetch-Site` says that another site sent it, and (by [`crate::body`]) when its body
//! has a type that a form could send.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

use crate::error::ApiError;

/// The names under which this API may be called, besides loopback.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    hosts: Vec<String>,
}

impl Doors {
    /// `hosts`: names or addresses without port; `*` allows every host.
    pub(crate) fn new(hosts: &[String]) -> Self {
        Self { hosts: hosts.iter().map(|h| h.trim_matches(['[', ']']).to_ascii_lowercase()).collect() }
    }

    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => one(headers, header::HOST)?
                .ok_or_else(|| ApiError::bad_request("the request has no Host header"))?,
        };
        if !self.allows(host) {
            return Err(ApiError::forbidden(format!(
                "host {host:?} is neither loopback nor configured for this API; call it by 127.0.0.1 or localhost, \
                 or allow the name where the API is started"
            )));
        }
        if let Some(origin) = one(headers, header::ORIGIN)? {
            let site = origin.split_once("://").map(|(_, site)| site);
            if site.is_none_or(|site| !site.eq_ignore_ascii_case(host)) {
                return Err(ApiError::forbidden(format!("a page of {origin:?} may not call this API")));
            }
        }
        match headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes) {
            Some(b"cross-site" | b"same-site") => {
                Err(ApiError::forbidden("a page of another site may not call this API"))
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, authority: &str) -> bool {
        let host = host_of(authority).to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") {
            return true;
        }
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.hosts.iter().any(|allowed| allowed == "*" || *allowed == host)
    }
}

/// Without port and brackets.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':') => host,
        _ => authority,
    }
}

fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!("the request has several {name} headers")));
    }
    let text = first.to_str().map_err(|_| ApiError::bad_request(format!("header {name} is not ASCII")))?;
    Ok(Some(text))
}

#[cfg(test)]
#[path = "doors_test.rs"]
mod doors_test;
