//! Paths, hosts and redirect targets.

use super::domains::port_start;
use super::format::{Context, Format};
use super::matching::{PathMatcher, RegexRewrite};
use crate::http::head::RequestHead;
use crate::snapshot::{Redirect, RedirectPath};

/// The path without query and fragment, and the rest.
pub(super) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    path.split_at(end)
}

/// What matched is replaced, the rest stays.
pub(super) fn prefix(matcher: &PathMatcher, path: &[u8], with: &str) -> Vec<u8> {
    let (only, _) = split_path(path);
    [with.as_bytes(), &path[matcher.matched_len(only)..]].concat()
}

/// Every match in the path is replaced, the query stays.
pub(super) fn regex(rewrite: &RegexRewrite, path: &[u8]) -> Vec<u8> {
    let (only, rest) = split_path(path);
    let mut out = rewrite.replace_all(only);
    out.extend_from_slice(rest);
    out
}

/// The path is what the format says, the query stays.
pub(super) fn format(format: &Format, context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    format.write(context, b"", &mut out);
    out.extend_from_slice(split_path(context.request.path()).1);
    out
}

/// Where a redirect points.
pub(super) fn location(redirect: &Redirect, matcher: &PathMatcher, context: &Context<'_>) -> Vec<u8> {
    let head = context.request;
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme.as_str());
    let mut out = [scheme.as_bytes(), b"://"].concat();
    match &redirect.host {
        Some(host) => out.extend_from_slice(host.as_bytes()),
        None => out.extend_from_slice(kept_host(head, scheme, redirect.port.is_some())),
    }
    if let Some(port) = redirect.port {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    let path = head.path();
    let strip = |path: &mut Vec<u8>| {
        if redirect.strip_query
            && let Some(at) = path.iter().position(|byte| *byte == b'?')
        {
            path.truncate(at);
        }
    };
    let target = match &redirect.path {
        RedirectPath::Path(new) if new.contains('?') => new.as_bytes().to_vec(),
        RedirectPath::Path(new) => {
            let query = path.iter().position(|byte| *byte == b'?').map_or(&[][..], |at| &path[at..]);
            let mut target = [new.as_bytes(), query].concat();
            strip(&mut target);
            target
        }
        other => {
            let mut target = match other {
                RedirectPath::Prefix(with) => prefix(matcher, path, with),
                RedirectPath::Regex(rewrite) => regex(rewrite, path),
                RedirectPath::Format(new) => format(new, context),
                RedirectPath::Keep | RedirectPath::Path(_) => path.to_vec(),
            };
            strip(&mut target);
            target
        }
    };
    out.extend_from_slice(&target);
    out
}

/// The request's host; its port goes when another is set, or when it is the default of a scheme that changes.
fn kept_host<'h>(head: &'h RequestHead, scheme: &str, new_port: bool) -> &'h [u8] {
    let host = head.authority();
    let Some(colon) = port_start(host) else { return host };
    let default = match head.scheme.as_str() {
        "https" => &b":443"[..],
        _ => b":80",
    };
    let drop = new_port || (scheme != head.scheme.as_str() && &host[colon..] == default);
    if drop { &host[..colon] } else { host }
}
