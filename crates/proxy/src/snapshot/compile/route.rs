//! `RouteConfiguration` to [`RouteConfig`].

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3 as proto;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use prost::Message;
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::alike::Alike;
use super::apart::{apart, decoded};
use super::judge::{Compiled, Listed, Refusal, judge};
use super::{action, http, value};
use crate::decide::domains::Domains;
use crate::decide::format::Format;
use crate::decide::index::RouteIndex;
use crate::decide::matching::{Case, HeaderKind, HeaderMatcher, PathMatcher, QueryMatcher, StringMatcher};
use crate::snapshot::{
    Action, AppendAction, Edits, HeaderAdd, HeaderEdits, Name, RequireTls, Route, RouteConfig, RouteMatch,
    VirtualHost,
};

judge!(config, envoy_types::pb::envoy::config::route::v3::RouteConfiguration as "RouteConfiguration",
    acts: [name, virtual_hosts, vhds, response_headers_to_add, response_headers_to_remove, request_headers_to_add,
        request_headers_to_remove, most_specific_header_mutations_wins, max_direct_response_body_size_bytes,
        request_mirror_policies, ignore_port_in_host_matching, vhost_header, ignore_path_parameters_in_path_matching,
        typed_per_filter_config],
    listed: [validate_clusters, metadata], refused: [internal_only_headers, cluster_specifier_plugins, route_specifiers]);
judge!(virtual_host, envoy_types::pb::envoy::config::route::v3::VirtualHost as "VirtualHost",
    acts: [name, domains, routes, require_tls, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
        response_headers_to_remove, typed_per_filter_config, include_request_attempt_count,
        include_attempt_count_in_response, retry_policy, per_request_buffer_limit_bytes, request_body_buffer_limit,
        request_mirror_policies, metadata],
    listed: [virtual_clusters, hedge_policy, include_is_timeout_retry_header],
    refused: [matcher, rate_limits, cors, retry_policy_typed_config, route_specifiers]);
judge!(route, envoy_types::pb::envoy::config::route::v3::Route as "Route",
    acts: [name, r#match, metadata, typed_per_filter_config, request_headers_to_add, request_headers_to_remove,
        response_headers_to_add, response_headers_to_remove, per_request_buffer_limit_bytes, request_body_buffer_limit,
        action],
    listed: [decorator, tracing, stat_prefix], refused: [route_specifiers]);
judge!(route_match, envoy_types::pb::envoy::config::route::v3::RouteMatch as "RouteMatch",
    acts: [case_sensitive, runtime_fraction, headers, query_parameters, grpc, path_specifier],
    listed: [], refused: [cookies, tls_context, dynamic_metadata, filter_state]);

/// Numbers of `RouteConfiguration.virtual_hosts` and `VirtualHost.routes`.
const VIRTUAL_HOSTS: u32 = 2;
const ROUTES: u32 = 3;

/// A route configuration from its bytes. Virtual hosts whose bytes did not change are taken over from `previous`. Routes are
/// decoded one after another: their messages take ten times what they are compiled to.
pub(crate) fn compile_bytes(
    body: &Bytes,
    previous: Option<&RouteConfig>,
    seen: &mut Listed,
) -> Compiled<RouteConfig> {
    let (raw, value) = apart::<proto::RouteConfiguration>(body, VIRTUAL_HOSTS)?;
    let known: FxHashMap<u128, &Arc<VirtualHost>> = previous
        .map(|previous| previous.virtual_hosts.iter().map(|vh| (vh.content, vh)).collect())
        .unwrap_or_default();
    let limit = value.max_direct_response_body_size_bytes.as_ref().map(|limit| limit.value);
    let (mut virtual_hosts, mut alike) = (Vec::with_capacity(raw.len()), Alike::default());
    for (index, bytes) in raw.iter().enumerate() {
        let content = xxh3_128_with_seed(bytes, limit.unwrap_or_default().into());
        virtual_hosts.push(match known.get(&content) {
            Some(kept) => Arc::clone(kept),
            None => {
                let place = format!("virtual_hosts[{index}]");
                let (routes, given) =
                    apart::<proto::VirtualHost>(bytes, ROUTES).map_err(|error| error.within(&place))?;
                let so_far = (&mut alike, &mut *seen);
                let made = virtual_host_of(&given, &routes, limit.unwrap_or(4096), content, so_far);
                Arc::new(made.map_err(|error| error.within(format!("{place} {:?}", given.name)))?)
            }
        });
    }
    compile(&value, virtual_hosts, seen)
}

/// A route configuration that stands in a listener.
pub(crate) fn compile_inline(value: &proto::RouteConfiguration, seen: &mut Listed) -> Compiled<RouteConfig> {
    compile_bytes(&value.encode_to_vec().into(), None, seen)
}

/// The whole of a configuration from what it says apart from its virtual hosts, and those.
fn compile(
    value: &proto::RouteConfiguration,
    virtual_hosts: Vec<Arc<VirtualHost>>,
    seen: &mut Listed,
) -> Compiled<RouteConfig> {
    config::judge(value, seen)?;
    let domains = Domains::build(virtual_hosts.iter().map(|vh| &*vh.domains));
    let vhost_header = (!value.vhost_header.is_empty()).then(|| value::header_name(&value.vhost_header));
    Ok(RouteConfig {
        name: Name::new(&value.name),
        domains: domains.map_err(|reason| Refusal::new("virtual_hosts", reason))?,
        virtual_hosts: virtual_hosts.into(),
        edits: edits(
            (&value.request_headers_to_add, &value.request_headers_to_remove),
            (&value.response_headers_to_add, &value.response_headers_to_remove),
        )?,
        most_specific_wins: value.most_specific_header_mutations_wins,
        mirrors: action::mirrors(&value.request_mirror_policies)?,
        ignore_port: value.ignore_port_in_host_matching,
        vhost_header: vhost_header.transpose()?,
        ignore_path_parameters: value.ignore_path_parameters_in_path_matching,
        filters: http::overrides(&value.typed_per_filter_config, seen)?,
        vhds: value.vhds.is_some(),
    })
}

/// What was met before, and fields without effect.
type SoFar<'s> = (&'s mut Alike, &'s mut Listed);

fn virtual_host_of(
    value: &proto::VirtualHost,
    given: &[Bytes],
    body_limit: u32,
    content: u128,
    (alike, seen): SoFar<'_>,
) -> Compiled<VirtualHost> {
    virtual_host::judge(value, seen)?;
    let mut domains: Vec<Box<str>> = Vec::with_capacity(value.domains.len());
    for domain in &value.domains {
        let stars = domain.matches('*').count();
        if domain.is_empty()
            || stars > 1
            || (stars == 1 && !domain.starts_with('*') && !domain.ends_with('*'))
        {
            return Err(Refusal::new(
                "domains",
                format!("{domain:?} is neither a host nor one with * at an end"),
            ));
        }
        domains.push(domain.to_ascii_lowercase().into());
    }
    let mut routes = Vec::with_capacity(given.len());
    for (index, bytes) in given.iter().enumerate() {
        let route = decoded(bytes).and_then(|given| route_of(&given, body_limit, (&mut *alike, &mut *seen)));
        routes.push(route.map_err(|error| error.within(format!("routes[{index}]")))?);
    }
    let retry = value.retry_policy.as_ref().map(|value| alike.retry(value)).transpose();
    Ok(VirtualHost {
        name: Name::new(&value.name),
        domains: domains.into(),
        index: RouteIndex::build(routes.iter().map(|route| &route.matches)),
        routes: routes.into(),
        require_tls: match value.require_tls {
            1 => RequireTls::ExternalOnly,
            2 => RequireTls::All,
            _ => RequireTls::None,
        },
        edits: edits(
            (&value.request_headers_to_add, &value.request_headers_to_remove),
            (&value.response_headers_to_add, &value.response_headers_to_remove),
        )?,
        retry: retry.map_err(|error| error.within("retry_policy"))?,
        mirrors: action::mirrors(&value.request_mirror_policies)?,
        attempt_count: value.include_request_attempt_count,
        attempt_count_in_response: value.include_attempt_count_in_response,
        buffer_limit: buffer_limit(
            value.request_body_buffer_limit.as_ref(),
            value.per_request_buffer_limit_bytes.as_ref(),
        ),
        filters: http::overrides(&value.typed_per_filter_config, seen)?,
        content,
        provenance: value::provenance(value.metadata.as_ref()),
    })
}

fn buffer_limit(
    wide: Option<&envoy_types::pb::google::protobuf::UInt64Value>,
    narrow: Option<&envoy_types::pb::google::protobuf::UInt32Value>,
) -> Option<u64> {
    wide.map(|limit| limit.value).or_else(|| narrow.map(|limit| u64::from(limit.value)))
}

fn route_of(value: &proto::Route, body_limit: u32, (alike, seen): SoFar<'_>) -> Compiled<Route> {
    route::judge(value, seen)?;
    let matches = value.r#match.as_ref().ok_or_else(|| Refusal::new("match", "is required"))?;
    use proto::route::Action as Given;
    let action = match value.action.as_ref() {
        Some(Given::Route(action)) => {
            let action = alike.action(action, seen);
            Action::Forward(action.map_err(|error| error.within("route"))?)
        }
        Some(Given::Redirect(redirect)) => {
            let redirect = action::redirect(redirect).map_err(|error| error.within("redirect"))?;
            Action::Redirect(Box::new(redirect))
        }
        Some(Given::DirectResponse(direct)) => {
            let direct = action::direct_response(direct, body_limit);
            Action::Direct(Box::new(direct.map_err(|error| error.within("direct_response"))?))
        }
        Some(Given::NonForwardingAction(_)) => Action::NonForwarding,
        Some(Given::FilterAction(_)) => return Err(Refusal::new("filter_action", "is not built")),
        None => return Err(Refusal::new("action", "is required")),
    };
    let edits = edits(
        (&value.request_headers_to_add, &value.request_headers_to_remove),
        (&value.response_headers_to_add, &value.response_headers_to_remove),
    )?;
    Ok(Route {
        name: value.name.as_str().into(),
        matches: route_match_of(matches, seen).map_err(|error| error.within("match"))?,
        action,
        edits: if edits.is_empty() { None } else { Some(Box::new(edits)) },
        filters: http::overrides(&value.typed_per_filter_config, seen)?,
        buffer_limit: buffer_limit(
            value.request_body_buffer_limit.as_ref(),
            value.per_request_buffer_limit_bytes.as_ref(),
        ),
        provenance: value::provenance(value.metadata.as_ref()).map(|made| alike.provenance(made)),
    })
}

fn route_match_of(value: &proto::RouteMatch, seen: &mut Listed) -> Compiled<RouteMatch> {
    route_match::judge(value, seen)?;
    let case =
        if value::flag(value.case_sensitive.as_ref(), true) { Case::Sensitive } else { Case::Insensitive };
    let bytes = |text: &str| text.as_bytes().into();
    let path = match value.path_specifier.as_ref() {
        Some(PathSpecifier::Prefix(prefix)) => PathMatcher::Prefix(bytes(prefix), case),
        Some(PathSpecifier::Path(path)) => PathMatcher::Exact(bytes(path), case),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                let reason = format!("{prefix:?} does not start with / or ends with it or has a query");
                return Err(Refusal::new("path_separated_prefix", reason));
            }
            PathMatcher::Separated(bytes(prefix), case)
        }
        Some(PathSpecifier::SafeRegex(regex)) => {
            PathMatcher::Regex(Box::new(value::pattern(regex).map_err(|error| error.within("safe_regex"))?))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatcher::Connect,
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return Err(Refusal::new("path_match_policy", "is not built"));
        }
        None => return Err(Refusal::new("path_specifier", "is required")),
    };
    let headers = value.headers.iter().map(header_matcher).collect::<Compiled<_>>();
    let query = value.query_parameters.iter().map(query_matcher).collect::<Compiled<_>>();
    Ok(RouteMatch {
        path,
        headers: headers.map_err(|error| error.within("headers"))?,
        query: query.map_err(|error| error.within("query_parameters"))?,
        grpc: value.grpc.is_some(),
        fraction: value.runtime_fraction.as_ref().map(value::runtime_fraction).transpose()?,
    })
}

/// `HeaderMatcher`, deprecated forms included.
pub(crate) fn header_matcher(value: &proto::HeaderMatcher) -> Compiled<HeaderMatcher> {
    let place = |error: Refusal| error.within(&value.name);
    let kind = match value.header_match_specifier.as_ref() {
        None => HeaderKind::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => HeaderKind::Present(*wanted),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => HeaderKind::Range(range.start, range.end),
        Some(HeaderMatchSpecifier::StringMatch(text)) => {
            HeaderKind::Text(value::string_matcher(text).map_err(place)?)
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => HeaderKind::Text(StringMatcher::exact(text, false)),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => HeaderKind::Text(StringMatcher::prefix(text, false)),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => HeaderKind::Text(StringMatcher::suffix(text, false)),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
            HeaderKind::Text(StringMatcher::contains(text, false))
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            HeaderKind::Text(StringMatcher::regex(value::pattern(regex).map_err(place)?))
        }
    };
    Ok(HeaderMatcher {
        name: value::header_name(&value.name)?,
        value: kind,
        invert: value.invert_match,
        missing_as_empty: value.treat_missing_header_as_empty,
    })
}

fn query_matcher(value: &proto::QueryParameterMatcher) -> Compiled<QueryMatcher> {
    let place = |error: Refusal| error.within(&value.name);
    let text = match value.query_parameter_match_specifier.as_ref() {
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            Some(value::string_matcher(text).map_err(place)?)
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(true)) | None => None,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return Err(place(Refusal::new("present_match", "false has no defined meaning")));
        }
    };
    Ok(QueryMatcher { name: value.name.as_str().into(), value: text })
}

/// Additions and removals of one direction.
type Given<'g> = (&'g [core::HeaderValueOption], &'g [String]);

/// Header changes of one level.
pub(crate) fn edits(request: Given<'_>, response: Given<'_>) -> Compiled<HeaderEdits> {
    Ok(HeaderEdits { request: edits_of("request", request)?, response: edits_of("response", response)? })
}

fn edits_of(side: &str, (add, remove): Given<'_>) -> Compiled<Edits> {
    let mut additions = Vec::with_capacity(add.len());
    for (index, option) in add.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("{side}_headers_to_add[{index}]"));
        additions.push(header_add(option).map_err(place)?);
    }
    let removals = remove.iter().map(|name| {
        let name = value::header_name(name)?;
        if name.starts_with(':') || &*name == "host" {
            return Err(Refusal::new("", format!("{name} may not be removed")));
        }
        Ok(name)
    });
    let removals = removals.collect::<Compiled<_>>();
    let remove = removals.map_err(|error| error.within(format!("{side}_headers_to_remove")))?;
    Ok(Edits { remove, add: additions.into() })
}

fn header_add(option: &core::HeaderValueOption) -> Compiled<HeaderAdd> {
    let header = option.header.as_ref().ok_or_else(|| Refusal::new("header", "is required"))?;
    let name = value::header_name(&header.key).map_err(|error| error.within("header.key"))?;
    if name.starts_with(':') || &*name == "host" {
        return Err(Refusal::new("header.key", format!("{name} may not be changed this way")));
    }
    if !header.raw_value.is_empty() {
        return Err(Refusal::new("header.raw_value", "is not built"));
    }
    value::header_value(&header.value).map_err(|error| error.within("header.value"))?;
    let value = Format::parse(&header.value).map_err(|reason| Refusal::new("header.value", reason))?;
    let action = match (option.append.as_ref(), HeaderAppendAction::try_from(option.append_action)) {
        (Some(append), _) if append.value => AppendAction::AppendOrAdd,
        (Some(_), _) => AppendAction::OverwriteOrAdd,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => AppendAction::AppendOrAdd,
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => AppendAction::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => AppendAction::OverwriteOrAdd,
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => AppendAction::OverwriteIfExists,
        (None, Err(_)) => {
            return Err(Refusal::new("append_action", format!("{} is none", option.append_action)));
        }
    };
    Ok(HeaderAdd { name, value, action, keep_empty: option.keep_empty_value })
}
