//! What routes do: forward, redirect, answer.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string;
use envoy_types::pb::envoy::config::route::v3 as proto;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightedHost;

use super::alike::Alike;
use super::judge::{Compiled, Listed, Refusal, judge};
use super::{http, route, value};
use crate::decide::format::Format;
use crate::snapshot::{
    ClusterChoice, DirectResponse, HostRewrite, IdleTimeout, MaxStream, Mirror, Name, PathRewrite,
    RateLimitedBackOff, Redirect, RedirectPath, RetryOn, RetryPolicy, RouteAction, Upgrade, Weighted,
    WeightedCluster, WeightedName,
};

judge!(forward, envoy_types::pb::envoy::config::route::v3::RouteAction as "RouteAction",
    acts: [cluster_not_found_response_code, prefix_rewrite, regex_rewrite, path_rewrite, append_x_forwarded_host, timeout,
        idle_timeout, retry_policy, request_mirror_policies, priority, max_grpc_timeout, grpc_timeout_offset,
        upgrade_configs, max_stream_duration, cluster_specifier, host_rewrite_specifier],
    listed: [flush_timeout, early_data_policy, include_vh_rate_limits, hash_policy, internal_redirect_action,
        max_internal_redirects, hedge_policy],
    refused: [metadata_match, path_rewrite_policy, retry_policy_typed_config, rate_limits, cors, internal_redirect_policy]);
judge!(weighted, envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight as "ClusterWeight",
    acts: [name, cluster_header, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
        response_headers_to_remove, typed_per_filter_config, host_rewrite_specifier],
    listed: [], refused: [metadata_match]);
judge!(mirror, envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy as "RequestMirrorPolicy",
    acts: [cluster, cluster_header, runtime_fraction, disable_shadow_host_suffix_append, host_rewrite_literal],
    listed: [trace_sampled], refused: [request_headers_mutations]);
judge!(retry, envoy_types::pb::envoy::config::route::v3::RetryPolicy as "RetryPolicy",
    acts: [retry_on, num_retries, per_try_timeout, per_try_idle_timeout, retry_host_predicate,
        host_selection_retry_max_attempts, retriable_status_codes, retry_back_off, rate_limited_retry_back_off,
        retriable_headers, retriable_request_headers],
    listed: [retry_priority, retry_options_predicates, refresh_cluster_on_retry], refused: []);
judge!(redirects, envoy_types::pb::envoy::config::route::v3::RedirectAction as "RedirectAction",
    acts: [host_redirect, port_redirect, response_code, strip_query, scheme_rewrite_specifier, path_rewrite_specifier],
    listed: [], refused: []);
judge!(direct, envoy_types::pb::envoy::config::route::v3::DirectResponseAction as "DirectResponseAction",
    acts: [status, body, body_format], listed: [], refused: []);

pub(super) fn route_action(
    value: &proto::RouteAction,
    alike: &mut Alike,
    seen: &mut Listed,
) -> Compiled<RouteAction> {
    forward::judge(value, seen)?;
    let idle = value::duration_of(value.idle_timeout.as_ref(), "idle_timeout")?;
    let retry = value.retry_policy.as_ref().map(|value| alike.retry(value)).transpose();
    Ok(RouteAction {
        cluster: cluster(value, seen)?,
        cluster_not_found: match value.cluster_not_found_response_code {
            1 => 404,
            2 => 500,
            _ => 503,
        },
        path: path_rewrite(value)?,
        host: host_rewrite(value)?,
        append_x_forwarded_host: value.append_x_forwarded_host,
        timeout: value::limit(value.timeout.as_ref(), "timeout", Some(Duration::from_secs(15)))?,
        idle_timeout: idle
            .map(|idle| if idle.is_zero() { IdleTimeout::Off } else { IdleTimeout::After(idle) }),
        max_stream: value.max_stream_duration.as_ref().map(max_stream).transpose()?.map(Box::new),
        grpc_timeout: match value::duration_of(value.max_grpc_timeout.as_ref(), "max_grpc_timeout")? {
            Some(max) => {
                Some((max, value::duration_of(value.grpc_timeout_offset.as_ref(), "grpc_timeout_offset")?))
            }
            None => None,
        },
        retry: retry.map_err(|error| error.within("retry_policy"))?,
        mirrors: mirrors(&value.request_mirror_policies)?,
        high_priority: value.priority == 1,
        upgrades: value
            .upgrade_configs
            .iter()
            .map(|config| Upgrade {
                kind: config.upgrade_type.to_ascii_lowercase().into(),
                enabled: value::flag(config.enabled.as_ref(), true),
                terminate_connect: config.connect_config.is_some(),
            })
            .collect(),
    })
}

fn max_stream(value: &proto::route_action::MaxStreamDuration) -> Compiled<MaxStream> {
    let time = |given, field: &str| value::duration_of(given, &format!("max_stream_duration.{field}"));
    Ok(MaxStream {
        max: time(value.max_stream_duration.as_ref(), "max_stream_duration")?,
        grpc_max: time(value.grpc_timeout_header_max.as_ref(), "grpc_timeout_header_max")?,
        grpc_offset: time(value.grpc_timeout_header_offset.as_ref(), "grpc_timeout_header_offset")?,
    })
}

fn cluster(value: &proto::RouteAction, seen: &mut Listed) -> Compiled<ClusterChoice> {
    match value.cluster_specifier.as_ref() {
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::One(Name::new(name))),
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            Ok(ClusterChoice::Header(value::header_name(name).map_err(|e| e.within("cluster_header"))?))
        }
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            let weighted =
                weighted_clusters(list, seen).map_err(|error| error.within("weighted_clusters"))?;
            Ok(ClusterChoice::Weighted(weighted))
        }
        Some(_) => Err(Refusal::new("cluster_specifier_plugin", "is not built")),
        None => Err(Refusal::new("cluster_specifier", "is required")),
    }
}

fn weighted_clusters(value: &proto::WeightedCluster, seen: &mut Listed) -> Compiled<Weighted> {
    let header = match value.random_value_specifier.as_ref() {
        None => None,
        Some(RandomValueSpecifier::HeaderName(name)) => Some(value::header_name(name)?),
        Some(RandomValueSpecifier::UseHashPolicy(on)) if !on.value => None,
        Some(RandomValueSpecifier::UseHashPolicy(_)) => {
            return Err(Refusal::new("use_hash_policy", "is not built"));
        }
    };
    let mut clusters = Vec::with_capacity(value.clusters.len());
    for (index, given) in value.clusters.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("clusters[{index}]"));
        clusters.push(weighted_cluster(given, seen).map_err(place)?);
    }
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 {
        return Err(Refusal::new("clusters", "the weights sum up to 0; at least one has to be positive"));
    }
    if total > u64::from(u32::MAX) {
        return Err(Refusal::new(
            "clusters",
            format!("the weights sum up to {total}, at most {} is allowed", u32::MAX),
        ));
    }
    Ok(Weighted { clusters: clusters.into(), total, header })
}

fn weighted_cluster(
    value: &proto::weighted_cluster::ClusterWeight,
    seen: &mut Listed,
) -> Compiled<WeightedCluster> {
    weighted::judge(value, seen)?;
    let host = value.host_rewrite_specifier.as_ref().map(|WeightedHost::HostRewriteLiteral(host)| host);
    if let Some(host) = host {
        value::header_value(host).map_err(|error| error.within("host_rewrite_literal"))?;
    }
    Ok(WeightedCluster {
        cluster: named(&value.name, &value.cluster_header)?,
        weight: value.weight.as_ref().map_or(0, |weight| weight.value),
        edits: route::edits(
            (&value.request_headers_to_add, &value.request_headers_to_remove),
            (&value.response_headers_to_add, &value.response_headers_to_remove),
        )?,
        host: host.filter(|host| !host.is_empty()).map(|host| host.as_str().into()),
        filters: http::overrides(&value.typed_per_filter_config, seen)?,
    })
}

fn named(name: &str, header: &str) -> Compiled<WeightedName> {
    match (name, header) {
        ("", "") => Err(Refusal::new("name", "name or cluster_header is required")),
        (name, "") => Ok(WeightedName::Name(Name::new(name))),
        ("", header) => {
            Ok(WeightedName::Header(value::header_name(header).map_err(|e| e.within("cluster_header"))?))
        }
        _ => Err(Refusal::new("cluster_header", "excludes a name")),
    }
}

pub(crate) fn mirrors(list: &[RequestMirrorPolicy]) -> Compiled<Box<[Mirror]>> {
    let one = |(index, given): (usize, &RequestMirrorPolicy)| {
        let place = |error: Refusal| error.within(format!("request_mirror_policies[{index}]"));
        mirror::judge(given, &mut Listed::new()).map_err(place)?;
        value::header_value(&given.host_rewrite_literal).map_err(place)?;
        let fraction = given.runtime_fraction.as_ref().map(value::runtime_fraction).transpose();
        Ok(Mirror {
            cluster: named(&given.cluster, &given.cluster_header).map_err(place)?,
            fraction: fraction.map_err(place)?,
            shadow_suffix: !given.disable_shadow_host_suffix_append,
            host: (!given.host_rewrite_literal.is_empty())
                .then(|| given.host_rewrite_literal.as_str().into()),
        })
    };
    list.iter().enumerate().map(one).collect()
}

fn formatted(text: &str, field: &str) -> Compiled<Format> {
    value::header_value(text).map_err(|error| error.within(field))?;
    Format::parse(text).map_err(|reason| Refusal::new(field, reason))
}

fn path_rewrite(value: &proto::RouteAction) -> Compiled<PathRewrite> {
    let regex = value.regex_rewrite.as_ref();
    match (value.prefix_rewrite.as_str(), regex, value.path_rewrite.as_str()) {
        ("", None, "") => Ok(PathRewrite::Keep),
        (prefix, None, "") => {
            value::header_value(prefix).map_err(|error| error.within("prefix_rewrite"))?;
            Ok(PathRewrite::Prefix(prefix.into()))
        }
        ("", Some(regex), "") => {
            let rewrite = value::regex_rewrite(regex).map_err(|error| error.within("regex_rewrite"))?;
            Ok(PathRewrite::Regex(Box::new(rewrite)))
        }
        ("", None, format) => Ok(PathRewrite::Format(formatted(format, "path_rewrite")?)),
        _ => Err(Refusal::new(
            "prefix_rewrite",
            "prefix_rewrite, regex_rewrite and path_rewrite exclude each other",
        )),
    }
}

fn host_rewrite(value: &proto::RouteAction) -> Compiled<HostRewrite> {
    match value.host_rewrite_specifier.as_ref() {
        None => Ok(HostRewrite::Keep),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            value::header_value(host).map_err(|error| error.within("host_rewrite_literal"))?;
            Ok(if host.is_empty() { HostRewrite::Keep } else { HostRewrite::Literal(host.as_str().into()) })
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) => {
            Ok(if on.value { HostRewrite::Auto } else { HostRewrite::Keep })
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            Ok(HostRewrite::Header(value::header_name(name).map_err(|e| e.within("host_rewrite_header"))?))
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
            let rewrite =
                value::regex_rewrite(regex).map_err(|error| error.within("host_rewrite_path_regex"))?;
            Ok(HostRewrite::PathRegex(Box::new(rewrite)))
        }
        Some(HostRewriteSpecifier::HostRewrite(format)) => {
            Ok(HostRewrite::Format(formatted(format, "host_rewrite")?))
        }
    }
}

pub(super) fn retry_policy(value: &proto::RetryPolicy) -> Compiled<RetryPolicy> {
    retry::judge(value, &mut Listed::new())?;
    let back_off = value.retry_back_off.as_ref();
    let base =
        value::duration_of(back_off.and_then(|b| b.base_interval.as_ref()), "retry_back_off.base_interval")?;
    let base = base.unwrap_or(Duration::from_millis(25)).max(Duration::from_millis(1));
    let max =
        value::duration_of(back_off.and_then(|b| b.max_interval.as_ref()), "retry_back_off.max_interval")?;
    let max = max.unwrap_or(base.saturating_mul(10));
    if max < base {
        return Err(Refusal::new("retry_back_off.max_interval", "is less than base_interval"));
    }
    let matchers = |list: &[proto::HeaderMatcher], field: &str| {
        list.iter().map(route::header_matcher).collect::<Compiled<_>>().map_err(|error| error.within(field))
    };
    let predicates = value.retry_host_predicate.iter();
    Ok(RetryPolicy {
        on: RetryOn::parse(&value.retry_on),
        num_retries: value.num_retries.as_ref().map_or(1, |count| count.value),
        per_try_timeout: value::limit(value.per_try_timeout.as_ref(), "per_try_timeout", None)?,
        per_try_idle_timeout: value::limit(
            value.per_try_idle_timeout.as_ref(),
            "per_try_idle_timeout",
            None,
        )?,
        status_codes: value
            .retriable_status_codes
            .iter()
            .map(|code| {
                u16::try_from(*code).map_err(|_| Refusal::new("retriable_status_codes", format!("{code}")))
            })
            .collect::<Compiled<_>>()?,
        headers: matchers(&value.retriable_headers, "retriable_headers")?,
        request_headers: matchers(&value.retriable_request_headers, "retriable_request_headers")?,
        base_interval: base,
        max_interval: max,
        avoid_previous_hosts: predicates.clone().any(|predicate| predicate.name.ends_with("previous_hosts")),
        host_attempts: u32::try_from(value.host_selection_retry_max_attempts.max(1)).unwrap_or(u32::MAX),
        rate_limited: value.rate_limited_retry_back_off.as_ref().map(rate_limited).transpose()?,
    })
}

fn rate_limited(value: &proto::retry_policy::RateLimitedRetryBackOff) -> Compiled<RateLimitedBackOff> {
    let headers =
        value.reset_headers.iter().map(|header| Ok((value::header_name(&header.name)?, header.format == 1)));
    let max = value::duration_of(value.max_interval.as_ref(), "rate_limited_retry_back_off.max_interval")?;
    Ok(RateLimitedBackOff {
        reset_headers: headers.collect::<Compiled<_>>()?,
        max_interval: max.unwrap_or(Duration::from_secs(300)),
    })
}

pub(crate) fn redirect(value: &proto::RedirectAction) -> Compiled<Redirect> {
    redirects::judge(value, &mut Listed::new())?;
    let text = |given: &str, field: &str| -> Compiled<Box<str>> {
        value::header_value(given).map_err(|error| error.within(field))?;
        Ok(given.into())
    };
    let scheme = match value.scheme_rewrite_specifier.as_ref() {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => {
            Some(text(scheme, "scheme_redirect")?)
        }
        _ => None,
    };
    let path = match value.path_rewrite_specifier.as_ref() {
        None => RedirectPath::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => RedirectPath::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Path(text(path, "path_redirect")?),
        Some(PathRewriteSpecifier::PrefixRewrite(path)) if path.is_empty() => RedirectPath::Keep,
        Some(PathRewriteSpecifier::PrefixRewrite(path)) => {
            RedirectPath::Prefix(text(path, "prefix_rewrite")?)
        }
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
            RedirectPath::Regex(value::regex_rewrite(regex).map_err(|error| error.within("regex_rewrite"))?)
        }
        Some(PathRewriteSpecifier::PathRewrite(format)) => {
            RedirectPath::Format(formatted(format, "path_rewrite")?)
        }
    };
    Ok(Redirect {
        scheme,
        host: (!value.host_redirect.is_empty())
            .then(|| text(&value.host_redirect, "host_redirect"))
            .transpose()?,
        port: match value.port_redirect {
            0 => None,
            port => Some(value::port(port, "port_redirect")?),
        },
        path,
        status: match value.response_code {
            0 => 301,
            1 => 302,
            2 => 303,
            3 => 307,
            4 => 308,
            other => return Err(Refusal::new("response_code", format!("{other} is none"))),
        },
        strip_query: value.strip_query,
    })
}

pub(crate) fn direct_response(
    value: &proto::DirectResponseAction,
    body_limit: u32,
) -> Compiled<DirectResponse> {
    direct::judge(value, &mut Listed::new())?;
    let status = u16::try_from(value.status).ok().filter(|status| (200..600).contains(status));
    let status =
        status.ok_or_else(|| Refusal::new("status", format!("{} is not 200 to 599", value.status)))?;
    let body: Box<[u8]> = match value.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => Box::default(),
        Some(Specifier::InlineString(text)) => text.as_bytes().into(),
        Some(Specifier::InlineBytes(bytes)) => bytes.as_slice().into(),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) => {
            return Err(Refusal::new("body", "only inline bodies are built"));
        }
    };
    if body.len() > body_limit as usize {
        let reason =
            format!("{} bytes, at most {body_limit} (max_direct_response_body_size_bytes)", body.len());
        return Err(Refusal::new("body", reason));
    }
    let mut out = DirectResponse { status, body, format: None, content_type: None };
    if let Some(given) = &value.body_format {
        let Some(substitution_format_string::Format::TextFormat(text)) = &given.format else {
            return Err(Refusal::new("body_format", "only text_format is built"));
        };
        let text = text.replace("%LOCAL_REPLY_BODY%", &String::from_utf8_lossy(&out.body).replace('%', "%%"));
        out.format = Some(Format::parse(&text).map_err(|reason| Refusal::new("body_format", reason))?);
        value::header_value(&given.content_type).map_err(|error| error.within("body_format.content_type"))?;
        out.content_type = (!given.content_type.is_empty()).then(|| given.content_type.as_str().into());
    }
    Ok(out)
}
