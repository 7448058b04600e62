//! `VirtualService` (istio.io/v1 networking): how requests to a host are routed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PortSelector;
use crate::{
    schema::{Described, Effect, Field, Schema, described},
    value::Dur,
};

/// Istio's `StringMatch`. Regexes are RE2 and match the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
}

/// A header match; the empty message means that the header is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderMatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

impl HeaderMatch {
    /// The match, or none for "is present".
    pub fn value(&self) -> Option<StringMatch> {
        let exact = self.exact.clone().map(StringMatch::Exact);
        exact
            .or_else(|| self.prefix.clone().map(StringMatch::Prefix))
            .or_else(|| self.regex.clone().map(StringMatch::Regex))
    }
}

fn string_match() -> Schema {
    static FIELDS: std::sync::LazyLock<std::sync::Arc<[Field]>> = std::sync::LazyLock::new(|| {
        let field = |name, doc| Field::new::<String>(name, doc, Effect::Acts);
        [
            field("exact", "Equal."),
            field("prefix", "Begins with."),
            field("regex", "RE2 over the whole value."),
        ]
        .into()
    });
    Schema::Object(std::sync::Arc::clone(&FIELDS))
}

impl Described for StringMatch {
    fn schema() -> Schema {
        string_match()
    }
}
impl Described for HeaderMatch {
    fn schema() -> Schema {
        string_match()
    }
}

described! {
    /// Routes for requests to hosts.
    pub struct VirtualService {
        /// Hosts that the routes are for: names (short ones are completed with the object's namespace),
        /// `*.suffix` or `*`.
        acts "hosts" hosts: Vec<String>;
        /// Gateways (`name`, `namespace/name`) on which the routes act, and `mesh` for the sidecars;
        /// none means `mesh`.
        acts "gateways" gateways: Vec<String>;
        /// Routes of HTTP traffic; the first that matches acts.
        acts "http" http: Vec<HttpRoute>;
        /// Routes of TLS traffic that is passed through, by SNI.
        acts "tls" tls: Vec<TlsRoute>;
        /// Routes of TCP traffic.
        acts "tcp" tcp: Vec<TcpRoute>;
        /// Namespaces that see this object: `.`, `*`, `~` or names; none means all.
        acts "exportTo" export_to: Vec<String>;
    }

    /// One HTTP route: conditions, and what happens.
    pub struct HttpRoute {
        /// Name for messages and logs.
        acts "name" name: String;
        /// Conditions, of which one must hold; none: always.
        acts "match" matches: Vec<HttpMatchRequest>;
        /// Destinations and their shares.
        acts "route" route: Vec<HttpRouteDestination>;
        /// Answer with a redirect.
        acts "redirect" redirect: Option<HttpRedirect>;
        /// Answer directly.
        acts "directResponse" direct_response: Option<HttpDirectResponse>;
        /// Continue in another VirtualService.
        acts "delegate" delegate: Option<Delegate>;
        /// Change path and authority before forwarding.
        acts "rewrite" rewrite: Option<HttpRewrite>;
        /// Time for the whole request with its retries; absent: none.
        acts "timeout" timeout: Option<Dur>;
        /// When and how often to try again.
        acts "retries" retries: Option<HttpRetry>;
        /// Faults put in on purpose.
        acts "fault" fault: Option<HttpFaultInjection>;
        /// A second receiver of the requests, whose answers are ignored.
        acts "mirror" mirror: Option<Destination>;
        /// Several such receivers.
        acts "mirrors" mirrors: Vec<HttpMirrorPolicy>;
        /// Deprecated: share of mirrored requests, 0 to 100.
        acts "mirrorPercent" mirror_percent: Option<u32>;
        /// Deprecated spelling of `mirrorPercent`.
        acts "mirror_percent" mirror_percent_snake: Option<u32>;
        /// Share of mirrored requests; absent: all.
        acts "mirrorPercentage" mirror_percentage: Option<Percent>;
        /// Cross-origin policy.
        acts "corsPolicy" cors_policy: Option<CorsPolicy>;
        /// Header changes for all destinations.
        acts "headers" headers: Option<Headers>;
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpMatchRequest {
        /// Name for messages and logs.
        acts "name" name: String;
        /// The path with its query left out.
        acts "uri" uri: Option<StringMatch>;
        /// Scheme.
        acts "scheme" scheme: Option<StringMatch>;
        /// Method.
        acts "method" method: Option<StringMatch>;
        /// Authority (Host).
        acts "authority" authority: Option<StringMatch>;
        /// Headers by lower-case name; an empty match asks for presence.
        acts "headers" headers: BTreeMap<String, HeaderMatch>;
        /// Port that was called.
        acts "port" port: Option<u16>;
        /// Labels of the caller.
        acts "sourceLabels" source_labels: BTreeMap<String, String>;
        /// Gateways on which the condition can hold; none: those of the VirtualService.
        acts "gateways" gateways: Vec<String>;
        /// Query parameters by name; exact and regex act, an empty match asks for presence.
        acts "queryParams" query_params: BTreeMap<String, HeaderMatch>;
        /// Compare `uri` exact and prefix without regard to case.
        acts "ignoreUriCase" ignore_uri_case: bool;
        /// Headers that must not match.
        acts "withoutHeaders" without_headers: BTreeMap<String, HeaderMatch>;
        /// Namespace of the caller.
        acts "sourceNamespace" source_namespace: String;
        /// Prefix of statistics' names.
        later "statPrefix" stat_prefix: String;
    }

    /// A destination and its share.
    pub struct HttpRouteDestination {
        /// Where to.
        acts "destination" destination: Destination, required;
        /// Share relative to the sum of the route's weights; one destination alone gets everything.
        acts "weight" weight: i32;
        /// Header changes for this destination only.
        acts "headers" headers: Option<Headers>;
    }

    /// A service, or a subset of it.
    pub struct Destination {
        /// Host in the registry; a short name is completed with the object's namespace.
        acts "host" host: String, required;
        /// Subset named by a DestinationRule.
        acts "subset" subset: String;
        /// Port; may be left out where the host has one port.
        acts "port" port: Option<PortSelector>;
    }

    /// Answers with a redirect.
    pub struct HttpRedirect {
        /// Replaces the path.
        acts "uri" uri: String;
        /// Replaces the authority.
        acts "authority" authority: String;
        /// Replaces the port.
        acts "port" port: Option<u32>;
        /// Takes the port from elsewhere.
        acts "derivePort" derive_port: Option<RedirectPort>;
        /// Replaces the scheme.
        acts "scheme" scheme: String;
        /// 301, 302, 303, 307 or 308; absent: 301.
        acts "redirectCode" redirect_code: Option<u32>;
        /// Replaces the prefix that matched.
        later "prefixRewrite" prefix_rewrite: String;
    }

    /// From where a redirect takes its port.
    pub enum RedirectPort {
        #[default] FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        FromRequestPort = "FROM_REQUEST_PORT",
    }

    /// Answers directly.
    pub struct HttpDirectResponse {
        /// HTTP status, 100 to 599.
        acts "status" status: u32, required;
        /// Body; absent: empty.
        acts "body" body: Option<HttpBody>;
    }

    /// Content of a direct response.
    pub struct HttpBody {
        /// As text.
        acts "string" string: Option<String>;
        /// As base64.
        acts "bytes" bytes: Option<String>;
    }

    /// Refers to a VirtualService that continues the route.
    pub struct Delegate {
        /// Its name.
        acts "name" name: String;
        /// Its namespace; empty: that of the root.
        acts "namespace" namespace: String;
    }

    /// Changes of what is forwarded.
    pub struct HttpRewrite {
        /// Replaces the path or the prefix that matched.
        acts "uri" uri: String;
        /// Replaces the authority.
        acts "authority" authority: String;
        /// Rewrites the path by a regular expression.
        acts "uriRegexRewrite" uri_regex_rewrite: Option<RegexRewrite>;
    }

    /// Rewriting by a regular expression.
    pub struct RegexRewrite {
        /// RE2 expression over the path.
        acts "match" matches: String;
        /// What stands in its place, with `\1` for groups.
        acts "rewrite" rewrite: String;
    }

    /// Retries.
    pub struct HttpRetry {
        /// Number of retries; 0 switches them off.
        acts "attempts" attempts: i32;
        /// Time for each try; absent: the route's timeout.
        acts "perTryTimeout" per_try_timeout: Option<Dur>;
        /// Envoy's retry conditions, comma-separated, and HTTP status codes.
        acts "retryOn" retry_on: String;
        /// Also try hosts of other localities.
        later "retryRemoteLocalities" retry_remote_localities: Option<bool>;
        /// Do not try hosts again that were tried; absent: true.
        acts "retryIgnorePreviousHosts" retry_ignore_previous_hosts: Option<bool>;
        /// Least time between tries; absent: 25 ms.
        acts "backoff" backoff: Option<Dur>;
    }

    /// Faults put in on purpose.
    pub struct HttpFaultInjection {
        /// Delays before forwarding.
        acts "delay" delay: Option<FaultDelay>;
        /// Answers in the service's place.
        acts "abort" abort: Option<FaultAbort>;
    }

    /// A delay.
    pub struct FaultDelay {
        /// Deprecated: share in whole per cent.
        acts "percent" percent: i32;
        /// How long, at least 1 ms.
        acts "fixedDelay" fixed_delay: Option<Dur>;
        /// Hidden in Istio's API and never implemented there.
        later "exponentialDelay" exponential_delay: Option<Dur>;
        /// Share of requests; absent with `percent` absent too: none.
        acts "percentage" percentage: Option<Percent>;
    }

    /// An answer in the service's place.
    pub struct FaultAbort {
        /// HTTP status, 200 to 599.
        acts "httpStatus" http_status: Option<i32>;
        /// Name or number of a gRPC status.
        acts "grpcStatus" grpc_status: Option<String>;
        /// Never implemented in Istio.
        later "http2Error" http2_error: Option<String>;
        /// Share of requests; absent: all.
        acts "percentage" percentage: Option<Percent>;
    }

    /// A share between 0.0 and 100.0.
    pub struct Percent {
        /// Per cent.
        acts "value" value: f64;
    }

    /// A receiver of copies.
    pub struct HttpMirrorPolicy {
        /// Where to.
        acts "destination" destination: Destination, required;
        /// Share of requests; absent: all.
        acts "percentage" percentage: Option<Percent>;
    }

    /// Cross-origin resource sharing.
    pub struct CorsPolicy {
        /// Deprecated: exact origins.
        acts "allowOrigin" allow_origin: Vec<String>;
        /// Origins that are allowed.
        acts "allowOrigins" allow_origins: Vec<StringMatch>;
        /// Methods that are allowed.
        acts "allowMethods" allow_methods: Vec<String>;
        /// Request headers that are allowed.
        acts "allowHeaders" allow_headers: Vec<String>;
        /// Response headers that a page may read.
        acts "exposeHeaders" expose_headers: Vec<String>;
        /// How long an answer to a preflight holds.
        acts "maxAge" max_age: Option<Dur>;
        /// Whether credentials are allowed.
        acts "allowCredentials" allow_credentials: Option<bool>;
        /// What happens to preflights of other origins.
        acts "unmatchedPreflights" unmatched_preflights: Option<String>, one_of("UNSPECIFIED", "FORWARD", "IGNORE");
    }

    /// Header changes.
    pub struct Headers {
        /// Of the request, before it is forwarded.
        acts "request" request: Option<HeaderOperations>;
        /// Of the response, before it is returned.
        acts "response" response: Option<HeaderOperations>;
    }

    /// Changes of headers: `set` and `add`, then `remove`.
    pub struct HeaderOperations {
        /// Replace or create.
        acts "set" set: BTreeMap<String, String>;
        /// Append.
        acts "add" add: BTreeMap<String, String>;
        /// Remove by name.
        acts "remove" remove: Vec<String>;
    }

    /// A route of TLS traffic.
    pub struct TlsRoute {
        /// Conditions, of which one must hold.
        acts "match" matches: Vec<TlsMatchAttributes>, required;
        /// Destinations and their shares.
        acts "route" route: Vec<RouteDestination>;
    }

    /// Conditions on a TLS connection, all of which must hold.
    pub struct TlsMatchAttributes {
        /// Server names, `*.suffix` allowed.
        acts "sniHosts" sni_hosts: Vec<String>, required;
        /// Addresses or CIDR ranges of the destination; a match with some never holds.
        later "destinationSubnets" destination_subnets: Vec<String>;
        /// Port that was called.
        acts "port" port: Option<u16>;
        /// Labels of the caller.
        acts "sourceLabels" source_labels: BTreeMap<String, String>;
        /// Gateways on which the condition can hold.
        acts "gateways" gateways: Vec<String>;
        /// Namespace of the caller.
        acts "sourceNamespace" source_namespace: String;
    }

    /// A route of TCP traffic.
    pub struct TcpRoute {
        /// Conditions, of which one must hold; none: always.
        acts "match" matches: Vec<L4MatchAttributes>;
        /// Destinations and their shares.
        acts "route" route: Vec<RouteDestination>;
    }

    /// Conditions on a TCP connection, all of which must hold.
    pub struct L4MatchAttributes {
        /// Addresses or CIDR ranges of the destination; a match with some never holds.
        later "destinationSubnets" destination_subnets: Vec<String>;
        /// Port that was called.
        acts "port" port: Option<u16>;
        /// Deprecated and without effect in Istio.
        later "sourceSubnet" source_subnet: String;
        /// Labels of the caller.
        acts "sourceLabels" source_labels: BTreeMap<String, String>;
        /// Gateways on which the condition can hold.
        acts "gateways" gateways: Vec<String>;
        /// Namespace of the caller.
        acts "sourceNamespace" source_namespace: String;
    }

    /// A destination of connections and its share.
    pub struct RouteDestination {
        /// Where to.
        acts "destination" destination: Destination, required;
        /// Share relative to the sum of the route's weights.
        acts "weight" weight: i32;
    }
}
