//! Core kinds: what Kubernetes says about services and their instances.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{schema::described, value::IntOrString};

described! {
    /// A name space.
    pub struct Namespace {
        /// What is wanted.
        acts "spec" spec: Option<Value>;
    }

    /// Identity of workloads.
    pub struct ServiceAccount {
        /// Secrets that its workloads may use.
        acts "secrets" secrets: Option<Value>, keys("name");
        /// Secrets for pulling images.
        acts "imagePullSecrets" image_pull_secrets: Option<Value>;
        /// Whether its token is mounted.
        acts "automountServiceAccountToken" automount_service_account_token: Option<bool>;
    }

    /// Settings and certificates of authorities.
    pub struct ConfigMap {
        /// Values.
        acts "data" data: BTreeMap<String, String>;
        /// Values in base64.
        acts "binaryData" binary_data: BTreeMap<String, String>;
        /// Whether it may not change.
        acts "immutable" immutable: Option<bool>;
    }

    /// Keys, certificates, passwords.
    pub struct Secret {
        /// `Opaque`, `kubernetes.io/tls` and others.
        acts "type" type_: String;
        /// Values in base64.
        acts "data" data: BTreeMap<String, String>;
        /// Values in clear; written into `data` on admission.
        acts "stringData" string_data: BTreeMap<String, String>;
        /// Whether it may not change.
        acts "immutable" immutable: Option<bool>;
    }

    /// A name, its ports, and the selector of its endpoints.
    pub struct Service {
        /// What is wanted.
        acts "spec" spec: ServiceSpec;
    }

    /// What is wanted of a service.
    pub struct ServiceSpec {
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        acts "type" type_: String, one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName");
        /// Virtual address; `None`: headless; empty: assigned.
        acts "clusterIP" cluster_ip: String;
        /// Virtual addresses of both families.
        acts "clusterIPs" cluster_ips: Vec<String>;
        /// Ports.
        acts "ports" ports: Vec<ServicePort>, keys("port", "protocol");
        /// Labels of its endpoints; none: endpoints come from elsewhere.
        acts "selector" selector: BTreeMap<String, String>;
        /// The name that stands for the service, for `ExternalName`.
        acts "externalName" external_name: String;
        /// Further addresses.
        later "externalIPs" external_ips: Vec<String>;
        /// Endpoints that are not ready have names too.
        later "publishNotReadyAddresses" publish_not_ready_addresses: bool;
        /// `ClientIP` or `None`.
        acts "sessionAffinity" session_affinity: String, later("ClientIP"), one_of("None", "ClientIP");
        /// Settings of session affinity.
        later "sessionAffinityConfig" session_affinity_config: Option<Value>;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "ipFamilies" ip_families: Vec<String>;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "ipFamilyPolicy" ip_family_policy: String;
        /// `Cluster` or `Local`.
        acts "internalTrafficPolicy" internal_traffic_policy: String, later("Local"), one_of("Cluster", "Local");
        /// Kept for Kubernetes; a mesh does not read it.
        acts "externalTrafficPolicy" external_traffic_policy: String, one_of("Cluster", "Local");
        /// Kept for Kubernetes; a mesh does not read it.
        acts "healthCheckNodePort" health_check_node_port: Option<i32>;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "allocateLoadBalancerNodePorts" allocate_load_balancer_node_ports: Option<bool>;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "loadBalancerIP" load_balancer_ip: String;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "loadBalancerClass" load_balancer_class: String;
        /// Callers that a load balancer lets in.
        later "loadBalancerSourceRanges" load_balancer_source_ranges: Vec<String>;
        /// `PreferClose` and others.
        later "trafficDistribution" traffic_distribution: String;
    }

    /// A port of a service.
    pub struct ServicePort {
        /// Name; its prefix tells the protocol.
        acts "name" name: String;
        /// Port number.
        acts "port" port: u16, required;
        /// `TCP`, `UDP` or `SCTP`; absent: TCP.
        acts "protocol" protocol: String, one_of("TCP", "UDP", "SCTP");
        /// Port of the endpoints, by number or name; absent: `port`.
        acts "targetPort" target_port: Option<IntOrString>;
        /// Protocol above it (`http`, `kubernetes.io/h2c` ...).
        acts "appProtocol" app_protocol: Option<String>;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "nodePort" node_port: Option<u16>;
    }

    /// Some of a service's endpoints (label `kubernetes.io/service-name`).
    pub struct EndpointSlice {
        /// `IPv4`, `IPv6` or `FQDN`.
        acts "addressType" address_type: String, required, one_of("IPv4", "IPv6", "FQDN");
        /// Endpoints.
        acts "endpoints" endpoints: Vec<Endpoint>;
        /// Ports that all of them serve.
        acts "ports" ports: Vec<EndpointPort>;
    }

    /// One endpoint.
    pub struct Endpoint {
        /// Addresses, of which the first counts.
        acts "addresses" addresses: Vec<String>, required;
        /// Its state.
        acts "conditions" conditions: EndpointConditions;
        /// Name under a headless service.
        acts "hostname" hostname: Option<String>;
        /// Node.
        acts "nodeName" node_name: Option<String>;
        /// Zone.
        acts "zone" zone: Option<String>;
        /// The Pod behind it.
        acts "targetRef" target_ref: Option<TargetRef>;
        /// Hints for routing by topology.
        later "hints" hints: Option<Value>;
        /// Topology of older versions.
        acts "deprecatedTopology" deprecated_topology: BTreeMap<String, String>;
    }

    /// State of an endpoint; absent fields mean ready and serving.
    pub struct EndpointConditions {
        /// It may receive new traffic.
        acts "ready" ready: Option<bool>;
        /// It answers, though it may be ending.
        acts "serving" serving: Option<bool>;
        /// It is ending.
        acts "terminating" terminating: Option<bool>;
    }

    /// A port of endpoints.
    pub struct EndpointPort {
        /// Name, that of the service's port.
        acts "name" name: Option<String>;
        /// Number; absent: all.
        acts "port" port: Option<u16>;
        /// `TCP`, `UDP` or `SCTP`; absent: TCP.
        acts "protocol" protocol: Option<String>, one_of("TCP", "UDP", "SCTP");
        /// Protocol above it.
        acts "appProtocol" app_protocol: Option<String>;
    }

    /// Names an object.
    pub struct TargetRef {
        /// API version.
        acts "apiVersion" api_version: String;
        /// Kind.
        acts "kind" kind: String;
        /// Name.
        acts "name" name: String;
        /// Namespace.
        acts "namespace" namespace: String;
        /// UID.
        acts "uid" uid: String;
        /// Resource version.
        acts "resourceVersion" resource_version: String;
        /// Part of the object.
        acts "fieldPath" field_path: String;
    }

    /// An instance in Kubernetes.
    pub struct Pod {
        /// What is wanted.
        acts "spec" spec: PodSpec;
        /// What is.
        acts "status" status: PodStatus;
    }

    /// What is wanted of a Pod.
    pub struct PodSpec {
        /// Containers.
        acts "containers" containers: Vec<Container>, keys("name");
        /// Identity.
        acts "serviceAccountName" service_account_name: String;
        /// Node.
        acts "nodeName" node_name: String;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "hostNetwork" host_network: bool;
    }

    /// One container.
    pub struct Container {
        /// Name.
        acts "name" name: String, required;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "image" image: String;
        /// Ports.
        acts "ports" ports: Vec<ContainerPort>, keys("containerPort", "protocol");
    }

    /// A port of a container.
    pub struct ContainerPort {
        /// Name, to which a service's `targetPort` may refer.
        acts "name" name: String;
        /// Port.
        acts "containerPort" container_port: u16, required;
        /// `TCP`, `UDP` or `SCTP`; absent: TCP.
        acts "protocol" protocol: String;
        /// Kept for Kubernetes; a mesh does not read it.
        acts "hostPort" host_port: Option<u16>;
    }

    /// What a Pod is.
    pub struct PodStatus {
        /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        acts "phase" phase: String;
        /// Address.
        acts "podIP" pod_ip: String;
        /// Addresses of both families.
        acts "podIPs" pod_ips: Vec<PodIp>, keys("ip");
        /// `Ready` and others.
        acts "conditions" conditions: Vec<PodCondition>, keys("type");
    }

    /// One address of a Pod.
    pub struct PodIp {
        /// The address.
        acts "ip" ip: String, required;
    }

    /// A condition of a core object.
    pub struct PodCondition {
        /// Name of the condition.
        acts "type" type_: String, required;
        /// `True`, `False` or `Unknown`.
        acts "status" status: String, required;
        /// One word for machines.
        acts "reason" reason: String;
    }
}
