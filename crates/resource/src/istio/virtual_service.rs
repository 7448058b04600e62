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
    let field = |name| Field { name, doc: "", effect: Effect::Acts, schema: Schema::String, keys: &[] };
    Schema::Object(vec![field("exact"), field("prefix"), field("regex")].into())
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
    pub struct VirtualService {
        acts "hosts" hosts: Vec<String>; acts "gateways" gateways: Vec<String>; acts "http" http: Vec<HttpRoute>; acts "tls" tls: Vec<TlsRoute>;
        acts "tcp" tcp: Vec<TcpRoute>; acts "exportTo" export_to: Vec<String>;
    }
    pub struct HttpRoute {
        acts "name" name: String;
        acts "match" matches: Vec<HttpMatchRequest>;
        acts "route" route: Vec<HttpRouteDestination>;
        acts "redirect" redirect: Option<HttpRedirect>;
        acts "directResponse" direct_response: Option<HttpDirectResponse>;
        acts "delegate" delegate: Option<Delegate>;
        acts "rewrite" rewrite: Option<HttpRewrite>;
        acts "timeout" timeout: Option<Dur>;
        acts "retries" retries: Option<HttpRetry>;
        acts "fault" fault: Option<HttpFaultInjection>;
        acts "mirror" mirror: Option<Destination>;
        acts "mirrors" mirrors: Vec<HttpMirrorPolicy>;
        acts "mirrorPercent" mirror_percent: Option<u32>;
        acts "mirror_percent" mirror_percent_snake: Option<u32>;
        acts "mirrorPercentage" mirror_percentage: Option<Percent>;
        acts "corsPolicy" cors_policy: Option<CorsPolicy>;
        acts "headers" headers: Option<Headers>;
    }
    pub struct HttpMatchRequest {
        acts "name" name: String;
        acts "uri" uri: Option<StringMatch>;
        acts "scheme" scheme: Option<StringMatch>;
        acts "method" method: Option<StringMatch>;
        acts "authority" authority: Option<StringMatch>;
        acts "headers" headers: BTreeMap<String, HeaderMatch>;
        acts "port" port: Option<u16>;
        acts "sourceLabels" source_labels: BTreeMap<String, String>;
        acts "gateways" gateways: Vec<String>;
        acts "queryParams" query_params: BTreeMap<String, HeaderMatch>;
        acts "ignoreUriCase" ignore_uri_case: bool;
        acts "withoutHeaders" without_headers: BTreeMap<String, HeaderMatch>;
        acts "sourceNamespace" source_namespace: String;
        acts "statPrefix" stat_prefix: String;
    }
    pub struct HttpRouteDestination { acts "destination" destination: Destination; acts "weight" weight: i32; acts "headers" headers: Option<Headers>; }
    pub struct Destination { acts "host" host: String; acts "subset" subset: String; acts "port" port: Option<PortSelector>; }
    pub struct HttpRedirect {
        acts "uri" uri: String; acts "authority" authority: String; acts "port" port: Option<u32>; acts "derivePort" derive_port: Option<RedirectPort>;
        acts "scheme" scheme: String; acts "redirectCode" redirect_code: Option<u32>;
    }
    pub enum RedirectPort { #[default] FromProtocolDefault = "FROM_PROTOCOL_DEFAULT", FromRequestPort = "FROM_REQUEST_PORT" }
    pub struct HttpDirectResponse { acts "status" status: u32; acts "body" body: Option<HttpBody>; }
    pub struct HttpBody { acts "string" string: Option<String>; acts "bytes" bytes: Option<String>; }
    pub struct Delegate { acts "name" name: String; acts "namespace" namespace: String; }
    pub struct HttpRewrite { acts "uri" uri: String; acts "authority" authority: String; acts "uriRegexRewrite" uri_regex_rewrite: Option<RegexRewrite>; }
    pub struct RegexRewrite { acts "match" matches: String; acts "rewrite" rewrite: String; }
    pub struct HttpRetry {
        acts "attempts" attempts: i32; acts "perTryTimeout" per_try_timeout: Option<Dur>; acts "retryOn" retry_on: String;
        later "retryRemoteLocalities" retry_remote_localities: Option<bool>; acts "retryIgnorePreviousHosts" retry_ignore_previous_hosts: Option<bool>; acts "backoff" backoff: Option<Dur>;
    }
    pub struct HttpFaultInjection { acts "delay" delay: Option<FaultDelay>; acts "abort" abort: Option<FaultAbort>; }
    pub struct FaultDelay { acts "percent" percent: i32; acts "fixedDelay" fixed_delay: Option<Dur>; later "exponentialDelay" exponential_delay: Option<Dur>; acts "percentage" percentage: Option<Percent>; }
    pub struct FaultAbort { acts "httpStatus" http_status: Option<i32>; acts "grpcStatus" grpc_status: Option<String>; later "http2Error" http2_error: Option<String>; acts "percentage" percentage: Option<Percent>; }
    pub struct Percent { acts "value" value: f64; }
    pub struct HttpMirrorPolicy { acts "destination" destination: Destination; acts "percentage" percentage: Option<Percent>; }
    pub struct CorsPolicy {
        acts "allowOrigin" allow_origin: Vec<String>; acts "allowOrigins" allow_origins: Vec<StringMatch>; acts "allowMethods" allow_methods: Vec<String>; acts "allowHeaders" allow_headers: Vec<String>;
        acts "exposeHeaders" expose_headers: Vec<String>; acts "maxAge" max_age: Option<Dur>; acts "allowCredentials" allow_credentials: Option<bool>; acts "unmatchedPreflights" unmatched_preflights: Option<String>;
    }
    pub struct Headers { acts "request" request: Option<HeaderOperations>; acts "response" response: Option<HeaderOperations>; }
    pub struct HeaderOperations { acts "set" set: BTreeMap<String, String>; acts "add" add: BTreeMap<String, String>; acts "remove" remove: Vec<String>; }
    pub struct TlsRoute { acts "match" matches: Vec<TlsMatchAttributes>; acts "route" route: Vec<RouteDestination>; }
    pub struct TlsMatchAttributes {
        acts "sniHosts" sni_hosts: Vec<String>; acts "destinationSubnets" destination_subnets: Vec<String>; acts "port" port: Option<u16>; acts "sourceLabels" source_labels: BTreeMap<String, String>;
        acts "gateways" gateways: Vec<String>; acts "sourceNamespace" source_namespace: String;
    }
    pub struct TcpRoute { acts "match" matches: Vec<L4MatchAttributes>; acts "route" route: Vec<RouteDestination>; }
    pub struct L4MatchAttributes {
        acts "destinationSubnets" destination_subnets: Vec<String>; acts "port" port: Option<u16>; acts "sourceSubnet" source_subnet: String; acts "sourceLabels" source_labels: BTreeMap<String, String>;
        acts "gateways" gateways: Vec<String>; acts "sourceNamespace" source_namespace: String;
    }
    pub struct RouteDestination { acts "destination" destination: Destination; acts "weight" weight: i32; }
}
