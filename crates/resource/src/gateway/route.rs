//! `HTTPRoute`, `GRPCRoute`, `TCPRoute`, `TLSRoute`.

use super::{Condition, HttpRouteFilter};
use crate::{schema::described, value::Dur};

described! {
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
