//! Retry policies (`config.route.v3.RetryPolicy`).

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

use crate::decide::matching::HeaderMatcher;
use crate::http::head::ResponseHead;

/// `RetryPolicy` with Envoy's defaults filled in.
#[derive(Debug, Default)]
pub struct RetryPolicy {
    /// Conditions.
    pub on: RetryOn,
    /// `num_retries`, default 1.
    pub num_retries: u32,
    /// `per_try_timeout`; absent: the route's.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`.
    pub status_codes: SmallVec<[u16; 4]>,
    /// `retriable_headers`: a response with any of these is retried.
    pub headers: Box<[HeaderMatcher]>,
    /// `retriable_request_headers`: only requests with any of these are retried.
    pub request_headers: Box<[HeaderMatcher]>,
    /// `retry_back_off.base_interval`, default 25 ms.
    pub base_interval: Duration,
    /// `retry_back_off.max_interval`, default 10 x base.
    pub max_interval: Duration,
    /// `retry_host_predicate` names `previous_hosts`.
    pub avoid_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`, default 1.
    pub host_attempts: u32,
    /// `rate_limited_retry_back_off`.
    pub rate_limited: Option<RateLimitedBackOff>,
}

impl RetryPolicy {
    /// A header of the response is one of `retriable_headers`.
    pub fn headers_hit(&self, head: &ResponseHead) -> bool {
        self.headers.iter().any(|header| header.is_match_values(head.headers.get_all(&header.name)))
    }
}

/// `rate_limited_retry_back_off`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimitedBackOff {
    /// Header (lowercased) and whether it is a Unix timestamp rather than seconds.
    pub reset_headers: Vec<(Box<str>, bool)>,
    /// `max_interval`, default 300 s.
    pub max_interval: Duration,
}

/// The conditions of `retry_on` and `x-envoy-retry-on`, `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

/// Name and bit of each condition.
const CONDITIONS: [(&str, RetryOn); 16] = [
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::RATE_LIMITED),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::STATUS_CODES),
    ("retriable-headers", RetryOn::HEADERS),
    ("http3-post-connect-failure", RetryOn(0)),
    ("cancelled", RetryOn::GRPC_CANCELLED),
    ("deadline-exceeded", RetryOn::GRPC_DEADLINE),
    ("internal", RetryOn::GRPC_INTERNAL),
    ("resource-exhausted", RetryOn::GRPC_EXHAUSTED),
    ("unavailable", RetryOn::GRPC_UNAVAILABLE),
];

impl fmt::Display for RetryOn {
    /// The conditions by name, as `retry_on` has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = CONDITIONS.iter().filter(|(_, bit)| self.any(*bit)).map(|(name, _)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl RetryOn {
    /// `5xx`: any 5xx answer, or none at all.
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    /// `gateway-error`: 502, 503, 504.
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    /// `reset`: no answer at all.
    pub const RESET: RetryOn = RetryOn(1 << 2);
    /// `reset-before-request`: no answer, and the request head was not sent.
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    /// `connect-failure`.
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    /// `envoy-ratelimited`.
    pub const RATE_LIMITED: RetryOn = RetryOn(1 << 5);
    /// `retriable-4xx`: 409.
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    /// `refused-stream`: REFUSED_STREAM of HTTP/2.
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    /// `retriable-status-codes`.
    pub const STATUS_CODES: RetryOn = RetryOn(1 << 8);
    /// `retriable-headers`.
    pub const HEADERS: RetryOn = RetryOn(1 << 9);
    /// `cancelled`: gRPC status 1 in the response head.
    pub const GRPC_CANCELLED: RetryOn = RetryOn(1 << 10);
    /// `deadline-exceeded`: gRPC status 4.
    pub const GRPC_DEADLINE: RetryOn = RetryOn(1 << 11);
    /// `internal`: gRPC status 13.
    pub const GRPC_INTERNAL: RetryOn = RetryOn(1 << 12);
    /// `resource-exhausted`: gRPC status 8.
    pub const GRPC_EXHAUSTED: RetryOn = RetryOn(1 << 13);
    /// `unavailable`: gRPC status 14.
    pub const GRPC_UNAVAILABLE: RetryOn = RetryOn(1 << 14);

    /// The conditions of a comma-separated list; unknown ones are skipped, as Envoy does.
    pub fn parse(text: &str) -> RetryOn {
        text.split(',').map(str::trim).fold(RetryOn(0), |all, word| {
            CONDITIONS.iter().find(|(name, _)| *name == word).map_or(all, |(_, bit)| RetryOn(all.0 | bit.0))
        })
    }

    /// Both.
    #[must_use]
    pub fn or(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// Any of these is set.
    pub fn any(self, of: RetryOn) -> bool {
        self.0 & of.0 != 0
    }

    /// No condition.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::RetryOn;

    #[test]
    fn conditions_are_printed_as_they_are_written() {
        let text = "5xx,reset-before-request,connect-failure,retriable-status-codes,unavailable";
        assert_eq!(RetryOn::parse(text).to_string(), text);
        assert_eq!(RetryOn::default().to_string(), "");
    }
}
