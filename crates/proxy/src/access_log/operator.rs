//! What a line can say: Envoy's command operators.

use std::io::Write as _;
use std::time::Duration;

use super::time::TimeFormat;
use super::{Entry, Needs};
use crate::decide::format::{self, Context, Header};
use crate::http::head::{RequestHead, Version};
use crate::snapshot::Address;

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// One that headers may have, too.
    Shared(format::Operator),
    /// The same, which says nothing where there is no request.
    OfRequest(format::Operator),
    Protocol,
    /// `REQ_WITHOUT_QUERY`.
    WithoutQuery(format::Operator),
    Trailer {
        name: Box<str>,
        alternative: Option<Box<str>>,
        limit: Option<usize>,
    },
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    /// A time between two points, in milliseconds.
    Between(Point, Point),
    ResponseCode,
    ResponseCodeDetails,
    Flags,
    LongFlags,
    BytesReceived,
    BytesSent,
    Attempts,
    /// The endpoint that was chosen.
    UpstreamHost,
    /// The other end of the connection to it.
    Upstream(End),
    UpstreamLocal(End),
    UpstreamCluster,
    UpstreamProtocol,
    UpstreamFailure,
    RouteName,
    FilterChainName,
    GrpcStatus(GrpcForm),
    /// Known when the configuration is read.
    Constant(Box<str>),
    /// Nothing here ever sets it.
    Absent,
}

/// A moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Start,
    RequestEnd,
    ResponseStart,
    End,
}

/// A part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Address,
    Host,
    Port,
}

/// How a status of gRPC is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcForm {
    Camel,
    Snake,
    Number,
}

/// Operators without an argument, by Envoy's name.
const PLAIN: [(&str, Operator); 35] = [
    ("PROTOCOL", Operator::Protocol),
    ("DURATION", Operator::Between(Point::Start, Point::End)),
    ("REQUEST_DURATION", Operator::Between(Point::Start, Point::RequestEnd)),
    ("RESPONSE_DURATION", Operator::Between(Point::Start, Point::ResponseStart)),
    ("RESPONSE_TX_DURATION", Operator::Between(Point::ResponseStart, Point::End)),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Operator::Flags),
    ("RESPONSE_FLAGS_LONG", Operator::LongFlags),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::Attempts),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Operator::Upstream(End::Address)),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::Upstream(End::Host)),
    ("UPSTREAM_REMOTE_PORT", Operator::Upstream(End::Port)),
    ("UPSTREAM_LOCAL_ADDRESS", Operator::UpstreamLocal(End::Address)),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::UpstreamLocal(End::Host)),
    ("UPSTREAM_LOCAL_PORT", Operator::UpstreamLocal(End::Port)),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamCluster),
    ("UPSTREAM_PROTOCOL", Operator::UpstreamProtocol),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Operator::UpstreamFailure),
    ("ROUTE_NAME", Operator::RouteName),
    ("FILTER_CHAIN_NAME", Operator::FilterChainName),
    ("GRPC_STATUS", Operator::GrpcStatus(GrpcForm::Camel)),
    ("GRPC_STATUS(CAMEL_STRING)", Operator::GrpcStatus(GrpcForm::Camel)),
    ("GRPC_STATUS(SNAKE_STRING)", Operator::GrpcStatus(GrpcForm::Snake)),
    ("GRPC_STATUS(NUMBER)", Operator::GrpcStatus(GrpcForm::Number)),
    ("GRPC_STATUS_NUMBER", Operator::GrpcStatus(GrpcForm::Number)),
    // No virtual clusters, nothing that would end a connection with details, and no retry of a connection's TLS.
    ("VIRTUAL_CLUSTER_NAME", Operator::Absent),
    ("CONNECTION_TERMINATION_DETAILS", Operator::Absent),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Operator::Absent),
    ("DOWNSTREAM_LOCAL_CLOSE_REASON", Operator::Absent),
    ("UPSTREAM_LOCAL_CLOSE_REASON", Operator::Absent),
];

/// Operators about state that no filter here sets.
const NEVER_SET: [&str; 3] = ["DYNAMIC_METADATA", "FILTER_STATE", "UPSTREAM_FILTER_STATE"];

/// The statuses of gRPC by number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl Operator {
    /// The operator between two `%`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, operator)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(operator.clone());
        }
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')),
            None => (text, Some("")),
        };
        if NEVER_SET.contains(&name) {
            return Ok(Self::Absent);
        }
        match (name, argument) {
            ("START_TIME", Some("")) => return TimeFormat::standard().map(Self::StartTime),
            ("START_TIME", Some(format)) => return TimeFormat::parse(format).map(Self::StartTime),
            ("EMIT_TIME", Some("")) => return TimeFormat::standard().map(Self::EmitTime),
            ("EMIT_TIME", Some(format)) => return TimeFormat::parse(format).map(Self::EmitTime),
            ("HOSTNAME", Some("")) => return Ok(Self::Constant(crate::start::host_name().into())),
            ("ENVIRONMENT", Some(name)) if !name.is_empty() => {
                return Ok(std::env::var(name).map_or(Self::Absent, |value| Self::Constant(value.into())));
            }
            _ => {}
        }
        match Header::parse(text) {
            Some(Header { operator: "TRAILER", name, alternative, limit }) => {
                return Ok(Self::Trailer { name, alternative, limit });
            }
            Some(Header { operator: "REQ_WITHOUT_QUERY", name, alternative, limit }) => {
                return Ok(Self::WithoutQuery(format::Operator::Request { name, alternative, limit }));
            }
            _ => {}
        }
        let shared = format::Operator::parse(text)?;
        Ok(match shared {
            format::Operator::Request { .. } => Self::OfRequest(shared),
            _ => Self::Shared(shared),
        })
    }

    pub(super) fn needs(&self) -> Needs {
        Needs {
            upstream_local: matches!(self, Self::UpstreamLocal(_) | Self::Upstream(_)),
            trailers: matches!(self, Self::Trailer { .. }),
        }
    }

    /// In JSON it is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Between(..)
                | Self::ResponseCode
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Attempts
                | Self::Upstream(End::Port)
                | Self::UpstreamLocal(End::Port)
                | Self::GrpcStatus(GrpcForm::Number)
                | Self::Shared(
                    format::Operator::ConnectionId
                        | format::Operator::RemotePort
                        | format::Operator::LocalPort
                )
        )
    }

    /// Appends the value; false when there is none.
    pub(super) fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
        let (record, notes) = (entry.record, entry.notes);
        match self {
            Self::Protocol => entry.version.is_some_and(|version| put(named(version), out)),
            Self::OfRequest(_) | Self::WithoutQuery(_) if entry.request.is_none() => false,
            Self::Shared(operator) | Self::OfRequest(operator) => shared(operator, entry, out),
            Self::WithoutQuery(operator) => {
                let from = out.len();
                let found = shared(operator, entry, out);
                if let Some(query) = memchr::memchr(b'?', &out[from..]) {
                    out.truncate(from + query);
                }
                found
            }
            Self::Trailer { name, alternative, limit } => {
                let Some(trailers) = notes.extra.as_ref().and_then(|extra| extra.trailers.as_ref()) else {
                    return false;
                };
                let second = || trailers.get(alternative.as_deref().unwrap_or_default());
                let value = trailers.get(name).or_else(second);
                value.is_some_and(|value| put(&value[..limit.unwrap_or(usize::MAX).min(value.len())], out))
            }
            Self::StartTime(format) => {
                format.write(entry.times().0, out);
                true
            }
            Self::EmitTime(format) => {
                format.write(entry.times().1, out);
                true
            }
            Self::Between(from, to) => between(entry, *from, *to).is_some_and(|time| millis(time, out)),
            Self::ResponseCode => count(record.code.into(), out),
            Self::ResponseCodeDetails => put(notes.details.as_bytes(), out),
            Self::Flags | Self::LongFlags if record.flags.is_none() => put(b"-", out),
            Self::Flags => shown(record.flags, out),
            Self::LongFlags => shown(record.flags.long(), out),
            Self::BytesReceived => count(record.request_bytes, out),
            Self::BytesSent => count(record.response_bytes, out),
            Self::Attempts => count(record.attempts.into(), out),
            Self::UpstreamHost => {
                record.member.as_ref().is_some_and(|member| address(member.address, End::Address, out))
            }
            Self::Upstream(part) => {
                let member = record.member.as_ref().filter(|_| notes.connected());
                member.is_some_and(|member| address(member.address, *part, out))
            }
            Self::UpstreamLocal(part) => notes.upstream_local.is_some_and(|at| address(at, *part, out)),
            Self::UpstreamCluster => {
                let cluster = record.member.as_ref().map(|member| &member.cluster);
                cluster.or(record.cluster.as_ref()).is_some_and(|name| put(name.as_str().as_bytes(), out))
            }
            Self::UpstreamProtocol => notes.upstream_protocol.is_some_and(|version| put(named(version), out)),
            Self::UpstreamFailure => put(notes.failure.as_bytes(), out),
            Self::RouteName => put(notes.route.as_bytes(), out),
            Self::FilterChainName => put(entry.downstream.chain.name.as_bytes(), out),
            Self::GrpcStatus(form) => record.grpc_status.is_some_and(|status| grpc(status, *form, out)),
            Self::Constant(text) => put(text.as_bytes(), out),
            Self::Absent => false,
        }
    }
}

fn shared(operator: &format::Operator, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
    let write = |request: &RequestHead, out: &mut Vec<u8>| {
        let (downstream, response) = (entry.downstream, entry.response);
        operator.write(&Context { downstream, request, response, route: "", cluster: "" }, out)
    };
    match entry.request {
        Some(request) => write(request, out),
        None => write(&RequestHead::default(), out),
    }
}

fn put(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(text);
    !text.is_empty()
}

fn count(value: u64, out: &mut Vec<u8>) -> bool {
    put(itoa::Buffer::new().format(value).as_bytes(), out)
}

fn millis(time: Duration, out: &mut Vec<u8>) -> bool {
    count(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), out)
}

fn shown(value: impl std::fmt::Display, out: &mut Vec<u8>) -> bool {
    write!(out, "{value}").is_ok()
}

fn address(at: Address, part: End, out: &mut Vec<u8>) -> bool {
    match part {
        End::Address => at.write(out),
        End::Host => at.write_host(out),
        End::Port => return at.port().is_some_and(|port| count(port.into(), out)),
    }
    at != Address::Pipe("")
}

fn named(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2",
    }
}

fn between(entry: &Entry<'_>, from: Point, to: Point) -> Option<Duration> {
    let at = |point| match point {
        Point::Start => Some(entry.record.start),
        Point::RequestEnd => entry.notes.request_end,
        Point::ResponseStart => entry.notes.response_start,
        Point::End => Some(entry.now),
    };
    Some(at(to)?.saturating_duration_since(at(from)?))
}

fn grpc(status: u16, form: GrpcForm, out: &mut Vec<u8>) -> bool {
    match (form, GRPC.get(usize::from(status))) {
        (GrpcForm::Camel, Some((name, _))) | (GrpcForm::Snake, Some((_, name))) => put(name.as_bytes(), out),
        // Nobody has named it.
        _ => count(status.into(), out),
    }
}
