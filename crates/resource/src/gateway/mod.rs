//! Gateway API kinds.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{schema::described, value::Dur};

described! {
    pub struct GatewayClass { acts "spec" spec: GatewayClassSpec; acts "status" status: GatewayClassStatus; }
    pub struct GatewayClassSpec { acts "controllerName" controller_name: String; later "parametersRef" parameters_ref: Option<Value>; acts "description" description: Option<String>; }
    pub struct GatewayClassStatus { acts "conditions" conditions: Vec<Condition>, keys("type"); acts "supportedFeatures" supported_features: Vec<SupportedFeature>, keys("name"); }
    pub struct SupportedFeature { acts "name" name: String; }
    /// A status condition as Kubernetes has it.
    pub struct Condition { acts "type" type_: String; acts "status" status: String; acts "observedGeneration" observed_generation: Option<i64>; acts "lastTransitionTime" last_transition_time: String; acts "reason" reason: String; acts "message" message: String; }
    pub struct Gateway { acts "spec" spec: GatewaySpec; acts "status" status: GatewayStatus; }
    pub struct GatewaySpec {
        acts "gatewayClassName" gateway_class_name: String; acts "listeners" listeners: Vec<Listener>, keys("name"); acts "addresses" addresses: Vec<GatewayAddress>; later "infrastructure" infrastructure: Option<Value>;
        denies "allowedListeners" allowed_listeners: Option<Value>; denies "tls" tls: Option<Value>; later "defaultScope" default_scope: Option<String>;
    }
    pub struct GatewayAddress { acts "type" type_: Option<String>; acts "value" value: String; }
    pub struct Listener { acts "name" name: String; acts "hostname" hostname: Option<String>; acts "port" port: u16; acts "protocol" protocol: String; denies "tls" tls: Option<ListenerTls>; acts "allowedRoutes" allowed_routes: Option<AllowedRoutes>; }
    pub struct ListenerTls { denies "mode" mode: Option<String>; denies "certificateRefs" certificate_refs: Vec<ObjectReference>; denies "frontendValidation" frontend_validation: Option<Value>; denies "options" options: BTreeMap<String, String>; }
    pub struct ObjectReference { acts "group" group: Option<String>; acts "kind" kind: Option<String>; acts "name" name: String; acts "namespace" namespace: Option<String>; }
    pub struct AllowedRoutes { acts "namespaces" namespaces: Option<RouteNamespaces>; acts "kinds" kinds: Vec<RouteGroupKind>; }
    pub struct RouteNamespaces { acts "from" from: Option<String>; acts "selector" selector: Option<LabelSelector>; }
    pub struct LabelSelector { acts "matchLabels" match_labels: BTreeMap<String, String>; acts "matchExpressions" match_expressions: Vec<LabelRequirement>; }
    pub struct LabelRequirement { acts "key" key: String; acts "operator" operator: String; acts "values" values: Vec<String>; }
    pub struct RouteGroupKind { acts "group" group: Option<String>; acts "kind" kind: String; }
    pub struct GatewayStatus { acts "addresses" addresses: Vec<GatewayAddress>; acts "conditions" conditions: Vec<Condition>, keys("type"); acts "listeners" listeners: Vec<ListenerStatus>, keys("name"); acts "attachedListenerSets" attached_listener_sets: Option<i32>; }
    pub struct ListenerStatus { acts "name" name: String; acts "supportedKinds" supported_kinds: Vec<RouteGroupKind>; acts "attachedRoutes" attached_routes: Option<i32>; acts "conditions" conditions: Vec<Condition>, keys("type"); }

    pub struct ParentReference { acts "group" group: Option<String>; acts "kind" kind: Option<String>; acts "namespace" namespace: Option<String>; acts "name" name: String; acts "sectionName" section_name: Option<String>; acts "port" port: Option<u16>; }
    pub struct RouteStatus { acts "parents" parents: Vec<RouteParentStatus>; }
    pub struct RouteParentStatus { acts "parentRef" parent_ref: ParentReference; acts "controllerName" controller_name: String; acts "conditions" conditions: Vec<Condition>, keys("type"); }

    pub struct HttpRoute { acts "spec" spec: HttpRouteSpec; acts "status" status: RouteStatus; }
    pub struct HttpRouteSpec { acts "parentRefs" parent_refs: Vec<ParentReference>; acts "hostnames" hostnames: Vec<String>; acts "rules" rules: Vec<HttpRouteRule>; later "useDefaultGateways" use_default_gateways: Option<String>; }
    pub struct HttpRouteRule {
        acts "name" name: Option<String>; acts "matches" matches: Vec<HttpRouteMatch>; acts "filters" filters: Vec<HttpRouteFilter>; acts "backendRefs" backend_refs: Vec<HttpBackendRef>; acts "timeouts" timeouts: Option<HttpRouteTimeouts>;
        acts "retry" retry: Option<HttpRouteRetry>; later "sessionPersistence" session_persistence: Option<Value>;
    }
    pub struct HttpRouteTimeouts { acts "request" request: Option<Dur>; acts "backendRequest" backend_request: Option<Dur>; }
    pub struct HttpRouteRetry { acts "codes" codes: Vec<u32>; acts "attempts" attempts: Option<i32>; acts "backoff" backoff: Option<Dur>; }
    pub struct HttpRouteMatch { acts "path" path: Option<HttpPathMatch>; acts "headers" headers: Vec<HttpHeaderMatch>, keys("name"); acts "queryParams" query_params: Vec<HttpHeaderMatch>, keys("name"); acts "method" method: Option<String>; }
    pub struct HttpPathMatch { acts "type" type_: Option<String>; acts "value" value: Option<String>; }
    pub struct HttpHeaderMatch { acts "type" type_: Option<String>; acts "name" name: String; acts "value" value: String; }
    pub struct HttpRouteFilter {
        acts "type" type_: String; acts "requestHeaderModifier" request_header_modifier: Option<HeaderFilter>; acts "responseHeaderModifier" response_header_modifier: Option<HeaderFilter>; acts "requestMirror" request_mirror: Option<MirrorFilter>;
        acts "requestRedirect" request_redirect: Option<RedirectFilter>; acts "urlRewrite" url_rewrite: Option<UrlRewriteFilter>; acts "cors" cors: Option<CorsFilter>; denies "externalAuth" external_auth: Option<Value>; later "extensionRef" extension_ref: Option<ObjectReference>;
    }
    pub struct HeaderFilter { acts "set" set: Vec<HttpHeader>, keys("name"); acts "add" add: Vec<HttpHeader>, keys("name"); acts "remove" remove: Vec<String>; }
    pub struct HttpHeader { acts "name" name: String; acts "value" value: String; }
    pub struct MirrorFilter { acts "backendRef" backend_ref: BackendReference; acts "percent" percent: Option<i32>; acts "fraction" fraction: Option<Fraction>; }
    pub struct Fraction { acts "numerator" numerator: i32; acts "denominator" denominator: Option<i32>; }
    pub struct RedirectFilter { acts "scheme" scheme: Option<String>; acts "hostname" hostname: Option<String>; acts "path" path: Option<PathModifier>; acts "port" port: Option<u16>; acts "statusCode" status_code: Option<u16>; }
    pub struct PathModifier { acts "type" type_: String; acts "replaceFullPath" replace_full_path: Option<String>; acts "replacePrefixMatch" replace_prefix_match: Option<String>; }
    pub struct UrlRewriteFilter { acts "hostname" hostname: Option<String>; acts "path" path: Option<PathModifier>; }
    pub struct CorsFilter {
        acts "allowOrigins" allow_origins: Vec<String>; acts "allowCredentials" allow_credentials: Option<bool>; acts "allowMethods" allow_methods: Vec<String>; acts "allowHeaders" allow_headers: Vec<String>;
        acts "exposeHeaders" expose_headers: Vec<String>; acts "maxAge" max_age: Option<i32>;
    }
    pub struct BackendReference { acts "group" group: Option<String>; acts "kind" kind: Option<String>; acts "name" name: String; acts "namespace" namespace: Option<String>; acts "port" port: Option<u16>; }
    pub struct HttpBackendRef { acts "group" group: Option<String>; acts "kind" kind: Option<String>; acts "name" name: String; acts "namespace" namespace: Option<String>; acts "port" port: Option<u16>; acts "weight" weight: Option<i32>; acts "filters" filters: Vec<HttpRouteFilter>; }
    pub struct BackendRef { acts "group" group: Option<String>; acts "kind" kind: Option<String>; acts "name" name: String; acts "namespace" namespace: Option<String>; acts "port" port: Option<u16>; acts "weight" weight: Option<i32>; }

    pub struct GrpcRoute { acts "spec" spec: GrpcRouteSpec; acts "status" status: RouteStatus; }
    pub struct GrpcRouteSpec { acts "parentRefs" parent_refs: Vec<ParentReference>; acts "hostnames" hostnames: Vec<String>; acts "rules" rules: Vec<GrpcRouteRule>; later "useDefaultGateways" use_default_gateways: Option<String>; }
    pub struct GrpcRouteRule { acts "name" name: Option<String>; acts "matches" matches: Vec<GrpcRouteMatch>; acts "filters" filters: Vec<HttpRouteFilter>; acts "backendRefs" backend_refs: Vec<HttpBackendRef>; later "sessionPersistence" session_persistence: Option<Value>; }
    pub struct GrpcRouteMatch { acts "method" method: Option<GrpcMethodMatch>; acts "headers" headers: Vec<HttpHeaderMatch>, keys("name"); }
    pub struct GrpcMethodMatch { acts "type" type_: Option<String>; acts "service" service: Option<String>; acts "method" method: Option<String>; }

    pub struct TcpRoute { acts "spec" spec: TcpRouteSpec; acts "status" status: RouteStatus; }
    pub struct TcpRouteSpec { acts "parentRefs" parent_refs: Vec<ParentReference>; acts "rules" rules: Vec<L4RouteRule>; later "useDefaultGateways" use_default_gateways: Option<String>; }
    pub struct L4RouteRule { acts "name" name: Option<String>; acts "backendRefs" backend_refs: Vec<BackendRef>; }
    pub struct TlsRoute { acts "spec" spec: TlsRouteSpec; acts "status" status: RouteStatus; }
    pub struct TlsRouteSpec { acts "parentRefs" parent_refs: Vec<ParentReference>; acts "hostnames" hostnames: Vec<String>; acts "rules" rules: Vec<L4RouteRule>; later "useDefaultGateways" use_default_gateways: Option<String>; }

    pub struct ReferenceGrant { acts "spec" spec: ReferenceGrantSpec; }
    pub struct ReferenceGrantSpec { acts "from" from: Vec<GrantFrom>; acts "to" to: Vec<GrantTo>; }
    pub struct GrantFrom { acts "group" group: String; acts "kind" kind: String; acts "namespace" namespace: String; }
    pub struct GrantTo { acts "group" group: String; acts "kind" kind: String; acts "name" name: Option<String>; }
}
