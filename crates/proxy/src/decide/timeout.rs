//! How long a request may take, by Envoy's rules for routes, `x-envoy-*-timeout-ms` and `grpc-timeout`.

use std::time::Duration;

use super::matching::is_grpc;
use crate::http::head::RequestHead;
use crate::snapshot::{HttpConnectionManager, RetryPolicy, RouteAction};

/// `x-envoy-upstream-rq-timeout-ms`.
pub(super) const UPSTREAM: &str = "x-envoy-upstream-rq-timeout-ms";
/// `x-envoy-upstream-rq-per-try-timeout-ms`.
pub(super) const PER_TRY: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
/// `x-envoy-expected-rq-timeout-ms`.
pub(super) const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

/// The times of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// The whole request; zero is unlimited.
    pub(super) global: Duration,
    /// One attempt; zero: the whole request's.
    pub(super) per_try: Duration,
    /// `x-envoy-expected-rq-timeout-ms` to write, milliseconds.
    pub(super) expected: Option<u64>,
    /// `grpc-timeout` to write.
    pub(super) grpc: Option<Duration>,
    /// The stream's longest life.
    pub(super) max_stream: Option<Duration>,
}

pub(super) fn timeouts(
    http: &HttpConnectionManager,
    action: &RouteAction,
    retry: Option<&RetryPolicy>,
    head: &RequestHead,
) -> Timeouts {
    let grpc = is_grpc(head);
    let mut out = Timeouts::default();
    let legacy_grpc = action.grpc_timeout.filter(|_| grpc && action.max_stream.is_none());
    if action.max_stream.is_none() {
        out.global = match legacy_grpc {
            Some((max, offset)) => capped(grpc_timeout(head).unwrap_or_default(), max, offset),
            None => action.timeout.unwrap_or_default(),
        };
    }
    let header = |name| header_millis(head, name);
    let said = if http.router.respect_expected_rq_timeout && head.headers.contains(EXPECTED) {
        header(EXPECTED)
    } else {
        header(UPSTREAM)
    };
    out.global = said.unwrap_or(out.global);
    out.per_try = header(PER_TRY).or_else(|| retry?.per_try_timeout).unwrap_or_default();
    if out.per_try >= out.global && !out.global.is_zero() {
        out.per_try = Duration::ZERO;
    }
    let expected = if out.per_try.is_zero() { out.global } else { out.per_try };
    if !expected.is_zero() {
        let keep = http.router.respect_expected_rq_timeout && head.headers.contains(EXPECTED);
        let suppressed = http.router.suppress_envoy_headers;
        out.expected = (!suppressed && !keep).then(|| millis(expected));
        out.grpc = legacy_grpc.map(|_| expected);
    }
    let (max, write) = max_stream(http, action, head);
    out.max_stream = max;
    out.grpc = write.or(out.grpc);
    out
}

/// `grpc-timeout` less the offset, at most `max`; zero is unlimited on either side.
fn capped(timeout: Duration, max: Duration, offset: Option<Duration>) -> Duration {
    let timeout = offset.filter(|offset| *offset < timeout).map_or(timeout, |offset| timeout - offset);
    if !max.is_zero() && (timeout.is_zero() || timeout > max) { max } else { timeout }
}

/// The stream's longest life, and the `grpc-timeout` to pass on.
fn max_stream(
    http: &HttpConnectionManager,
    action: &RouteAction,
    head: &RequestHead,
) -> (Option<Duration>, Option<Duration>) {
    let limit = |duration: Duration| (!duration.is_zero()).then_some(duration);
    let Some(route) = &action.max_stream else { return (http.max_stream_duration.and_then(limit), None) };
    let (Some(max), Some(asked)) = (route.grpc_max, grpc_timeout(head)) else {
        return (route.max.or(http.max_stream_duration).and_then(limit), None);
    };
    let mut timeout = if !max.is_zero() && asked > max { max } else { asked };
    if let Some(offset) = route.grpc_offset.filter(|_| !timeout.is_zero()) {
        timeout = timeout.saturating_sub(offset).max(Duration::from_nanos(1));
    }
    (limit(timeout), limit(timeout))
}

fn header_millis(head: &RequestHead, name: &str) -> Option<Duration> {
    let text = std::str::from_utf8(head.headers.get(name)?).ok()?;
    text.trim_ascii().parse().ok().map(Duration::from_millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `grpc-timeout`: at most eight digits and a unit.
pub fn grpc_timeout(head: &RequestHead) -> Option<Duration> {
    let value = head.headers.get("grpc-timeout")?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// `grpc-timeout` as Envoy writes it: milliseconds while eight digits hold them.
pub fn grpc_timeout_text(duration: Duration) -> String {
    let units = [("m", 1u128), ("S", 1000), ("M", 60_000), ("H", 3_600_000)];
    let ms = duration.as_millis();
    let (unit, size) =
        units.into_iter().find(|(_, size)| ms / size <= 99_999_999).unwrap_or(("H", 3_600_000));
    format!("{}{unit}", (ms / size).min(99_999_999))
}
