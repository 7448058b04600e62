//! CORS and fault policies.

use envoy_types::pb::envoy::config::route::v3 as route_proto;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::{cors::v3 as cors_proto, fault::v3 as fault_proto};

use super::judge::{Compiled, Listed, Refusal, judge};
use super::{route, value};
use crate::decide::matching::Fraction;
use crate::snapshot::{AbortKind, CorsPolicy, Fault, FaultAbort, FaultDelay, Name};

judge!(cors_policy, envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as "CorsPolicy",
    acts: [allow_origin_string_match, allow_methods, allow_headers, expose_headers, max_age, allow_credentials,
        filter_enabled, allow_private_network_access, forward_not_matching_preflights],
    listed: [shadow_enabled], refused: []);
judge!(http_fault, envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault as "HTTPFault",
    acts: [delay, abort, upstream_cluster, headers, downstream_nodes, max_active_faults],
    listed: [delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
        max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime,
        disable_downstream_cluster_stats, filter_metadata],
    refused: [response_rate_limit]);

pub(crate) fn cors(value: &cors_proto::CorsPolicy, seen: &mut Listed) -> Compiled<CorsPolicy> {
    cors_policy::judge(value, seen)?;
    let origins = value.allow_origin_string_match.iter().map(value::string_matcher).collect::<Compiled<_>>();
    let text = |given: &str, field: &str| -> Compiled<Box<str>> {
        value::header_value(given).map_err(|error| error.within(field))?;
        Ok(given.into())
    };
    Ok(CorsPolicy {
        origins: origins.map_err(|error| error.within("allow_origin_string_match"))?,
        allow_methods: text(&value.allow_methods, "allow_methods")?,
        allow_headers: text(&value.allow_headers, "allow_headers")?,
        expose_headers: text(&value.expose_headers, "expose_headers")?,
        max_age: text(&value.max_age, "max_age")?,
        allow_credentials: value.allow_credentials.as_ref().map(|v| v.value),
        allow_private_network: value.allow_private_network_access.as_ref().map(|v| v.value),
        forward_not_matching: value.forward_not_matching_preflights.as_ref().map(|v| v.value),
        enabled: value.filter_enabled.as_ref().map(value::runtime_fraction).transpose()?,
    })
}

pub(crate) fn fault(value: &fault_proto::HttpFault, seen: &mut Listed) -> Compiled<Fault> {
    http_fault::judge(value, seen)?;
    let delay = match &value.delay {
        None => None,
        Some(delay) => Some(FaultDelay {
            fixed: match delay.fault_delay_secifier.as_ref() {
                Some(FaultDelaySecifier::FixedDelay(fixed)) => {
                    Some(value::duration(fixed).map_err(|e| e.within("delay"))?)
                }
                Some(FaultDelaySecifier::HeaderDelay(_)) => None,
                None => return Err(Refusal::new("delay", "fixed_delay or header_delay is required")),
            },
            fraction: share(delay.percentage.as_ref())?,
        }),
    };
    Ok(Fault {
        delay,
        abort: value.abort.as_ref().map(abort).transpose().map_err(|error| error.within("abort"))?,
        upstream_cluster: (!value.upstream_cluster.is_empty()).then(|| Name::new(&value.upstream_cluster)),
        headers: headers(&value.headers)?,
        downstream_nodes: value.downstream_nodes.iter().map(|node| node.as_str().into()).collect(),
        max_active: value.max_active_faults.as_ref().map(|most| most.value),
    })
}

fn headers(list: &[route_proto::HeaderMatcher]) -> Compiled<Box<[crate::decide::matching::HeaderMatcher]>> {
    let all = list.iter().map(route::header_matcher).collect::<Compiled<_>>();
    all.map_err(|error| error.within("headers"))
}

fn share(value: Option<&envoy_types::pb::envoy::r#type::v3::FractionalPercent>) -> Compiled<Fraction> {
    value.map_or(Ok(Fraction(0)), value::fraction).map_err(|error| error.within("percentage"))
}

fn abort(value: &fault_proto::FaultAbort) -> Compiled<FaultAbort> {
    use fault_proto::fault_abort::ErrorType;
    let kind = match value.error_type.as_ref() {
        Some(ErrorType::HttpStatus(status)) => {
            let status = u16::try_from(*status).ok().filter(|status| (200..600).contains(status));
            AbortKind::Http(status.ok_or_else(|| Refusal::new("http_status", "is not 200 to 599"))?)
        }
        Some(ErrorType::GrpcStatus(status)) => AbortKind::Grpc(*status),
        Some(ErrorType::HeaderAbort(_)) => AbortKind::Header,
        None => return Err(Refusal::new("", "http_status, grpc_status or header_abort is required")),
    };
    Ok(FaultAbort {
        kind,
        fraction: share(value.percentage.as_ref())?,
        body: value.response_body.as_str().into(),
    })
}
