//! `GatewayClass` and `Gateway`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Condition, ObjectReference};
use crate::schema::described;

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
        acts "allowedListeners" allowed_listeners: Option<AllowedListeners>;
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
        /// Name, unique in the object.
        acts "name" name: String, required;
        /// Host name, `*.suffix` allowed; absent: all.
        acts "hostname" hostname: Option<String>;
        /// Port number.
        acts "port" port: u16, required;
        /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP` or DOMAIN/NAME.
        acts "protocol" protocol: String, required, later("UDP");
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

    /// Routes that may attach.
    pub struct AllowedRoutes {
        /// By namespace.
        acts "namespaces" namespaces: Option<RouteNamespaces>;
        /// By kind; none: by the listener's protocol.
        acts "kinds" kinds: Vec<RouteGroupKind>;
    }

    /// Namespaces of routes that may attach.
    pub struct RouteNamespaces {
        /// Which; absent: `Same` for routes, `None` for ListenerSets.
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

    /// TLS of clients and backends of a Gateway.
    pub struct GatewayTls {
        /// Towards backends.
        acts "backend" backend: Option<GatewayBackendTls>;
        /// Towards clients.
        acts "frontend" frontend: Option<FrontendTlsConfig>;
    }

    /// TLS towards backends.
    pub struct GatewayBackendTls {
        /// The certificate that is shown to backends with a BackendTLSPolicy.
        acts "clientCertificateRef" client_certificate_ref: Option<ObjectReference>;
    }

    /// TLS towards clients.
    pub struct FrontendTlsConfig {
        /// On every HTTPS port.
        acts "default" default: Option<FrontendTls>, required;
        /// On single ports.
        acts "perPort" per_port: Vec<PortFrontendTls>, keys("port");
    }

    /// TLS towards the clients of one port.
    pub struct PortFrontendTls {
        /// Port.
        acts "port" port: u16, required;
        /// Settings.
        acts "tls" tls: Option<FrontendTls>, required;
    }

    /// TLS towards clients.
    pub struct FrontendTls {
        /// Verification of clients.
        acts "validation" validation: Option<FrontendValidation>;
    }

    /// Verification of clients.
    pub struct FrontendValidation {
        /// ConfigMaps with authorities.
        acts "caCertificateRefs" ca_certificate_refs: Vec<ObjectReference>;
        /// What happens to clients that fail.
        acts "mode" mode: Option<String>, one_of("AllowValidOnly", "AllowInsecureFallback");
    }

    /// Namespaces whose ListenerSets may attach.
    pub struct AllowedListeners {
        /// Which; absent, or without `from`: none.
        acts "namespaces" namespaces: Option<RouteNamespaces>;
    }

    /// Further listeners of a Gateway, with an owner of their own.
    pub struct ListenerSet {
        /// What is wanted.
        acts "spec" spec: ListenerSetSpec, required;
        /// What is, written by the control plane.
        acts "status" status: ListenerSetStatus;
    }

    /// `spec` of a ListenerSet.
    pub struct ListenerSetSpec {
        /// The Gateway.
        acts "parentRef" parent_ref: ParentGateway, required;
        /// Listeners, which come after those of the Gateway and of older ListenerSets.
        acts "listeners" listeners: Vec<Listener>, required, keys("name");
    }

    /// The Gateway of a ListenerSet.
    pub struct ParentGateway {
        /// API group; absent: `gateway.networking.k8s.io`.
        acts "group" group: Option<String>;
        /// Kind; absent: `Gateway`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the ListenerSet's.
        acts "namespace" namespace: Option<String>;
    }

    /// `status` of a ListenerSet.
    pub struct ListenerSetStatus {
        /// `Accepted`, `Programmed`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
        /// Of each listener.
        acts "listeners" listeners: Vec<ListenerStatus>, keys("name");
    }
}
