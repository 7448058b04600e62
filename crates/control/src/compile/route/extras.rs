//! Headers, retries, faults, CORS.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{DataSource, HeaderValueOption, data_source},
        route::v3::{
            RetryPolicy,
            retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate},
        },
    },
    extensions::{
        filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                cors::v3::CorsPolicy,
                fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            },
        },
        retry::host::previous_hosts::v3::PreviousHostsPredicate,
    },
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use heddle_resource::istio::{self, HeaderOperations, Headers, HttpFaultInjection, HttpRetry, StringMatch};

use super::{ADD, Denial, SET, any, duration, header, header_value, matching::string_matcher};
use crate::compile::build::{boolean, fraction, runtime_fraction, string, uint};

pub(super) const FAULT: &str = "envoy.filters.http.fault";
pub(super) const CORS: &str = "envoy.filters.http.cors";

/// The header lists of a message.
pub(crate) struct Parts<'a> {
    pub(super) request_add: &'a mut Vec<HeaderValueOption>,
    pub(super) request_remove: &'a mut Vec<String>,
    pub(super) response_add: &'a mut Vec<HeaderValueOption>,
    pub(super) response_remove: &'a mut Vec<String>,
}

/// A message that changes headers.
pub(crate) trait Target {
    fn parts(&mut self) -> Parts<'_>;
}

/// Header changes as declared: set, then add, then remove, each by name.
pub(crate) fn set_headers(headers: &Headers, into: &mut impl Target) {
    let parts = into.parts();
    if let Some(request) = &headers.request {
        operations(request, parts.request_add, parts.request_remove);
    }
    if let Some(response) = &headers.response {
        operations(response, parts.response_add, parts.response_remove);
    }
}

fn operations(operations: &HeaderOperations, add: &mut Vec<HeaderValueOption>, remove: &mut Vec<String>) {
    for (declared, action) in [(&operations.set, SET), (&operations.add, ADD)] {
        for (name, value) in declared.iter().filter(|(name, _)| !is_host(name)) {
            add.push(header(name, &header_value(value), action));
        }
    }
    remove.extend(operations.remove.iter().filter(|name| !is_host(name)).cloned());
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

/// The authority that `set: {host: ...}` asks for: Envoy rewrites it instead of setting the header.
pub(super) fn host_of(headers: Option<&Headers>) -> Option<String> {
    let set = &headers?.request.as_ref()?.set;
    set.iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.clone())
}

/// The conditions that are retried unless a VirtualService says otherwise: Istio's, and requests that
/// were reset before a byte of them was read.
const RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes,reset-before-request";

/// 2 retries, never to the host just tried, from 25 ms.
pub(crate) fn default_retry_policy() -> RetryPolicy {
    RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: uint(2),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
        }],
        host_selection_retry_max_attempts: 5,
        ..Default::default()
    }
}

pub(super) fn retry_policy(declared: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let Some(declared) = declared else { return Some(default_retry_policy()) };
    let attempts = u32::try_from(declared.attempts).ok().filter(|attempts| *attempts > 0)?;
    let mut policy = default_retry_policy();
    policy.num_retries = uint(attempts);
    if !declared.retry_on.is_empty() {
        let mut conditions: Vec<&str> = Vec::new();
        for part in declared.retry_on.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.parse::<u32>() {
                Ok(status) if (100..600).contains(&status) => policy.retriable_status_codes.push(status),
                _ => conditions.push(part),
            }
        }
        if !policy.retriable_status_codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
            conditions.push("retriable-status-codes");
        }
        policy.retry_on = conditions.join(",");
    }
    policy.per_try_timeout = declared
        .per_try_timeout
        .map(|timeout| duration(timeout.0))
        .filter(|timeout| *timeout != duration(Duration::ZERO));
    if declared.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    if let Some(base) = declared.backoff.filter(|base| base.0 >= Duration::from_millis(1)) {
        policy.retry_back_off =
            Some(RetryBackOff { base_interval: Some(duration(base.0)), ..Default::default() });
    }
    Some(policy)
}

/// A percentage that is not given means never, as in Istio.
pub(super) fn fault(fault: &HttpFaultInjection) -> HttpFault {
    let delay = fault.delay.as_ref().and_then(|delay| {
        let percent = delay.percentage.as_ref().map_or(f64::from(delay.percent), |percent| percent.value);
        Some(FaultDelay {
            percentage: Some(fraction(percent)),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.fixed_delay?.0))),
        })
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let error = match (abort.http_status, abort.grpc_status.as_deref()) {
            (Some(status), _) => ErrorType::HttpStatus(u32::try_from(status).ok()?),
            (None, Some(status)) => ErrorType::GrpcStatus(grpc_status(status)?),
            (None, None) => return None,
        };
        Some(FaultAbort {
            percentage: Some(fraction(abort.percentage.as_ref().map_or(0.0, |percent| percent.value))),
            error_type: Some(error),
            ..Default::default()
        })
    });
    HttpFault { delay, abort, ..Default::default() }
}

/// The answer of a share of a weighted route that is denied: 503, naming the object and field.
pub(super) fn refusal(of: &Denial) -> HttpFault {
    let abort = FaultAbort {
        percentage: Some(fraction(100.0)),
        error_type: Some(ErrorType::HttpStatus(503)),
        response_body: super::denial(of),
    };
    HttpFault { abort: Some(abort), ..Default::default() }
}

/// A gRPC status by name or number.
fn grpc_status(text: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
    by_name.and_then(|at| u32::try_from(at).ok()).or_else(|| text.parse().ok().filter(|code| *code <= 16))
}

pub(super) fn cors(cors: &istio::CorsPolicy) -> CorsPolicy {
    let exact = cors.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => string(MatchPattern::SafeRegex(crate::compile::build::regex(".*"))),
        _ => string(MatchPattern::Exact(origin.clone())),
    });
    let origins = cors.allow_origins.iter().map(|origin: &StringMatch| match origin {
        // Istio reads an exact `*` as any origin.
        StringMatch::Exact(any) if any == "*" => {
            string(MatchPattern::SafeRegex(crate::compile::build::regex(".*")))
        }
        other => string_matcher(other.clone()),
    });
    let allowed: Vec<_> = if cors.allow_origins.is_empty() { exact.collect() } else { origins.collect() };
    CorsPolicy {
        allow_origin_string_match: allowed,
        allow_methods: cors.allow_methods.join(","),
        allow_headers: cors.allow_headers.join(","),
        expose_headers: cors.expose_headers.join(","),
        max_age: cors.max_age.map(|age| age.0.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: cors.allow_credentials.and_then(boolean),
        filter_enabled: Some(runtime_fraction(100.0)),
        forward_not_matching_preflights: boolean(cors.unmatched_preflights.as_deref() != Some("IGNORE")),
        ..Default::default()
    }
}

/// A body given in base64.
pub(super) fn inline_bytes(encoded: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(decode_base64(encoded))),
        ..Default::default()
    }
}

/// Standard base64; what is malformed was refused at admission, and ends the body here.
fn decode_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\n' | b'\r' | b' ' => continue,
            _ => break,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(((buffer >> bits) & 0xff) as u8);
        }
    }
    bytes
}
