//! Filters of HTTPRoutes and GRPCRoutes.

use super::{BackendReference, ObjectReference};
use crate::schema::described;

described! {
    /// A step on the way of an HTTP request; `type` says which of the other fields is set.
    pub struct HttpRouteFilter {
        /// Which.
        acts "type" type_: String, required, one_of("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect",
            "URLRewrite", "CORS", "ExternalAuth", "ExtensionRef");
        /// Changes request headers.
        acts "requestHeaderModifier" request_header_modifier: Option<HeaderFilter>;
        /// Changes response headers.
        acts "responseHeaderModifier" response_header_modifier: Option<HeaderFilter>;
        /// Sends copies to another backend.
        acts "requestMirror" request_mirror: Option<MirrorFilter>;
        /// Answers with a redirect.
        acts "requestRedirect" request_redirect: Option<RedirectFilter>;
        /// Changes host name and path.
        acts "urlRewrite" url_rewrite: Option<UrlRewriteFilter>;
        /// Cross-origin policy.
        acts "cors" cors: Option<CorsFilter>;
        /// Asks a service whether the request may pass.
        denies "externalAuth" external_auth: Option<ExternalAuthFilter>;
        /// A filter of an implementation's own.
        denies "extensionRef" extension_ref: Option<ObjectReference>;
    }

    /// Changes of headers.
    pub struct HeaderFilter {
        /// Replace or create.
        acts "set" set: Vec<HttpHeader>, keys("name");
        /// Append.
        acts "add" add: Vec<HttpHeader>, keys("name");
        /// Remove by name.
        acts "remove" remove: Vec<String>;
    }

    /// A header.
    pub struct HttpHeader {
        /// Name, without regard to case.
        acts "name" name: String, required;
        /// Value.
        acts "value" value: String, required;
    }

    /// Sends copies to another backend.
    pub struct MirrorFilter {
        /// The receiver.
        acts "backendRef" backend_ref: BackendReference, required;
        /// Share in per cent; absent with `fraction` absent too: all.
        acts "percent" percent: Option<i32>;
        /// Share as a fraction.
        acts "fraction" fraction: Option<Fraction>;
    }

    /// A fraction.
    pub struct Fraction {
        /// Above the line.
        acts "numerator" numerator: i32, required;
        /// Below the line; absent: 100.
        acts "denominator" denominator: Option<i32>;
    }

    /// Answers with a redirect.
    pub struct RedirectFilter {
        /// `http` or `https`; absent: the request's.
        acts "scheme" scheme: Option<String>, one_of("http", "https");
        /// Host name; absent: the request's.
        acts "hostname" hostname: Option<String>;
        /// Path; absent: the request's.
        acts "path" path: Option<PathModifier>;
        /// Port; absent: by the scheme, or the listener's.
        acts "port" port: Option<u16>;
        /// 301, 302, 303, 307 or 308; absent: 302.
        acts "statusCode" status_code: Option<u16>;
    }

    /// Change of a path.
    pub struct PathModifier {
        /// Which of the other fields is set.
        acts "type" type_: String, required, one_of("ReplaceFullPath", "ReplacePrefixMatch");
        /// The whole path.
        acts "replaceFullPath" replace_full_path: Option<String>;
        /// What stands in place of the prefix that matched.
        acts "replacePrefixMatch" replace_prefix_match: Option<String>;
    }

    /// Changes host name and path.
    pub struct UrlRewriteFilter {
        /// Host name.
        acts "hostname" hostname: Option<String>;
        /// Path.
        acts "path" path: Option<PathModifier>;
    }

    /// Cross-origin resource sharing.
    pub struct CorsFilter {
        /// Origins that are allowed; `*` in place of the host or of its first labels.
        acts "allowOrigins" allow_origins: Vec<String>;
        /// Whether credentials are allowed.
        acts "allowCredentials" allow_credentials: Option<bool>;
        /// Methods that are allowed.
        acts "allowMethods" allow_methods: Vec<String>, one_of("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*");
        /// Request headers that are allowed.
        acts "allowHeaders" allow_headers: Vec<String>;
        /// Response headers that a page may read.
        acts "exposeHeaders" expose_headers: Vec<String>;
        /// Seconds for which an answer to a preflight holds; absent: 5.
        acts "maxAge" max_age: Option<i32>;
    }

    /// Asks a service whether a request may pass.
    pub struct ExternalAuthFilter {
        /// Protocol.
        denies "protocol" protocol: String, required, one_of("HTTP", "GRPC");
        /// The service.
        denies "backendRef" backend_ref: BackendReference, required;
        /// Settings of gRPC.
        denies "grpc" grpc: Option<GrpcAuth>;
        /// Settings of HTTP.
        denies "http" http: Option<HttpAuth>;
        /// Whether the body is sent.
        denies "forwardBody" forward_body: Option<ForwardBody>;
    }

    /// Settings of gRPC authorization.
    pub struct GrpcAuth {
        /// Request headers that are sent.
        denies "allowedHeaders" allowed_headers: Vec<String>;
    }

    /// Settings of HTTP authorization.
    pub struct HttpAuth {
        /// Prefix of the path.
        denies "path" path: Option<String>;
        /// Request headers that are sent.
        denies "allowedHeaders" allowed_headers: Vec<String>;
        /// Response headers that are copied to the request.
        denies "allowedResponseHeaders" allowed_response_headers: Vec<String>;
    }

    /// How much of the body is sent.
    pub struct ForwardBody {
        /// Bytes.
        denies "maxSize" max_size: Option<i32>;
    }
}
