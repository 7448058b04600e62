//! The HTTP connection manager and its filters (`http_connection_manager.v3`, `cors.v3`, `fault.v3`, `router.v3`).

use std::sync::Arc;
use std::time::Duration;

use super::{AccessLog, CorsPolicy, Fault, Http2Settings, Name, RouteConfig};

/// A compiled HTTP connection manager.
#[derive(Clone, Debug)]
pub struct HttpConnectionManager {
    /// `codec_type`.
    pub codec: Codec,
    /// `stat_prefix`.
    pub stat_prefix: Box<str>,
    /// Where routes come from.
    pub routes: RouteSource,
    /// The filters in front of the router, in order.
    pub filters: Box<[HttpFilter]>,
    /// `router` options.
    pub router: RouterOptions,
    /// `server_name`, default `envoy`.
    pub server_name: Box<str>,
    /// `server_header_transformation`.
    pub server_header: ServerHeader,
    /// `use_remote_address`, default false.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_xff_append: bool,
    /// `append_x_forwarded_port`.
    pub append_x_forwarded_port: bool,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_cert: ClientCert,
    /// `via`; empty is off.
    pub via: Box<str>,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub always_set_request_id_in_response: bool,
    /// `upgrade_configs`: lowercased type and whether it is on by default.
    pub upgrades: Box<[(Box<str>, bool)]>,
    /// `normalize_path`, default false.
    pub normalize_path: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// `strip_matching_host_port`, `strip_any_host_port`.
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`.
    pub strip_trailing_host_dot: bool,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub max_request_headers: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub max_headers_count: u32,
    /// `stream_idle_timeout`, default 5 min; `None` is unlimited.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`; `None` is unlimited.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`; `None` is unlimited.
    pub request_headers_timeout: Option<Duration>,
    /// `common_http_protocol_options.idle_timeout`, default 1 h; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// `headers_with_underscores_action`.
    pub underscores: Underscores,
    /// `http_protocol_options.header_key_format` is preserve_case.
    pub preserve_case: bool,
    /// `http_protocol_options.accept_http_10`.
    pub accept_http_10: bool,
    /// `http_protocol_options.default_host_for_http_10`.
    pub default_host_for_http_10: Box<str>,
    /// HTTP/2 settings towards clients.
    pub http2: Http2Settings,
    /// `proxy_100_continue`.
    pub proxy_100_continue: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`.
    pub scheme_override: Option<Box<str>>,
    /// `access_log`: those that are built.
    pub access_log: Arc<[AccessLog]>,
}

/// `forward_client_cert_details` and `set_current_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCert {
    /// What is done with the header.
    pub forward: ForwardClientCert,
    /// `subject`.
    pub subject: bool,
    /// `cert`: the certificate as PEM, URL-encoded.
    pub cert: bool,
    /// `chain`: with those that vouch for it.
    pub chain: bool,
    /// `dns`: its DNS names.
    pub dns: bool,
    /// `uri`: its URI names.
    pub uri: bool,
}

/// `forward_client_cert_details`. Without a client certificate all but the last mean SANITIZE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// SANITIZE: the header goes no further.
    #[default]
    Sanitize,
    /// FORWARD_ONLY: it is passed on.
    Forward,
    /// APPEND_FORWARD: this client's certificate is added.
    Append,
    /// SANITIZE_SET: this client's certificate stands alone.
    Set,
    /// ALWAYS_FORWARD_ONLY: it is passed on in the clear too.
    Always,
}

impl ClientCert {
    /// This client's certificate is told.
    pub fn tells(&self) -> bool {
        matches!(self.forward, ForwardClientCert::Append | ForwardClientCert::Set)
    }
}

/// Where a connection manager's routes come from.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// RDS, by name.
    Rds(Name),
    /// Inline.
    Inline(Arc<RouteConfig>),
}

/// `codec_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Look at the first bytes.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// OVERWRITE.
    #[default]
    Overwrite,
    /// APPEND_IF_ABSENT.
    AppendIfAbsent,
    /// PASS_THROUGH.
    PassThrough,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// IMPLEMENTATION_SPECIFIC_DEFAULT, KEEP_UNCHANGED.
    #[default]
    Keep,
    /// REJECT_REQUEST: 400.
    Reject,
    /// UNESCAPE_AND_REDIRECT: 307.
    UnescapeAndRedirect,
    /// UNESCAPE_AND_FORWARD.
    UnescapeAndForward,
}

/// Whether the port is cut from the host before routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    /// No.
    #[default]
    Keep,
    /// When it is the listener's port.
    Matching,
    /// Always.
    Any,
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// ALLOW.
    #[default]
    Allow,
    /// REJECT_REQUEST.
    Reject,
    /// DROP_HEADER.
    Drop,
}

/// A filter in front of the router.
#[derive(Clone, Debug)]
pub enum HttpFilter {
    /// `envoy.filters.http.cors`: policies are per route.
    Cors,
    /// `envoy.filters.http.fault` with the listener's own policy, if it states one.
    Fault(Option<Arc<Fault>>),
    /// `envoy.filters.http.grpc_web`; one that is `disabled` acts where a route says so.
    GrpcWeb {
        /// Off until then.
        disabled: bool,
    },
}

/// `router.v3.Router`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterOptions {
    /// `suppress_envoy_headers`.
    pub suppress_envoy_headers: bool,
    /// `respect_expected_rq_timeout`.
    pub respect_expected_rq_timeout: bool,
}

/// What a route, virtual host or weighted cluster says to the filters (`typed_per_filter_config`).
#[derive(Clone, Debug, Default)]
pub struct FilterOverrides {
    /// CORS policy.
    pub cors: Option<Arc<CorsPolicy>>,
    /// CORS switched on or off here (`FilterConfig.disabled`).
    pub cors_disabled: Option<bool>,
    /// Fault policy.
    pub fault: Option<Arc<Fault>>,
    /// Fault switched on or off here.
    pub fault_disabled: Option<bool>,
    /// gRPC-Web switched on or off here.
    pub grpc_web_disabled: Option<bool>,
}
