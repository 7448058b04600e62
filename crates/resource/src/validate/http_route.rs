//! The HTTP routes of a `VirtualService`.

use super::{
    Judge,
    syntax::is_token,
    virtual_service::{destination, gateways, weights},
};
use crate::istio::{
    CorsPolicy, FaultAbort, FaultDelay, HeaderOperations, Headers, HttpMatchRequest, HttpRedirect, HttpRetry,
    HttpRewrite, HttpRoute, StringMatch,
};

pub(super) fn check(route: &HttpRoute, in_delegate: bool, at: &mut Judge<'_>) {
    outcome(route, in_delegate, at);
    for (index, matched) in route.matches.iter().enumerate() {
        request_match(matched, &mut at.item("match", index));
    }
    for (index, target) in route.route.iter().enumerate() {
        let mut at = at.item("route", index);
        destination(&target.destination, &mut at.field("destination"));
        headers(target.headers.as_ref(), &mut at.field("headers"));
    }
    weights(&route.route.iter().map(|r| r.weight).collect::<Vec<_>>(), at);
    headers(route.headers.as_ref(), &mut at.field("headers"));
    at.field("timeout").duration_or_zero(route.timeout);
    if let Some(retries) = &route.retries {
        retry(retries, &mut at.field("retries"));
    }
    if let Some(redirect_to) = &route.redirect {
        redirect(redirect_to, &mut at.field("redirect"));
    }
    if let Some(changes) = &route.rewrite {
        rewrite(changes, &mut at.field("rewrite"));
    }
    if let Some(response) = &route.direct_response {
        let mut at = at.field("directResponse");
        if !(200..=599).contains(&response.status) {
            at.field("status").error("HDL0109", "not an answer's status", response.status, "200 to 599");
        }
        if response.body.as_ref().is_some_and(|b| b.string.is_some() && b.bytes.is_some()) {
            at.field("body").conflict("string and bytes exclude each other");
        }
    }
    if let Some(fault) = &route.fault {
        let mut at = at.field("fault");
        match (&fault.delay, &fault.abort) {
            (None, None) => at.missing("delay or abort"),
            (delay, abort) => {
                delay.iter().for_each(|d| fault_delay(d, &mut at.field("delay")));
                abort.iter().for_each(|a| fault_abort(a, &mut at.field("abort")));
            }
        }
    }
    if let Some(policy) = &route.cors_policy {
        cors(policy, &mut at.field("corsPolicy"));
    }
    mirrors(route, at);
}

/// What the route does, and what excludes what.
fn outcome(route: &HttpRoute, in_delegate: bool, at: &mut Judge<'_>) {
    let forwards = !route.route.is_empty();
    let does =
        [forwards, route.redirect.is_some(), route.direct_response.is_some(), route.delegate.is_some()];
    match does.iter().filter(|d| **d).count() {
        0 => at.missing("route, redirect, directResponse or delegate"),
        1 => {}
        _ => at.conflict("route, redirect, directResponse and delegate exclude each other"),
    }
    if route.redirect.is_some() && route.rewrite.is_some() {
        at.conflict("redirect and rewrite exclude each other");
    }
    if route.redirect.is_some() && route.fault.is_some() {
        at.conflict("redirect and fault exclude each other");
    }
    if route.direct_response.is_some() && route.rewrite.is_some() {
        at.conflict("directResponse and rewrite exclude each other");
    }
    if route.delegate.is_some() && in_delegate {
        at.field("delegate").conflict("a delegate cannot delegate again");
    }
}

fn request_match(matched: &HttpMatchRequest, at: &mut Judge<'_>) {
    let parts = [
        ("uri", &matched.uri),
        ("scheme", &matched.scheme),
        ("method", &matched.method),
        ("authority", &matched.authority),
    ];
    for (name, part) in parts {
        at.field(name).string_match(part.as_ref());
    }
    for (name, header) in &matched.headers {
        at.entry("headers", name).header_match(name, header);
    }
    for (name, header) in &matched.without_headers {
        at.entry("withoutHeaders", name).header_match(name, header);
    }
    for (name, parameter) in &matched.query_params {
        let mut at = at.entry("queryParams", name);
        if name.is_empty() {
            at.missing("the parameter's name");
        }
        at.value_match(parameter);
    }
    if let Some(port) = matched.port.filter(|p| *p != 0) {
        at.field("port").port(port);
    }
    at.field("sourceLabels").labels(&matched.source_labels);
    gateways(&matched.gateways, at);
}

fn headers(headers: Option<&Headers>, at: &mut Judge<'_>) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        operations(request, &mut at.field("request"));
    }
    if let Some(response) = &headers.response {
        operations(response, &mut at.field("response"));
    }
}

fn operations(operations: &HeaderOperations, at: &mut Judge<'_>) {
    for (list, entries) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in entries {
            let mut at = at.entry(list, name);
            header_name(name, list == "set", &mut at);
            header_value(value, &mut at);
        }
    }
    for (index, name) in operations.remove.iter().enumerate() {
        header_name(name, false, &mut at.item("remove", index));
    }
}

fn header_name(name: &str, authority: bool, at: &mut Judge<'_>) {
    let pseudo = authority && (name == ":authority" || name.eq_ignore_ascii_case("host"));
    if !pseudo && !is_token(name) {
        at.error("HDL0110", "not a header name", name, "letters, digits and -");
    }
}

/// Values are Envoy format strings: `%` begins an operator, `%%` is a per cent sign.
fn header_value(value: &str, at: &mut Judge<'_>) {
    if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        at.error("HDL0110", "not a header value", value.escape_default(), "one line");
    }
    let mut rest = value;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        // `100%`: nothing follows that could be an operator.
        if rest.is_empty() {
            return;
        }
        if let Some(tail) = rest.strip_prefix('%') {
            rest = tail;
            continue;
        }
        let name =
            rest.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
        let mut tail = &rest[name..];
        if tail.starts_with('(') {
            tail = tail.split_once(')').map_or("", |(_, tail)| tail);
        }
        if let Some(length) = tail.strip_prefix(':') {
            tail = length.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        match tail.strip_prefix('%') {
            Some(tail) if name > 0 => rest = tail,
            _ => {
                at.error("HDL0110", "a bare % begins an operator that is none", value, "%% or %NAME%");
                return;
            }
        }
    }
}

const RETRY_CONDITIONS: [&str; 18] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "aborted",
    "unknown",
];

fn retry(retry: &HttpRetry, at: &mut Judge<'_>) {
    if retry.attempts < 0 {
        at.field("attempts").error("HDL0109", "it is negative", retry.attempts, "0 or more");
    }
    let set = retry.per_try_timeout.is_some()
        || !retry.retry_on.is_empty()
        || retry.retry_remote_localities.is_some()
        || retry.backoff.is_some();
    if retry.attempts == 0 && set {
        at.conflict("0 attempts switch retries off, and there are settings for them");
    }
    at.field("perTryTimeout").duration_or_zero(retry.per_try_timeout);
    at.field("backoff").duration(retry.backoff);
    for condition in retry.retry_on.split(',').map(str::trim).filter(|_| !retry.retry_on.is_empty()) {
        let status = condition.parse::<u16>().is_ok_and(|s| (100..=599).contains(&s));
        if !status && !RETRY_CONDITIONS.contains(&condition) {
            let mut at = at.field("retryOn");
            at.error("HDL0109", "not a condition for a retry", condition, &RETRY_CONDITIONS.join(", "));
        }
    }
}

fn redirect(redirect: &HttpRedirect, at: &mut Judge<'_>) {
    let texts = [&redirect.uri, &redirect.prefix_rewrite, &redirect.authority, &redirect.scheme];
    if texts.iter().all(|t| t.is_empty()) && redirect.port.is_none() && redirect.derive_port.is_none() {
        at.missing("uri, authority, scheme or port");
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        at.conflict("uri and prefixRewrite exclude each other");
    }
    if let Some(code) = redirect.redirect_code.filter(|code| !matches!(code, 0 | 301 | 302 | 303 | 307 | 308))
    {
        at.field("redirectCode").error(
            "HDL0109",
            "not a redirect's status",
            code,
            "301, 302, 303, 307 or 308",
        );
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        at.field("scheme").error("HDL0109", "not a scheme", &redirect.scheme, "http or https");
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        at.conflict("port and derivePort exclude each other");
    }
    if let Some(port) = redirect.port {
        at.field("port").port(port);
    }
}

fn rewrite(rewrite: &HttpRewrite, at: &mut Judge<'_>) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        at.missing("uri, uriRegexRewrite or authority");
    }
    if let Some(by_regex) = &rewrite.uri_regex_rewrite {
        if !rewrite.uri.is_empty() {
            at.conflict("uri and uriRegexRewrite exclude each other");
        }
        let mut at = at.field("uriRegexRewrite");
        at.field("match").regex(&by_regex.matches);
        if by_regex.rewrite.is_empty() {
            at.field("rewrite").missing("what stands in its place");
        }
    }
}

const GRPC_STATUSES: [&str; 17] = [
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

fn fault_abort(abort: &FaultAbort, at: &mut Judge<'_>) {
    if let Some(percentage) = &abort.percentage {
        at.field("percentage").percent(percentage.value);
    }
    let ways = [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
    match ways.iter().filter(|w| **w).count() {
        0 => at.missing("httpStatus or grpcStatus"),
        1 => {}
        _ => at.conflict("httpStatus, grpcStatus and http2Error exclude each other"),
    }
    if let Some(status) = abort.http_status.filter(|s| !(200..=599).contains(s)) {
        at.field("httpStatus").error("HDL0109", "not an answer's status", status, "200 to 599");
    }
    if let Some(status) = &abort.grpc_status {
        let number = status.parse::<u8>().is_ok_and(|n| n <= 16);
        if !number && !GRPC_STATUSES.contains(&status.as_str()) {
            at.field("grpcStatus").error("HDL0109", "not a gRPC status", status, &GRPC_STATUSES.join(", "));
        }
    }
    if abort.http2_error.is_some() {
        at.field("http2Error").error("HDL0109", "not supported by any mesh", "", "httpStatus or grpcStatus");
    }
}

fn fault_delay(delay: &FaultDelay, at: &mut Judge<'_>) {
    at.field("percent").percent(delay.percent);
    if let Some(percentage) = &delay.percentage {
        at.field("percentage").percent(percentage.value);
    }
    if delay.fixed_delay.is_none() && delay.exponential_delay.is_none() {
        at.field("fixedDelay").missing("how long");
    }
    at.field("fixedDelay").duration(delay.fixed_delay);
    at.field("exponentialDelay").duration(delay.exponential_delay);
}

fn cors(policy: &CorsPolicy, at: &mut Judge<'_>) {
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let mut at = at.item("allowOrigins", index);
        match origin {
            StringMatch::Exact(text) | StringMatch::Prefix(text) if text.is_empty() => {
                at.error("HDL0106", "an empty match", "", "an origin");
            }
            other => at.string_match(Some(other)),
        }
    }
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
    for (index, method) in policy.allow_methods.iter().enumerate() {
        if !methods.contains(&method.as_str()) {
            let mut at = at.item("allowMethods", index);
            at.error("HDL0109", "not a method", method, &methods.join(", "));
        }
    }
    for (list, names) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            header_name(name, false, &mut at.item(list, index));
        }
    }
    at.field("maxAge").duration(policy.max_age);
}

fn mirrors(route: &HttpRoute, at: &mut Judge<'_>) {
    if let Some(mirror) = &route.mirror {
        if !route.mirrors.is_empty() {
            at.conflict("mirror and mirrors exclude each other");
        }
        destination(mirror, &mut at.field("mirror"));
    }
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let mut at = at.item("mirrors", index);
        destination(&mirror.destination, &mut at.field("destination"));
        if let Some(percentage) = &mirror.percentage {
            at.field("percentage").percent(percentage.value);
        }
    }
    for (field, percent) in
        [("mirrorPercent", route.mirror_percent), ("mirror_percent", route.mirror_percent_snake)]
    {
        if let Some(percent) = percent {
            at.field(field).percent(percent);
        }
    }
    if let Some(percentage) = &route.mirror_percentage {
        at.field("mirrorPercentage").percent(percentage.value);
    }
}
