//! Whether an attempt is followed by another.

use std::borrow::Cow;
use std::time::Duration;

use super::h2::Reason;
use super::head::{Method, ResponseHead};
use super::stream::Broken;
use crate::decide::Forward;
use crate::snapshot::{RetryOn, RetryPolicy};
use crate::telemetry::Flags;
use crate::upstream::connect::ConnectError;

/// Why an attempt gave no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The cluster has no endpoint.
    NoHost,
    /// No connection.
    Connect(ConnectError),
    /// The connection or the stream broke before a response.
    Reset(Broken),
    /// `per_try_timeout`.
    PerTryTimeout,
    /// `per_try_idle_timeout`.
    PerTryIdle,
    /// The whole request's time is over.
    Timeout,
    /// Nothing moved for too long.
    Idle,
}

impl Failure {
    /// Envoy's flag.
    pub(crate) fn flag(&self) -> Flags {
        match self {
            Self::NoHost => Flags::NO_HEALTHY_UPSTREAM,
            Self::Connect(ConnectError::Overflow) => Flags::UPSTREAM_OVERFLOW,
            Self::Connect(ConnectError::NoUpgrade) => Flags::UPSTREAM_PROTOCOL_ERROR,
            Self::Connect(_) => Flags::UPSTREAM_CONNECT_FAILURE,
            Self::Reset(Broken::Malformed(_) | Broken::Protocol(_)) => Flags::UPSTREAM_PROTOCOL_ERROR,
            Self::Reset(Broken::Reset(_)) => Flags::UPSTREAM_RESET,
            Self::Reset(Broken::Io(_) | Broken::Truncated | Broken::NotOffered) => Flags::UPSTREAM_TERMINATED,
            Self::PerTryTimeout | Self::Timeout => Flags::UPSTREAM_TIMEOUT,
            Self::Idle | Self::PerTryIdle => Flags::STREAM_IDLE_TIMEOUT,
        }
    }

    /// The status that answers the client.
    /// `complete`: the client had sent everything.
    pub(crate) fn status(&self, complete: bool) -> u16 {
        match self {
            Self::Idle if !complete => 408,
            Self::Idle => 504,
            Self::PerTryTimeout | Self::PerTryIdle | Self::Timeout => 504,
            Self::Reset(Broken::Malformed(_) | Broken::Protocol(_))
            | Self::Connect(ConnectError::NoUpgrade) => 502,
            _ => 503,
        }
    }

    /// Envoy's body of the answer.
    pub(crate) fn body(&self, retried: bool) -> String {
        let reason = match self {
            Self::NoHost => return "no healthy upstream".to_owned(),
            Self::PerTryTimeout | Self::PerTryIdle | Self::Timeout => {
                return "upstream request timeout".to_owned();
            }
            Self::Idle => return "stream timeout".to_owned(),
            Self::Connect(ConnectError::Tls(_) | ConnectError::NotReady) => {
                "remote connection failure, transport failure reason: TLS"
            }
            _ => self.reset_reason(),
        };
        let again = if retried { "retried and the latest reset" } else { "reset" };
        format!("upstream connect error or disconnect/reset before headers. {again} reason: {reason}")
    }

    /// Envoy's name for what ended the attempt.
    fn reset_reason(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Overflow) => "overflow",
            Self::Connect(ConnectError::Timeout) => "connection timeout",
            Self::Connect(ConnectError::NoUpgrade) => "protocol error",
            Self::Connect(ConnectError::Io(_) | ConnectError::Tls(_) | ConnectError::NotReady) => {
                "remote connection failure"
            }
            Self::Reset(Broken::Malformed(_) | Broken::Protocol(_)) => "protocol error",
            Self::Reset(Broken::Reset(_)) => "remote reset",
            _ => "connection termination",
        }
    }

    /// What the transport says of it, as Envoy writes it in access logs; empty where it says nothing.
    pub(crate) fn transport_failure(&self) -> String {
        match self {
            Self::Connect(ConnectError::Io(error)) => {
                let text = error.raw_os_error().map_or_else(|| error.to_string(), system_text);
                format!("delayed connect error: {text}")
            }
            Self::Connect(
                error @ (ConnectError::Tls(_) | ConnectError::NotReady | ConnectError::NoUpgrade),
            ) => error.to_string(),
            _ => String::new(),
        }
    }

    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub(crate) fn details(&self) -> Cow<'static, str> {
        match self {
            Self::NoHost => "no_healthy_upstream".into(),
            Self::Timeout => "response_timeout".into(),
            Self::PerTryTimeout => "upstream_per_try_timeout".into(),
            Self::PerTryIdle => "upstream_per_try_idle_timeout".into(),
            Self::Idle => "stream_idle_timeout".into(),
            Self::Connect(_) | Self::Reset(_) => {
                let (reason, transport) = (self.reset_reason(), self.transport_failure());
                let bar = if transport.is_empty() { "" } else { "|" };
                let text = format!("upstream_reset_before_response_started{{{reason}{bar}{transport}}}");
                text.replace(' ', "_").into()
            }
        }
    }

    /// The endpoint cannot have begun to act on the request.
    fn untouched(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Reset(Broken::Reset(reason)) => *reason == Reason::REFUSED_STREAM,
            _ => false,
        }
    }

    /// It tells something of the endpoint, and not of our own limits or the client.
    pub(crate) fn speaks_against_endpoint(&self) -> bool {
        // Any client may ask for an upgrade, and must not put endpoints out of use by it.
        !matches!(
            self,
            Self::NoHost | Self::Idle | Self::Connect(ConnectError::Overflow | ConnectError::NoUpgrade)
        )
    }

    /// The endpoint refused the connection: trying elsewhere at once costs nobody anything.
    pub(crate) fn refused(&self) -> bool {
        matches!(self, Self::Connect(ConnectError::Io(_)))
    }

    /// The conditions under which this is retried.
    fn conditions(&self, method: Method) -> RetryOn {
        let reset = RetryOn::RESET.or(RetryOn::SERVER_ERROR).or(RetryOn::GATEWAY_ERROR);
        match self {
            // What a breaker refused is not tried again at once: that is what it is for.
            Self::NoHost | Self::Timeout | Self::Idle | Self::Connect(ConnectError::Overflow) => {
                RetryOn::default()
            }
            Self::Connect(_) => reset.or(RetryOn::CONNECT_FAILURE).or(RetryOn::RESET_BEFORE_REQUEST),
            Self::PerTryTimeout | Self::PerTryIdle => reset,
            Self::Reset(Broken::Reset(Reason::REFUSED_STREAM)) => {
                reset.or(RetryOn::REFUSED_STREAM).or(RetryOn::RESET_BEFORE_REQUEST)
            }
            // A policy that retries what never reached the endpoint also retries what is harmless to repeat.
            Self::Reset(_) if safe(method) => reset.or(RetryOn::RESET_BEFORE_REQUEST),
            Self::Reset(_) => reset,
        }
    }

    /// Whether `forward` retries this failure of a request with that method.
    pub(crate) fn retried(&self, forward: &Forward<'_>, method: Method) -> bool {
        forward.retry_on.any(self.conditions(method))
    }

    /// Whether the request may be sent again without a policy that says so: a connection that was open for long died
    /// under it, and repeating is harmless.
    pub(crate) fn replayable(&self, method: Method, reused: bool) -> bool {
        reused
            && (self.untouched()
                || (safe(method) && matches!(self, Self::Reset(Broken::Io(_) | Broken::Truncated))))
    }
}

/// The system's words for an error, without its number.
fn system_text(number: i32) -> String {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn safe(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options)
}

/// Whether `forward` retries this response.
pub(crate) fn response_retried(forward: &Forward<'_>, head: &ResponseHead) -> bool {
    let on = forward.retry_on;
    if on.is_empty() {
        return false;
    }
    let status = head.status;
    let grpc = head.headers.get("grpc-status").and_then(super::h1::parse::decimal);
    (on.any(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
        || (on.any(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
        || (on.any(RetryOn::RETRIABLE_4XX) && status == 409)
        || (on.any(RetryOn::RATE_LIMITED) && head.headers.contains("x-envoy-ratelimited"))
        || (on.any(RetryOn::STATUS_CODES)
            && (forward.extra_status_codes.contains(&status)
                || forward.retry.is_some_and(|policy| policy.status_codes.contains(&status))))
        || (on.any(RetryOn::HEADERS) && forward.retry.is_some_and(|policy| policy.headers_hit(head)))
        || match grpc {
            Some(1) => on.any(RetryOn::GRPC_CANCELLED),
            Some(4) => on.any(RetryOn::GRPC_DEADLINE),
            Some(8) => on.any(RetryOn::GRPC_EXHAUSTED),
            Some(13) => on.any(RetryOn::GRPC_INTERNAL),
            Some(14) => on.any(RetryOn::GRPC_UNAVAILABLE),
            _ => false,
        }
}

/// The pause that a rate-limited response asks for by one of the policy's headers, and up to half as long again.
/// `now`: since the Unix epoch.
pub(crate) fn asked_pause(
    policy: &RetryPolicy,
    head: &ResponseHead,
    now: Duration,
    random: u64,
) -> Option<Duration> {
    let limited = policy.rate_limited.as_ref()?;
    let asked = limited.reset_headers.iter().find_map(|(name, timestamp)| {
        let seconds = Duration::from_secs(super::h1::parse::decimal(head.headers.get(name)?)?);
        let pause = if *timestamp { seconds.checked_sub(now)? } else { seconds };
        (!pause.is_zero() && pause <= limited.max_interval).then_some(pause)
    })?;
    let more = u64::try_from(asked.as_nanos() / 2).unwrap_or(u64::MAX).max(1);
    Some(asked + Duration::from_nanos(random % more))
}

/// The pause before retry number `retry` (from 1): random up to an exponentially growing bound, as Envoy's jitter.
pub(crate) fn back_off(forward: &Forward<'_>, retry: u32, random: u64) -> Duration {
    let (base, most) = forward
        .retry
        .map_or((Duration::ZERO, Duration::ZERO), |policy| (policy.base_interval, policy.max_interval));
    let base = if base.is_zero() { Duration::from_millis(25) } else { base };
    let most = if most.is_zero() { base * 10 } else { most };
    let bound = base.saturating_mul(1_u32 << retry.min(16)).saturating_sub(base).min(most);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(random % nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::RateLimitedBackOff;

    #[test]
    fn a_rate_limited_response_says_how_long_to_wait() {
        let policy = RetryPolicy {
            rate_limited: Some(RateLimitedBackOff {
                reset_headers: vec![("retry-after".into(), false), ("x-reset".into(), true)],
                max_interval: Duration::from_secs(300),
            }),
            ..RetryPolicy::default()
        };
        let now = Duration::from_millis(1_000_500);
        let pause = |fields: &[(&str, &str)], random| {
            let mut head = ResponseHead::default();
            fields.iter().for_each(|(name, value)| head.headers.append(name, value.as_bytes()));
            asked_pause(&policy, &head, now, random).map(|pause| pause.as_millis())
        };
        assert_eq!(pause(&[], 0), None);
        assert_eq!(pause(&[("retry-after", "4")], 0), Some(4000));
        let most = pause(&[("retry-after", "4")], u64::MAX).unwrap();
        assert!((4000..6000).contains(&most), "{most}");
        assert_eq!(pause(&[("x-reset", "1003")], 0), Some(2500));
        // Past, too long, or no number: the next header, else the usual back-off.
        assert_eq!(pause(&[("x-reset", "900")], 0), None);
        assert_eq!(pause(&[("retry-after", "301"), ("x-reset", "1001")], 0), Some(500));
        assert_eq!(pause(&[("retry-after", "soon")], 0), None);
        assert_eq!(asked_pause(&RetryPolicy::default(), &ResponseHead::default(), now, 0), None);
    }
}
