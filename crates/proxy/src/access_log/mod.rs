//! Access logs: one line for each request and connection, as Envoy's format strings say, in files that other programs
//! rotate.
//!
//! A worker only appends to a buffer of its own ([`sink::Logs`]); a thread per file writes ([`sink::Writers`]). When a disk
//! is slower than the traffic, lines are lost and counted, and no request waits.

pub(crate) mod filter;
pub(crate) mod line;
mod operator;
pub(crate) mod sink;
mod time;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use self::filter::Filter;
use self::line::Line;
use crate::decide::Downstream;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::stream::Extra;
use crate::snapshot::Address;
use crate::telemetry::Record;
use crate::worker::Worker;

/// One access log of a connection manager or TCP proxy (`config.accesslog.v3.AccessLog`).
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `path`; `/dev/stdout` and `/dev/stderr` are this process's own.
    pub path: Arc<str>,
    pub(crate) filter: Option<Filter>,
    pub(crate) line: Line,
}

/// Says what is wrong with a format string of an access log.
///
/// # Errors
/// When an operator is unknown or not closed.
pub fn check_log_format(format: &str) -> Result<(), String> {
    Line::text(format, false).map(drop)
}

/// What one of the lines says that costs something to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Our end of the connection to the endpoint.
    pub(crate) upstream_local: bool,
    /// The response's trailers.
    pub(crate) trailers: bool,
}

impl Needs {
    /// What these logs need together.
    pub(crate) fn of(logs: &[AccessLog]) -> Self {
        logs.iter().fold(Self::default(), |all, log| all.and(log.line.needs()))
    }

    fn and(self, other: Self) -> Self {
        Self {
            upstream_local: self.upstream_local || other.upstream_local,
            trailers: self.trailers || other.trailers,
        }
    }
}

/// What is noted of a request for its lines only, and only where there is a log. Kept with the heads between requests.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The route's name.
    pub(crate) route: String,
    /// `%RESPONSE_CODE_DETAILS%`; empty for none.
    pub(crate) details: Cow<'static, str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; empty for none.
    pub(crate) failure: String,
    /// When the client had sent everything.
    pub(crate) request_end: Option<Instant>,
    /// When the head of the response had come.
    pub(crate) response_start: Option<Instant>,
    pub(crate) upstream_local: Option<Address>,
    pub(crate) upstream_protocol: Option<Version>,
    /// The response's trailers are in it.
    pub(crate) extra: Option<Box<Extra>>,
}

impl Notes {
    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        let mut route = std::mem::take(&mut self.route);
        route.clear();
        *self = Self { route, ..Self::default() };
    }

    /// There was a connection to an endpoint.
    fn connected(&self) -> bool {
        self.upstream_local.is_some()
    }

    pub(crate) fn set_route(&mut self, name: &str) {
        self.route.clear();
        self.route.push_str(name);
    }
}

/// What a line is made of.
#[derive(Debug)]
pub(crate) struct Entry<'e> {
    pub(crate) downstream: &'e Downstream,
    /// Nothing for a connection, and for what was no request.
    pub(crate) request: Option<&'e RequestHead>,
    /// Nothing when none was sent.
    pub(crate) response: Option<&'e ResponseHead>,
    pub(crate) record: &'e Record,
    pub(crate) notes: &'e Notes,
    /// The client's version of HTTP, where there is one.
    pub(crate) version: Option<Version>,
    /// When it was over.
    pub(crate) now: Instant,
}

impl Entry<'_> {
    /// Since 1970: when it began, and when it was over.
    fn times(&self) -> (Duration, Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (now.saturating_sub(self.lasted()), now)
    }

    fn lasted(&self) -> Duration {
        self.now.saturating_duration_since(self.record.start)
    }
}

/// Writes the lines of what is over.
pub(crate) fn write(worker: &Worker, logs: &[AccessLog], entry: &Entry<'_>) {
    for log in logs {
        if log.filter.as_ref().is_none_or(|filter| filter.takes(entry, || worker.random())) {
            worker.logs.write(&log.path, |out| log.line.write(entry, out));
        }
    }
}
