//! Route configurations (`config.route.v3`), compiled for matching.

use std::sync::Arc;
use std::time::Duration;

use super::{FilterOverrides, Name, Provenance, RetryPolicy};
use crate::decide::domains::Domains;
use crate::decide::format::Format;
use crate::decide::index::RouteIndex;
use crate::decide::matching::{Fraction, HeaderMatcher, PathMatcher, QueryMatcher, RegexRewrite};

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteConfig {
    /// Name; empty for inline ones.
    pub name: Name,
    /// Virtual hosts in order.
    pub virtual_hosts: Box<[Arc<VirtualHost>]>,
    /// Which virtual host a host belongs to.
    pub domains: Domains,
    /// Header changes for every request of this configuration.
    pub edits: HeaderEdits,
    /// `most_specific_header_mutations_wins`: apply configuration first and route last.
    pub most_specific_wins: bool,
    /// `request_mirror_policies`.
    pub mirrors: Box<[Mirror]>,
    /// `ignore_port_in_host_matching`.
    pub ignore_port: bool,
    /// `vhost_header`: this request header stands in for the host when a virtual host is chosen.
    pub vhost_header: Option<Box<str>>,
    /// `ignore_path_parameters_in_path_matching`.
    pub ignore_path_parameters: bool,
    /// Filter settings.
    pub filters: FilterOverrides,
    /// Virtual hosts come on demand (`vhds`).
    pub vhds: bool,
}

/// A compiled virtual host.
#[derive(Debug)]
pub struct VirtualHost {
    /// Name.
    pub name: Name,
    /// Domains, lowercased.
    pub domains: Box<[Box<str>]>,
    /// Routes in order.
    pub routes: Box<[Route]>,
    /// Finds the first routes whose path can match.
    pub index: RouteIndex,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// Header changes.
    pub edits: HeaderEdits,
    /// Retry policy of routes without their own.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Mirrors of routes without their own.
    pub mirrors: Box<[Mirror]>,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` upstream.
    pub attempt_count: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_in_response: bool,
    /// `per_request_buffer_limit_bytes`.
    pub buffer_limit: Option<u64>,
    /// Filter settings.
    pub filters: FilterOverrides,
    /// Hash of the resource this was compiled from: an unchanged one is shared with the next generation.
    pub content: u128,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

/// `require_tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireTls {
    /// NONE.
    #[default]
    None,
    /// EXTERNAL_ONLY.
    ExternalOnly,
    /// ALL.
    All,
}

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Name, possibly empty.
    pub name: Box<str>,
    /// When it applies.
    pub matches: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Header changes, if there are any.
    pub edits: Option<Box<HeaderEdits>>,
    /// Filter settings.
    pub filters: FilterOverrides,
    /// `per_request_buffer_limit_bytes`.
    pub buffer_limit: Option<u64>,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

/// `RouteMatch`.
#[derive(Debug)]
pub struct RouteMatch {
    /// Path.
    pub path: PathMatcher,
    /// All of these headers.
    pub headers: Box<[HeaderMatcher]>,
    /// All of these query parameters.
    pub query: Box<[QueryMatcher]>,
    /// Only gRPC requests.
    pub grpc: bool,
    /// Only this share of the requests.
    pub fraction: Option<Fraction>,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Forward. Routes that say the same share it.
    Forward(Arc<RouteAction>),
    /// Redirect.
    Redirect(Box<Redirect>),
    /// Answer here.
    Direct(Box<DirectResponse>),
    /// `non_forwarding_action`: for gRPC servers; answered 404 by a proxy.
    NonForwarding,
}

/// `RouteAction`.
#[derive(Debug)]
pub struct RouteAction {
    /// Which cluster.
    pub cluster: ClusterChoice,
    /// Status when the cluster is unknown, default 503.
    pub cluster_not_found: u16,
    /// Path change.
    pub path: PathRewrite,
    /// Host change.
    pub host: HostRewrite,
    /// `append_x_forwarded_host`.
    pub append_x_forwarded_host: bool,
    /// `timeout`, Envoy's default 15 s; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// `idle_timeout`; `None` leaves the connection manager's.
    pub idle_timeout: Option<IdleTimeout>,
    /// `max_stream_duration`; when present, `timeout` does not count (as in Envoy).
    pub max_stream: Option<Box<MaxStream>>,
    /// `max_grpc_timeout` (zero: no cap) and `grpc_timeout_offset`, for gRPC requests instead of `timeout`.
    pub grpc_timeout: Option<(Duration, Option<Duration>)>,
    /// Retry policy.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Mirrors.
    pub mirrors: Box<[Mirror]>,
    /// `priority` HIGH.
    pub high_priority: bool,
    /// `upgrade_configs` that differ from the connection manager's: lowercased type, enabled, CONNECT terminates here.
    pub upgrades: Box<[Upgrade]>,
}

/// A per-route idle timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleTimeout {
    /// Zero: unlimited.
    Off,
    /// This long.
    After(Duration),
}

/// `RouteAction.UpgradeConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Lowercased.
    pub kind: Box<str>,
    /// Allowed here.
    pub enabled: bool,
    /// `connect_config`: end the CONNECT here and pass raw bytes on.
    pub terminate_connect: bool,
}

/// Which cluster a request goes to.
#[derive(Debug)]
pub enum ClusterChoice {
    /// One.
    One(Name),
    /// The one named by this header (lowercased).
    Header(Box<str>),
    /// By weight.
    Weighted(Weighted),
}

/// `weighted_clusters`.
#[derive(Debug)]
pub struct Weighted {
    /// The clusters.
    pub clusters: Box<[WeightedCluster]>,
    /// Sum of the weights, at least 1.
    pub total: u64,
    /// `header_name`: this header's number is the random value.
    pub header: Option<Box<str>>,
}

/// One cluster of a weighted choice.
#[derive(Debug)]
pub struct WeightedCluster {
    /// Name, or the header that names it.
    pub cluster: WeightedName,
    /// Weight.
    pub weight: u32,
    /// Header changes.
    pub edits: HeaderEdits,
    /// `host_rewrite_literal`.
    pub host: Option<Box<str>>,
    /// Filter settings.
    pub filters: FilterOverrides,
}

/// How a weighted cluster is named.
#[derive(Debug)]
pub enum WeightedName {
    /// By name.
    Name(Name),
    /// By a request header.
    Header(Box<str>),
}

impl std::fmt::Display for WeightedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WeightedName::Name(name) => name.fmt(f),
            WeightedName::Header(header) => write!(f, "as header {header} says"),
        }
    }
}

/// Path change of a forwarding route.
#[derive(Debug, Default)]
pub enum PathRewrite {
    /// None.
    #[default]
    Keep,
    /// `prefix_rewrite`: what matched is replaced.
    Prefix(Box<str>),
    /// `regex_rewrite`.
    Regex(Box<RegexRewrite>),
    /// `path_rewrite`: the whole path, formatted; the query stays.
    Format(Format),
}

/// Host change of a forwarding route.
#[derive(Debug, Default)]
pub enum HostRewrite {
    /// None.
    #[default]
    Keep,
    /// `host_rewrite_literal`.
    Literal(Box<str>),
    /// `auto_host_rewrite`: the endpoint's hostname.
    Auto,
    /// `host_rewrite_header`.
    Header(Box<str>),
    /// `host_rewrite_path_regex`.
    PathRegex(Box<RegexRewrite>),
    /// `host_rewrite`: formatted.
    Format(Format),
}

/// `max_stream_duration`; zero means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStream {
    /// `max_stream_duration`.
    pub max: Option<Duration>,
    /// `grpc_timeout_header_max`: `grpc-timeout` counts, at most this much.
    pub grpc_max: Option<Duration>,
    /// `grpc_timeout_header_offset`: taken off `grpc-timeout`.
    pub grpc_offset: Option<Duration>,
}

/// A request mirror.
#[derive(Debug)]
pub struct Mirror {
    /// Cluster, or the header that names it.
    pub cluster: WeightedName,
    /// Share of the requests; all when absent.
    pub fraction: Option<Fraction>,
    /// The mirror's host gets the suffix `-shadow`.
    pub shadow_suffix: bool,
    /// `host_rewrite_literal`.
    pub host: Option<Box<str>>,
}

/// `RedirectAction`.
#[derive(Debug, Default)]
pub struct Redirect {
    /// `scheme_redirect` or `https_redirect`.
    pub scheme: Option<Box<str>>,
    /// `host_redirect`.
    pub host: Option<Box<str>>,
    /// `port_redirect`.
    pub port: Option<u16>,
    /// Path change.
    pub path: RedirectPath,
    /// Status, default 301.
    pub status: u16,
    /// `strip_query`.
    pub strip_query: bool,
}

/// Path change of a redirect.
#[derive(Debug, Default)]
pub enum RedirectPath {
    /// None.
    #[default]
    Keep,
    /// `path_redirect`; may carry its own query.
    Path(Box<str>),
    /// `prefix_rewrite`.
    Prefix(Box<str>),
    /// `regex_rewrite`.
    Regex(RegexRewrite),
    /// `path_rewrite`.
    Format(Format),
}

/// `DirectResponseAction`.
#[derive(Debug)]
pub struct DirectResponse {
    /// Status.
    pub status: u16,
    /// Body, at most `max_direct_response_body_size_bytes` (default 4 KiB).
    pub body: Box<[u8]>,
    /// Body with formatters.
    pub format: Option<Format>,
    /// `content_type` of the format.
    pub content_type: Option<Box<str>>,
}

/// Header changes of one level.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// `request_headers_to_add`, `request_headers_to_remove`.
    pub request: Edits,
    /// `response_headers_to_add`, `response_headers_to_remove`.
    pub response: Edits,
}

impl HeaderEdits {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        let none = |edits: &Edits| edits.remove.is_empty() && edits.add.is_empty();
        none(&self.request) && none(&self.response)
    }
}

/// Removals, then additions.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Names to remove, lowercased.
    pub remove: Box<[Box<str>]>,
    /// Headers to add.
    pub add: Box<[HeaderAdd]>,
}

/// One header to add.
#[derive(Clone, Debug)]
pub struct HeaderAdd {
    /// Name, lowercased.
    pub name: Box<str>,
    /// Value.
    pub value: Format,
    /// What happens when it exists.
    pub action: AppendAction,
    /// Add it even if the value comes out empty.
    pub keep_empty: bool,
}

/// `append_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// APPEND_IF_EXISTS_OR_ADD.
    #[default]
    AppendOrAdd,
    /// ADD_IF_ABSENT.
    AddIfAbsent,
    /// OVERWRITE_IF_EXISTS_OR_ADD.
    OverwriteOrAdd,
    /// OVERWRITE_IF_EXISTS.
    OverwriteIfExists,
}
