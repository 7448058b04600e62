//! Gateway API kinds.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{schema::described, value::Dur};

described! {
    /// A class of Gateways and who serves it.
    pub struct GatewayClass {
        /// What is wanted.
        acts "spec" spec: GatewayClassSpec, required;
        /// What is, written by the control plane.
        acts "status" status: GatewayClassStatus;
    }

    /// `spec` of a GatewayClass.
    pub struct GatewayClassSpec {
        /// Who serves it: `heddle.dev/gateway-controller` for heddle.
        acts "controllerName" controller_name: String, required;
        /// Settings of the class.
        later "parametersRef" parameters_ref: Option<Value>;
        /// For people.
        acts "description" description: Option<String>;
    }

    /// `status` of a GatewayClass.
    pub struct GatewayClassStatus {
        /// `Accepted`, `SupportedVersion`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
        /// Features that the controller has.
        acts "supportedFeatures" supported_features: Vec<SupportedFeature>, keys("name");
    }

    /// A feature of the Gateway API.
    pub struct SupportedFeature {
        /// Name.
        acts "name" name: String, required;
    }

    /// A status condition as Kubernetes has it.
    pub struct Condition {
        /// Name of the condition.
        acts "type" type_: String, required;
        /// `True`, `False` or `Unknown`.
        acts "status" status: String, required;
        /// The generation that it speaks of.
        acts "observedGeneration" observed_generation: Option<i64>;
        /// When the status last changed.
        acts "lastTransitionTime" last_transition_time: String;
        /// One word for machines.
        acts "reason" reason: String, required;
        /// For people.
        acts "message" message: String;
    }

    /// Listeners, to which routes attach.
    pub struct Gateway {
        /// What is wanted.
        acts "spec" spec: GatewaySpec, required;
        /// What is, written by the control plane.
        acts "status" status: GatewayStatus;
    }

    /// `spec` of a Gateway.
    pub struct GatewaySpec {
        /// The class.
        acts "gatewayClassName" gateway_class_name: String, required;
        /// Listeners.
        acts "listeners" listeners: Vec<Listener>, required, keys("name");
        /// Addresses that are asked for; none: any.
        acts "addresses" addresses: Vec<GatewayAddress>;
        /// What the objects made for the Gateway carry.
        later "infrastructure" infrastructure: Option<Value>;
        /// Namespaces whose ListenerSets may attach.
        later "allowedListeners" allowed_listeners: Option<AllowedListeners>;
        /// TLS of clients and backends.
        acts "tls" tls: Option<GatewayTls>;
        /// Whether routes attach without naming it.
        later "defaultScope" default_scope: Option<String>, one_of("All", "None");
    }

    /// An address of a Gateway.
    pub struct GatewayAddress {
        /// `IPAddress`, `Hostname` or DOMAIN/NAME; absent: `IPAddress`.
        acts "type" type_: Option<String>;
        /// The address; absent in a spec: any.
        acts "value" value: String;
    }

    /// A port, a protocol and a host name.
    pub struct Listener {
        /// Name, unique in the Gateway.
        acts "name" name: String, required;
        /// Host name, `*.suffix` allowed; absent: all.
        acts "hostname" hostname: Option<String>;
        /// Port number.
        acts "port" port: u16, required;
        /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP` or DOMAIN/NAME.
        acts "protocol" protocol: String, required, denies("HTTPS", "TLS"), later("UDP");
        /// TLS.
        acts "tls" tls: Option<ListenerTls>;
        /// Routes that may attach; absent: of its namespace.
        acts "allowedRoutes" allowed_routes: Option<AllowedRoutes>;
    }

    /// TLS of a listener.
    pub struct ListenerTls {
        /// Who ends TLS; absent: the Gateway.
        acts "mode" mode: Option<String>, one_of("Terminate", "Passthrough");
        /// Certificates.
        acts "certificateRefs" certificate_refs: Vec<ObjectReference>;
        /// Verification of clients (old form).
        denies "frontendValidation" frontend_validation: Option<FrontendValidation>;
        /// Further settings.
        later "options" options: BTreeMap<String, String>;
    }

    /// Names a Secret.
    pub struct ObjectReference {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Secret`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the Gateway's. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
    }

    /// Routes that may attach.
    pub struct AllowedRoutes {
        /// By namespace.
        acts "namespaces" namespaces: Option<RouteNamespaces>;
        /// By kind; none: by the listener's protocol.
        acts "kinds" kinds: Vec<RouteGroupKind>;
    }

    /// Namespaces of routes that may attach.
    pub struct RouteNamespaces {
        /// Which; absent: `Same`.
        acts "from" from: Option<String>, one_of("All", "Same", "Selector", "None");
        /// For `Selector`.
        acts "selector" selector: Option<LabelSelector>;
    }

    /// Chooses objects by labels.
    pub struct LabelSelector {
        /// Labels that must be there, all of them.
        acts "matchLabels" match_labels: BTreeMap<String, String>;
        /// Further conditions, all of which must hold.
        acts "matchExpressions" match_expressions: Vec<LabelRequirement>;
    }

    /// A condition on a label.
    pub struct LabelRequirement {
        /// The label.
        acts "key" key: String, required;
        /// How it is compared.
        acts "operator" operator: String, required, one_of("In", "NotIn", "Exists", "DoesNotExist");
        /// For `In` and `NotIn`.
        acts "values" values: Vec<String>;
    }

    /// A kind of route.
    pub struct RouteGroupKind {
        /// API group; absent: `gateway.networking.k8s.io`.
        acts "group" group: Option<String>;
        /// Kind.
        acts "kind" kind: String, required;
    }

    /// `status` of a Gateway.
    pub struct GatewayStatus {
        /// Addresses in use.
        acts "addresses" addresses: Vec<GatewayAddress>;
        /// `Accepted`, `Programmed`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
        /// Of each listener.
        acts "listeners" listeners: Vec<ListenerStatus>, keys("name");
        /// Number of ListenerSets attached.
        acts "attachedListenerSets" attached_listener_sets: Option<i32>;
    }

    /// Status of a listener.
    pub struct ListenerStatus {
        /// Its name.
        acts "name" name: String, required;
        /// Kinds of routes that it takes.
        acts "supportedKinds" supported_kinds: Vec<RouteGroupKind>;
        /// Number of routes attached.
        acts "attachedRoutes" attached_routes: Option<i32>;
        /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
    }

    /// What a route attaches to: a Gateway (its listener by section name or port), or a Service of the
    /// mesh.
    pub struct ParentReference {
        /// API group; absent: `gateway.networking.k8s.io`, `""` for Services.
        acts "group" group: Option<String>;
        /// Kind; absent: `Gateway`.
        acts "kind" kind: Option<String>;
        /// Namespace; absent: the route's.
        acts "namespace" namespace: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Name of a listener, or of a Service's port.
        acts "sectionName" section_name: Option<String>;
        /// Port of listeners, or of the Service.
        acts "port" port: Option<u16>;
    }

    /// `status` of every kind of route.
    pub struct RouteStatus {
        /// One entry per parent and controller.
        acts "parents" parents: Vec<RouteParentStatus>;
    }

    /// Status of a route towards one parent.
    pub struct RouteParentStatus {
        /// The parent, as the route names it.
        acts "parentRef" parent_ref: ParentReference, required;
        /// Who writes the entry.
        acts "controllerName" controller_name: String, required;
        /// `Accepted`, `ResolvedRefs`, `PartiallyInvalid`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
    }

    /// Routes of HTTP requests.
    pub struct HttpRoute {
        /// What is wanted.
        acts "spec" spec: HttpRouteSpec, required;
        /// What is, written by the control plane.
        acts "status" status: RouteStatus;
    }

    /// `spec` of an HTTPRoute.
    pub struct HttpRouteSpec {
        /// Gateways or Services to which the route attaches.
        acts "parentRefs" parent_refs: Vec<ParentReference>;
        /// Host names, `*.suffix` allowed; none: those of the listener.
        acts "hostnames" hostnames: Vec<String>;
        /// Rules; none: everything matches and has no backend.
        acts "rules" rules: Vec<HttpRouteRule>;
        /// Whether it attaches to default Gateways.
        later "useDefaultGateways" use_default_gateways: Option<String>, one_of("All", "None");
    }

    /// Conditions, steps and backends.
    pub struct HttpRouteRule {
        /// Name, unique in the route.
        acts "name" name: Option<String>;
        /// Conditions, of which one must hold; none: prefix `/`.
        acts "matches" matches: Vec<HttpRouteMatch>;
        /// Steps for all backends.
        acts "filters" filters: Vec<HttpRouteFilter>;
        /// Receivers; none: 500.
        acts "backendRefs" backend_refs: Vec<HttpBackendRef>;
        /// Times.
        acts "timeouts" timeouts: Option<HttpRouteTimeouts>;
        /// Retries.
        acts "retry" retry: Option<HttpRouteRetry>;
        /// Keeps a client with its backend.
        later "sessionPersistence" session_persistence: Option<SessionPersistence>;
    }

    /// Times of a rule.
    pub struct HttpRouteTimeouts {
        /// For the whole request with its retries; 0: none.
        acts "request" request: Option<Dur>;
        /// For each try.
        acts "backendRequest" backend_request: Option<Dur>;
    }

    /// Retries of a rule.
    pub struct HttpRouteRetry {
        /// Status codes that are tried again, 400 to 599.
        acts "codes" codes: Vec<u32>;
        /// Number of retries.
        acts "attempts" attempts: Option<i32>;
        /// Least time between tries.
        acts "backoff" backoff: Option<Dur>;
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpRouteMatch {
        /// Path; absent: prefix `/`.
        acts "path" path: Option<HttpPathMatch>;
        /// Headers.
        acts "headers" headers: Vec<HttpHeaderMatch>, keys("name");
        /// Query parameters.
        acts "queryParams" query_params: Vec<HttpHeaderMatch>, keys("name");
        /// Method.
        acts "method" method: Option<String>, one_of("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH");
    }

    /// Condition on the path.
    pub struct HttpPathMatch {
        /// How; absent: `PathPrefix`.
        acts "type" type_: Option<String>, one_of("Exact", "PathPrefix", "RegularExpression");
        /// Path; absent: `/`.
        acts "value" value: Option<String>;
    }

    /// Condition on a header.
    pub struct HttpHeaderMatch {
        /// How; absent: `Exact`.
        acts "type" type_: Option<String>, one_of("Exact", "RegularExpression");
        /// Name, without regard to case.
        acts "name" name: String, required;
        /// Value.
        acts "value" value: String, required;
    }

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

    /// A receiver without a share.
    pub struct BackendReference {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Service`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the route's. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
        /// Port of the Service.
        acts "port" port: Option<u16>;
    }

    /// A receiver, its share, and steps for it only.
    pub struct HttpBackendRef {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Service`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the route's. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
        /// Port of the Service.
        acts "port" port: Option<u16>;
        /// Share relative to the sum of weights; absent: 1.
        acts "weight" weight: Option<i32>;
        /// Steps.
        acts "filters" filters: Vec<HttpRouteFilter>;
    }

    /// A receiver and its share.
    pub struct BackendRef {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Service`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the route's. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
        /// Port of the Service.
        acts "port" port: Option<u16>;
        /// Share relative to the sum of weights; absent: 1.
        acts "weight" weight: Option<i32>;
    }

    /// Routes of gRPC calls.
    pub struct GrpcRoute {
        /// What is wanted.
        acts "spec" spec: GrpcRouteSpec, required;
        /// What is, written by the control plane.
        acts "status" status: RouteStatus;
    }

    /// `spec` of a GRPCRoute.
    pub struct GrpcRouteSpec {
        /// Gateways or Services to which the route attaches.
        acts "parentRefs" parent_refs: Vec<ParentReference>;
        /// Host names, `*.suffix` allowed; none: those of the listener.
        acts "hostnames" hostnames: Vec<String>;
        /// Rules.
        acts "rules" rules: Vec<GrpcRouteRule>;
        /// Whether it attaches to default Gateways.
        later "useDefaultGateways" use_default_gateways: Option<String>, one_of("All", "None");
    }

    /// Conditions, steps and backends.
    pub struct GrpcRouteRule {
        /// Name, unique in the route.
        acts "name" name: Option<String>;
        /// Conditions, of which one must hold; none: every call.
        acts "matches" matches: Vec<GrpcRouteMatch>;
        /// Steps for all backends.
        acts "filters" filters: Vec<HttpRouteFilter>;
        /// Receivers; none: UNAVAILABLE.
        acts "backendRefs" backend_refs: Vec<HttpBackendRef>;
        /// Keeps a client with its backend.
        later "sessionPersistence" session_persistence: Option<SessionPersistence>;
    }

    /// Conditions on a call, all of which must hold.
    pub struct GrpcRouteMatch {
        /// Service and method.
        acts "method" method: Option<GrpcMethodMatch>;
        /// Headers.
        acts "headers" headers: Vec<HttpHeaderMatch>, keys("name");
    }

    /// Condition on service and method.
    pub struct GrpcMethodMatch {
        /// How; absent: `Exact`.
        acts "type" type_: Option<String>, one_of("Exact", "RegularExpression");
        /// Full name of the service; absent: any.
        acts "service" service: Option<String>;
        /// Method; absent: any.
        acts "method" method: Option<String>;
    }

    /// Routes of TCP connections.
    pub struct TcpRoute {
        /// What is wanted.
        acts "spec" spec: TcpRouteSpec, required;
        /// What is, written by the control plane.
        acts "status" status: RouteStatus;
    }

    /// `spec` of a TCPRoute.
    pub struct TcpRouteSpec {
        /// Gateways or Services to which the route attaches.
        acts "parentRefs" parent_refs: Vec<ParentReference>;
        /// Rules; the first acts.
        acts "rules" rules: Vec<L4RouteRule>, required;
        /// Whether it attaches to default Gateways.
        later "useDefaultGateways" use_default_gateways: Option<String>, one_of("All", "None");
    }

    /// Receivers of connections.
    pub struct L4RouteRule {
        /// Name, unique in the route.
        acts "name" name: Option<String>;
        /// Receivers.
        acts "backendRefs" backend_refs: Vec<BackendRef>, required;
    }

    /// Routes of TLS connections, by server name.
    pub struct TlsRoute {
        /// What is wanted.
        acts "spec" spec: TlsRouteSpec, required;
        /// What is, written by the control plane.
        acts "status" status: RouteStatus;
    }

    /// `spec` of a TLSRoute.
    pub struct TlsRouteSpec {
        /// Gateways or Services to which the route attaches.
        acts "parentRefs" parent_refs: Vec<ParentReference>;
        /// Server names, `*.suffix` allowed; none: those of the listener.
        acts "hostnames" hostnames: Vec<String>;
        /// Rules; the first acts.
        acts "rules" rules: Vec<L4RouteRule>, required;
        /// Whether it attaches to default Gateways.
        later "useDefaultGateways" use_default_gateways: Option<String>, one_of("All", "None");
    }

    /// Lets objects of other namespaces refer to objects of this one.
    pub struct ReferenceGrant {
        /// What is wanted.
        acts "spec" spec: ReferenceGrantSpec, required;
    }

    /// `spec` of a ReferenceGrant.
    pub struct ReferenceGrantSpec {
        /// Who may refer.
        acts "from" from: Vec<GrantFrom>, required;
        /// To what.
        acts "to" to: Vec<GrantTo>, required;
    }

    /// Who may refer.
    pub struct GrantFrom {
        /// API group.
        acts "group" group: String, required;
        /// Kind.
        acts "kind" kind: String, required;
        /// Namespace.
        acts "namespace" namespace: String, required;
    }

    /// To what may be referred.
    pub struct GrantTo {
        /// API group.
        acts "group" group: String, required;
        /// Kind.
        acts "kind" kind: String, required;
        /// Name; absent: all.
        acts "name" name: Option<String>;
    }

    /// TLS of clients and backends of a Gateway.
    pub struct GatewayTls {
        /// Towards backends.
        later "backend" backend: Option<GatewayBackendTls>;
        /// Towards clients.
        denies "frontend" frontend: Option<FrontendTlsConfig>;
    }

    /// TLS towards backends.
    pub struct GatewayBackendTls {
        /// The Gateway's own certificate.
        later "clientCertificateRef" client_certificate_ref: Option<ObjectReference>;
    }

    /// TLS towards clients.
    pub struct FrontendTlsConfig {
        /// On every HTTPS port.
        denies "default" default: Option<FrontendTls>, required;
        /// On single ports.
        denies "perPort" per_port: Vec<PortFrontendTls>, keys("port");
    }

    /// TLS towards the clients of one port.
    pub struct PortFrontendTls {
        /// Port.
        denies "port" port: u16, required;
        /// Settings.
        denies "tls" tls: Option<FrontendTls>, required;
    }

    /// TLS towards clients.
    pub struct FrontendTls {
        /// Verification of clients.
        denies "validation" validation: Option<FrontendValidation>;
    }

    /// Verification of clients.
    pub struct FrontendValidation {
        /// ConfigMaps with authorities.
        denies "caCertificateRefs" ca_certificate_refs: Vec<ObjectReference>;
        /// What happens to clients that fail.
        denies "mode" mode: Option<String>, one_of("AllowValidOnly", "AllowInsecureFallback");
    }

    /// Namespaces whose ListenerSets may attach.
    pub struct AllowedListeners {
        /// Which; absent: none.
        later "namespaces" namespaces: Option<RouteNamespaces>;
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

    /// Keeps a client with its backend.
    pub struct SessionPersistence {
        /// Name of the cookie or header (old form).
        later "sessionName" session_name: Option<String>;
        /// Longest life.
        later "absoluteTimeout" absolute_timeout: Option<Dur>;
        /// Longest time without a request (old form).
        later "idleTimeout" idle_timeout: Option<Dur>;
        /// By what a session is known; absent: a cookie.
        later "type" type_: Option<String>, one_of("Cookie", "Header");
        /// The cookie (old form).
        later "cookieConfig" cookie_config: Option<SessionCookie>;
        /// The cookie.
        later "cookie" cookie: Option<SessionCookie>;
        /// The header.
        later "header" header: Option<SessionHeader>;
    }

    /// The cookie of a session.
    pub struct SessionCookie {
        /// Life of the cookie.
        later "lifetimeType" lifetime_type: Option<String>, one_of("Permanent", "Session");
        /// Name.
        later "name" name: Option<String>;
        /// Path.
        later "path" path: Option<String>;
    }

    /// The header of a session.
    pub struct SessionHeader {
        /// Name.
        later "name" name: Option<String>;
    }
}
