//! The CORS and fault filters.

use std::time::Duration;

use smallvec::SmallVec;

use super::matching::{Fraction, roll};
use super::{Abort, CorsOutcome, FaultOutcome, Respond};
use crate::http::head::{Method, RequestHead};
use crate::snapshot::{
    AbortKind, CorsPolicy, Fault, FaultAbort, FaultDelay, FilterOverrides, HttpConnectionManager, HttpFilter,
};

/// What the filters in front of the router do.
#[derive(Default)]
pub(super) struct Filtered<'s> {
    pub(super) fault: Option<FaultOutcome<'s>>,
    pub(super) cors: Option<CorsOutcome<'s>>,
    /// An answer of the CORS filter.
    pub(super) answer: Option<Respond<'s>>,
    /// gRPC-Web is translated.
    pub(super) web: bool,
}

/// Settings of all levels, the most specific first.
pub(super) type Levels<'s> = SmallVec<[&'s FilterOverrides; 4]>;

/// Runs the filters. `cluster` is the cluster of a forwarding route.
pub(super) fn run<'s>(
    http: &'s HttpConnectionManager,
    levels: &Levels<'s>,
    cluster: Option<&str>,
    head: &RequestHead,
    random: u64,
) -> Filtered<'s> {
    let mut out = Filtered::default();
    for filter in &http.filters {
        match filter {
            HttpFilter::Cors => {
                let off = levels.iter().find_map(|level| level.cors_disabled).unwrap_or(false);
                if off || cluster.is_none() {
                    continue;
                }
                cors(levels, head, random, &mut out);
                if out.answer.is_some() {
                    return out;
                }
            }
            HttpFilter::Fault(own) => {
                if levels.iter().find_map(|level| level.fault_disabled).unwrap_or(false) {
                    continue;
                }
                let policy = levels.iter().find_map(|level| level.fault.as_deref()).or(own.as_deref());
                out.fault = policy.and_then(|policy| fault(policy, cluster, head, random));
            }
            // What it changes comes behind the decision.
            HttpFilter::GrpcWeb { disabled } => {
                let off = levels.iter().find_map(|level| level.grpc_web_disabled).unwrap_or(*disabled);
                out.web = !off;
            }
        }
    }
    out
}

fn cors<'s>(levels: &Levels<'s>, head: &RequestHead, random: u64, out: &mut Filtered<'s>) {
    let policies: SmallVec<[&CorsPolicy; 2]> =
        levels.iter().filter_map(|level| level.cors.as_deref()).collect();
    let Some(first) = policies.first() else { return };
    if !first.enabled.is_none_or(|share| share.hit(roll(random, 11))) {
        return;
    }
    let Some(origin) = head.headers.get("origin").filter(|origin| !origin.is_empty()) else { return };
    let origins = policies.iter().find(|policy| !policy.origins.is_empty());
    let allowed = origins.is_some_and(|policy| {
        policy.origins.iter().any(|matcher| matcher.is_match(origin) || matcher.is_match(b"*"))
    });
    let preflight = head.method == Method::Options
        && head.headers.get("access-control-request-method").is_some_and(|method| !method.is_empty());
    let forward = || policies.iter().find_map(|policy| policy.forward_not_matching).unwrap_or(true);
    if !allowed {
        if preflight && !forward() {
            out.answer = Some(Respond { details: "cors_response", ..Respond::new(200) });
        }
        return;
    }
    let outcome = CorsOutcome { origin: origin.into(), policies };
    if preflight {
        out.answer = Some(outcome.preflight(head));
    } else {
        out.cors = Some(outcome);
    }
}

impl<'s> CorsOutcome<'s> {
    fn text(&self, field: impl Fn(&'s CorsPolicy) -> &'s str) -> &'s [u8] {
        self.policies
            .iter()
            .map(|policy| field(policy))
            .find(|text| !text.is_empty())
            .unwrap_or("")
            .as_bytes()
    }

    /// Credentials are allowed.
    pub fn credentials(&self) -> bool {
        self.policies.iter().find_map(|policy| policy.allow_credentials).unwrap_or(false)
    }

    /// `expose_headers`.
    pub fn expose_headers(&self) -> &'s [u8] {
        self.text(|policy| &policy.expose_headers)
    }

    fn preflight(&self, head: &RequestHead) -> Respond<'s> {
        let mut answer = Respond { details: "cors_response", ..Respond::new(200) };
        let mut add = |name, value: &[u8]| {
            if !value.is_empty() {
                answer.headers.push((name, value.into()));
            }
        };
        add("access-control-allow-origin", &self.origin);
        add("access-control-allow-credentials", if self.credentials() { b"true" } else { b"" });
        add("access-control-allow-methods", self.text(|policy| &policy.allow_methods));
        add("access-control-allow-headers", self.text(|policy| &policy.allow_headers));
        add("access-control-expose-headers", self.expose_headers());
        add("access-control-max-age", self.text(|policy| &policy.max_age));
        let private = self.policies.iter().find_map(|policy| policy.allow_private_network).unwrap_or(false)
            && head.headers.get("access-control-request-private-network") == Some(b"true");
        add("access-control-allow-private-network", if private { b"true" } else { b"" });
        answer
    }
}

fn fault<'s>(
    policy: &'s Fault,
    cluster: Option<&str>,
    head: &RequestHead,
    random: u64,
) -> Option<FaultOutcome<'s>> {
    if policy.upstream_cluster.as_ref().is_some_and(|wanted| cluster != Some(wanted.as_str())) {
        return None;
    }
    if !policy.downstream_nodes.is_empty() {
        let node = head.headers.get("x-envoy-downstream-service-node")?;
        policy.downstream_nodes.iter().find(|wanted| wanted.as_bytes() == node)?;
    }
    if !policy.headers.iter().all(|header| header.is_match(head)) {
        return None;
    }
    let delay = policy.delay.as_ref().and_then(|delay| delayed(delay, head, roll(random, 12)));
    let abort = policy.abort.as_ref().and_then(|abort| aborted(abort, head, roll(random, 13)));
    (delay.is_some() || abort.is_some()).then_some(FaultOutcome {
        delay,
        abort,
        max_active: policy.max_active,
    })
}

fn number(head: &RequestHead, name: &str) -> Option<u64> {
    std::str::from_utf8(head.headers.get(name)?).ok()?.trim_ascii().parse().ok()
}

/// A header may lower the share of a header-driven fault; it counts in the denominator of the policy (percent here).
fn share(fraction: Fraction, head: &RequestHead, header: &str) -> Fraction {
    match number(head, header) {
        Some(percent) => Fraction(fraction.0.min(u32::try_from(percent.min(100) * 10_000).unwrap_or(0))),
        None => fraction,
    }
}

fn delayed(delay: &FaultDelay, head: &RequestHead, roll: u64) -> Option<Duration> {
    let (length, fraction) = match delay.fixed {
        Some(fixed) => (fixed, delay.fraction),
        None => (
            Duration::from_millis(number(head, "x-envoy-fault-delay-request")?),
            share(delay.fraction, head, "x-envoy-fault-delay-request-percentage"),
        ),
    };
    (fraction.hit(roll) && !length.is_zero()).then_some(length)
}

fn aborted<'s>(abort: &'s FaultAbort, head: &RequestHead, roll: u64) -> Option<Abort<'s>> {
    let body = if abort.body.is_empty() { "fault filter abort" } else { &abort.body };
    let (status, grpc_status, fraction) = match abort.kind {
        AbortKind::Http(status) => (status, None, abort.fraction),
        AbortKind::Grpc(status) => (200, Some(status), abort.fraction),
        AbortKind::Header => {
            let fraction = share(abort.fraction, head, "x-envoy-fault-abort-request-percentage");
            let http =
                number(head, "x-envoy-fault-abort-request").filter(|status| (200..600).contains(status));
            match http {
                Some(status) => (status as u16, None, fraction),
                None => (200, Some(number(head, "x-envoy-fault-abort-grpc-request")? as u32), fraction),
            }
        }
    };
    fraction.hit(roll).then_some(Abort { status, grpc_status, body })
}

#[cfg(test)]
#[path = "filters_test.rs"]
mod filters_test;
