//! Header values with Envoy's command operators, parsed once.

use std::io::Write as _;

use super::Downstream;
use super::matching::first_value;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::snapshot::Address;

/// A value: text and operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Operator(Operator),
}

/// An operator that headers may have, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Request { name: Box<str>, alternative: Option<Box<str>>, limit: Option<usize> },
    Response { name: Box<str>, alternative: Option<Box<str>>, limit: Option<usize> },
    DirectAddress,
    DirectHost,
    RemoteAddress,
    RemoteHost,
    RemotePort,
    LocalAddress,
    LocalHost,
    LocalPort,
    Protocol,
    ServerName,
    RouteName,
    UpstreamCluster,
    ConnectionId,
    ResponseCode,
}

/// Operators without an argument, by Envoy's name.
const OPERATORS: [(&str, Operator); 15] = [
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::RemoteAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::RemoteHost),
    ("DOWNSTREAM_REMOTE_PORT", Operator::RemotePort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::DirectAddress),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DirectHost),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::LocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::LocalHost),
    ("DOWNSTREAM_LOCAL_PORT", Operator::LocalPort),
    ("PROTOCOL", Operator::Protocol),
    ("REQUESTED_SERVER_NAME", Operator::ServerName),
    ("ROUTE_NAME", Operator::RouteName),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamCluster),
    ("CONNECTION_ID", Operator::ConnectionId),
    ("RESPONSE_CODE", Operator::ResponseCode),
];

/// What operators read.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// The connection.
    pub downstream: &'c Downstream,
    /// The request.
    pub request: &'c RequestHead,
    /// The response, once there is one.
    pub response: Option<&'c ResponseHead>,
    /// The route's name.
    pub route: &'c str,
    /// The cluster's name.
    pub cluster: &'c str,
}

impl Format {
    /// Text without operators.
    pub fn literal(text: &str) -> Format {
        let part = Part::Text(text.as_bytes().into());
        Format { parts: if text.is_empty() { Box::default() } else { Box::new([part]) } }
    }

    /// Parses `%OPERATOR%`, `%OPERATOR(argument):limit%` and `%%`.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut parts = Vec::new();
        for piece in pieces(text)? {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.into_bytes().into()),
                Piece::Operator(text) => Part::Operator(Operator::parse(text)?),
            });
        }
        Ok(Format { parts: parts.into() })
    }

    /// The text, if there is no operator in it.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the value to `out`; what is not known is `missing`.
    pub fn write(&self, context: &Context<'_>, missing: &[u8], out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Operator(operator) => {
                    if !operator.write(context, out) {
                        out.extend_from_slice(missing);
                    }
                }
            }
        }
    }
}

/// A piece of a format string.
pub(crate) enum Piece<'t> {
    /// `%%` is one `%`.
    Text(String),
    /// What stands between two `%`.
    Operator(&'t str),
}

/// Takes a format string apart.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let (mut all, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            literal.push('%');
            rest = behind;
            continue;
        }
        let end = operator_end(rest).ok_or_else(|| format!("{text:?}: a % without its closing %"))?;
        if !literal.is_empty() {
            all.push(Piece::Text(std::mem::take(&mut literal)));
        }
        all.push(Piece::Operator(&rest[..end]));
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        all.push(Piece::Text(literal));
    }
    Ok(all)
}

fn operator_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b'%' && depth == 0
    })
}

/// `NAME(HEADER?ALTERNATIVE):LIMIT`.
pub(crate) struct Header<'t> {
    pub(crate) operator: &'t str,
    /// Lowercased.
    pub(crate) name: Box<str>,
    /// Lowercased.
    pub(crate) alternative: Option<Box<str>>,
    /// Bytes of the value that are kept.
    pub(crate) limit: Option<usize>,
}

impl<'t> Header<'t> {
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let open = text.find('(')?;
        let close = text.rfind(')').filter(|close| *close > open)?;
        let limit = match &text[close + 1..] {
            "" => None,
            tail => Some(tail.strip_prefix(':')?.parse().ok()?),
        };
        let mut names = text[open + 1..close].split('?');
        let name: Box<str> = names.next().unwrap_or("").to_ascii_lowercase().into();
        let alternative = names.next().map(|name| name.to_ascii_lowercase().into());
        if name.is_empty() || names.next().is_some() {
            return None;
        }
        Some(Self { operator: &text[..open], name, alternative, limit })
    }
}

impl Operator {
    /// The operator between two `%`.
    pub(crate) fn parse(text: &str) -> Result<Operator, String> {
        if let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == text) {
            return Ok(operator.clone());
        }
        match Header::parse(text) {
            Some(Header { operator: "REQ", name, alternative, limit }) => {
                Ok(Operator::Request { name, alternative, limit })
            }
            Some(Header { operator: "RESP", name, alternative, limit }) => {
                Ok(Operator::Response { name, alternative, limit })
            }
            _ => Err(format!("operator %{text}% is not built")),
        }
    }

    /// Writes the value; false when there is none.
    pub(crate) fn write(&self, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
        let downstream = context.downstream;
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            !bytes.is_empty()
        };
        match self {
            Operator::Request { name, alternative, limit } => {
                let value = first_value(context.request, name)
                    .or_else(|| first_value(context.request, alternative.as_deref()?));
                value.is_some_and(|value| put(&value[..limit.unwrap_or(usize::MAX).min(value.len())]))
            }
            Operator::Response { name, alternative, limit } => {
                let Some(response) = context.response else { return false };
                let value = response
                    .headers
                    .get(name)
                    .or_else(|| response.headers.get(alternative.as_deref().unwrap_or_default()));
                value.is_some_and(|value| put(&value[..limit.unwrap_or(usize::MAX).min(value.len())]))
            }
            Operator::DirectAddress => address(out, downstream.direct_peer()),
            Operator::DirectHost => host(out, downstream.direct_peer()),
            Operator::RemoteAddress => address(out, downstream.peer),
            Operator::RemoteHost => host(out, downstream.peer),
            Operator::RemotePort => downstream.peer.port().is_some_and(|port| show(out, port)),
            // Our end as Envoy means it: the original destination of a redirected connection.
            Operator::LocalAddress => address(out, downstream.destination()),
            Operator::LocalHost => host(out, downstream.destination()),
            Operator::LocalPort => downstream.destination().port().is_some_and(|port| show(out, port)),
            Operator::Protocol => put(match context.request.version {
                Version::Http10 => b"HTTP/1.0",
                Version::Http11 => b"HTTP/1.1",
                Version::Http2 => b"HTTP/2",
            }),
            Operator::ServerName => put(downstream.server_name.as_deref().unwrap_or_default().as_bytes()),
            Operator::RouteName => put(context.route.as_bytes()),
            Operator::UpstreamCluster => put(context.cluster.as_bytes()),
            Operator::ConnectionId => show(out, downstream.connection_id),
            Operator::ResponseCode => context.response.is_some_and(|response| show(out, response.status)),
        }
    }
}

fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    write!(out, "{value}").is_ok()
}

/// Always something, as in Envoy, if empty for a Unix socket without a name.
fn address(out: &mut Vec<u8>, at: Address) -> bool {
    at.write(out);
    true
}

/// An address without its port; of a Unix socket, its path.
fn host(out: &mut Vec<u8>, at: Address) -> bool {
    at.write_host(out);
    true
}
