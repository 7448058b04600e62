//! What a forwarding route does to heads.

use smallvec::SmallVec;

use super::domains::port_start;
use super::edit::{self, Names};
use super::format::Context;
use super::prepare::append_list;
use super::{Downstream, Forward, Matched, MirrorTo, rewrite, timeout};
use crate::http::head::{RequestHead, ResponseHead};
use crate::snapshot::{HostRewrite, PathRewrite, RetryOn, RetryPolicy, RouteAction};

/// Request headers that only this hop reads about retries.
const RETRY_HEADERS: [&str; 6] = [
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
];

/// Policy, conditions, most retries and extra status codes of a request.
pub(super) fn retries<'s>(
    matched: Matched<'s>,
    action: &'s RouteAction,
    head: &RequestHead,
) -> (Option<&'s RetryPolicy>, RetryOn, u32, SmallVec<[u16; 2]>) {
    let policy = action.retry.as_deref().or(matched.virtual_host.retry.as_deref());
    let text = |name| head.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let said = |name| text(name).map(RetryOn::parse).unwrap_or_default();
    let mut on = policy.map(|policy| policy.on).unwrap_or_default();
    on = on.or(said("x-envoy-retry-on")).or(said("x-envoy-retry-grpc-on"));
    let limited = policy.is_some_and(|policy| {
        !policy.request_headers.is_empty()
            && !policy.request_headers.iter().any(|header| header.is_match(head))
    });
    if limited {
        on = RetryOn::default();
    }
    let most = text("x-envoy-max-retries").and_then(|value| value.trim().parse().ok());
    let max = most.unwrap_or_else(|| policy.map_or(1, |policy| policy.num_retries));
    let codes = text("x-envoy-retriable-status-codes").unwrap_or_default();
    let codes = codes.split(',').filter_map(|code| code.trim().parse().ok()).collect();
    (policy, on, if on.is_empty() { 0 } else { max }, codes)
}

impl Forward<'_> {
    /// Changes the request as the route says, in Envoy's order: timeout headers, attempt count, header changes, host and
    /// path. Once per request, before the first attempt. What depends on the attempt: [`Forward::set_attempt`],
    /// [`Forward::set_hostname`].
    pub fn edit_request(&self, downstream: &Downstream, head: &mut RequestHead) {
        head.headers.remove(timeout::UPSTREAM);
        head.headers.remove(timeout::PER_TRY);
        head.headers.remove("x-envoy-upstream-alt-stat-name");
        if let Some(expected) = self.times.expected {
            head.headers.set_number(timeout::EXPECTED, expected);
        }
        if let Some(grpc) = self.times.grpc {
            head.headers.set("grpc-timeout", timeout::grpc_timeout_text(grpc).as_bytes());
        }
        self.set_attempt(1, head);
        let weighted = self.weighted.map(|weighted| &weighted.edits);
        for level in edit::levels(weighted, self.route.edits.as_deref(), self.virtual_host, self.config) {
            edit::edit_request(&level.request, downstream, self, head);
        }
        self.rewrite_host(downstream, head);
        self.rewrite_path(downstream, head);
        for name in RETRY_HEADERS {
            head.headers.remove(name);
        }
    }

    /// `x-envoy-attempt-count` of the attempt about to be sent, counted from 1, where the virtual host asks for it.
    pub fn set_attempt(&self, attempt: u32, head: &mut RequestHead) {
        if self.virtual_host.attempt_count {
            head.headers.set_number("x-envoy-attempt-count", attempt.into());
        }
    }

    /// The host header of an attempt when it follows the endpoint (`auto_host_rewrite`): its hostname, if it has one.
    pub fn set_hostname(&self, hostname: Option<&str>, head: &mut RequestHead) {
        if let Some(hostname) = self.host_for(hostname)
            && hostname.as_bytes() != head.authority()
        {
            self.replace_host(hostname.as_bytes(), head);
        }
    }

    /// The host of an attempt when it follows the endpoint; `None`: as edited.
    pub fn host_for<'e>(&self, hostname: Option<&'e str>) -> Option<&'e str> {
        matches!(self.action.host, HostRewrite::Auto).then_some(hostname).flatten()
    }

    fn rewrite_host(&self, downstream: &Downstream, head: &mut RequestHead) {
        if let Some(host) = self.weighted.and_then(|weighted| weighted.host.as_deref()) {
            self.replace_host(host.as_bytes(), head);
        }
        let new = match &self.action.host {
            HostRewrite::Keep | HostRewrite::Auto => None,
            HostRewrite::Literal(host) => Some(host.as_bytes().to_vec()),
            HostRewrite::Header(name) => head.headers.get(name).map(<[u8]>::to_vec),
            HostRewrite::PathRegex(rewrite) => Some(rewrite.replace_all(head.path_only())),
            HostRewrite::Format(format) => {
                let mut out = Vec::new();
                format.write(&self.context(downstream, head), b"", &mut out);
                Some(out)
            }
        };
        if let Some(new) = new.filter(|new| !new.is_empty()) {
            self.replace_host(&new, head);
        }
    }

    fn replace_host(&self, new: &[u8], head: &mut RequestHead) {
        if !self.http.router.suppress_envoy_headers && !head.headers.contains("x-envoy-original-host") {
            let old = head.authority().to_vec();
            head.headers.append("x-envoy-original-host", &old);
        }
        if self.action.append_x_forwarded_host {
            let mut forwarded = head.headers.get("x-forwarded-host").map(<[u8]>::to_vec).unwrap_or_default();
            if !forwarded.is_empty() {
                forwarded.push(b',');
            }
            forwarded.extend_from_slice(head.authority());
            head.headers.set("x-forwarded-host", &forwarded);
        }
        head.set_authority(new);
    }

    fn rewrite_path(&self, downstream: &Downstream, head: &mut RequestHead) {
        let path = head.path();
        if path.is_empty() {
            return;
        }
        let new = match &self.action.path {
            PathRewrite::Keep => return,
            PathRewrite::Prefix(with) => rewrite::prefix(&self.route.matches.path, path, with),
            PathRewrite::Regex(regex) => rewrite::regex(regex, path),
            PathRewrite::Format(format) => rewrite::format(format, &self.context(downstream, head)),
        };
        if !self.http.router.suppress_envoy_headers {
            let original = path.to_vec();
            head.headers.set("x-envoy-original-path", &original);
        }
        head.set_path(&new);
    }

    fn context<'c>(&'c self, downstream: &'c Downstream, request: &'c RequestHead) -> Context<'c> {
        let cluster = self.cluster.name.as_str();
        Context { downstream, request, response: None, route: &self.route.name, cluster }
    }

    /// Changes the response as the route says: CORS, header changes, attempt count. `request` is the request as it was
    /// sent upstream. `x-envoy-upstream-service-time` is the exchange's, which has the clock.
    pub fn edit_response(
        &self,
        downstream: &Downstream,
        request: &RequestHead,
        attempts: u32,
        head: &mut ResponseHead,
    ) {
        if self.virtual_host.attempt_count_in_response {
            head.headers.set_number("x-envoy-attempt-count", attempts.into());
        }
        self.edit_local(downstream, request, head);
    }

    /// The part of [`Forward::edit_response`] that applies to answers made here (no endpoint, a timeout) too.
    pub fn edit_local(&self, downstream: &Downstream, request: &RequestHead, head: &mut ResponseHead) {
        let weighted = self.weighted.map(|weighted| &weighted.edits);
        let names = Names { route: &self.route.name, cluster: self.cluster.name.as_str() };
        for level in edit::levels(weighted, self.route.edits.as_deref(), self.virtual_host, self.config) {
            edit::edit_response(&level.response, downstream, request, names, head);
        }
        self.edit_cors(head);
    }

    /// The CORS headers of a response.
    pub fn edit_cors(&self, head: &mut ResponseHead) {
        let Some(cors) = &self.cors else { return };
        head.headers.set("access-control-allow-origin", &cors.origin);
        if cors.credentials() {
            head.headers.set("access-control-allow-credentials", b"true");
        }
        if !cors.expose_headers().is_empty() {
            head.headers.set("access-control-expose-headers", cors.expose_headers());
        }
    }
}

impl MirrorTo<'_> {
    /// Changes a copy of the request (after [`Forward::edit_request`]) for this mirror: the host gets the suffix `-shadow`.
    /// It comes from this proxy, which `x-envoy-internal` and `x-forwarded-for` say, as Envoy's does.
    pub fn edit(&self, downstream: &Downstream, head: &mut RequestHead) {
        head.forget_host_spelling();
        head.headers.set("x-envoy-internal", b"true");
        if let Some(machine) = downstream.machine {
            append_list(&mut head.headers, "x-forwarded-for", machine.to_string().as_bytes());
        }
        if let Some(host) = &self.mirror.host {
            head.set_authority(host.as_bytes());
        }
        if self.mirror.shadow_suffix {
            let host = head.authority();
            let (name, port) = host.split_at(port_start(host).unwrap_or(host.len()));
            let shadow = [name, b"-shadow", port].concat();
            head.set_authority(&shadow);
        }
    }
}
