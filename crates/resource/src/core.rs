//! Core kinds: what Kubernetes says about services and their instances.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{schema::described, value::IntOrString};

described! {
    pub struct Namespace { acts "spec" spec: Option<Value>; }
    pub struct ServiceAccount { acts "secrets" secrets: Option<Value>; acts "imagePullSecrets" image_pull_secrets: Option<Value>; acts "automountServiceAccountToken" automount_service_account_token: Option<bool>; }
    pub struct ConfigMap { acts "data" data: BTreeMap<String, String>; acts "binaryData" binary_data: BTreeMap<String, String>; acts "immutable" immutable: Option<bool>; }
    pub struct Secret { acts "type" type_: String; acts "data" data: BTreeMap<String, String>; acts "stringData" string_data: BTreeMap<String, String>; acts "immutable" immutable: Option<bool>; }
    pub struct Service { acts "spec" spec: ServiceSpec; }
    pub struct ServiceSpec {
        acts "type" type_: String;
        acts "clusterIP" cluster_ip: String;
        acts "clusterIPs" cluster_ips: Vec<String>;
        acts "ports" ports: Vec<ServicePort>, keys("port", "protocol");
        acts "selector" selector: BTreeMap<String, String>;
        acts "externalName" external_name: String;
        acts "externalIPs" external_ips: Vec<String>;
        acts "publishNotReadyAddresses" publish_not_ready_addresses: bool;
        acts "sessionAffinity" session_affinity: String;
        acts "sessionAffinityConfig" session_affinity_config: Option<Value>;
        acts "ipFamilies" ip_families: Vec<String>;
        acts "ipFamilyPolicy" ip_family_policy: String;
        acts "internalTrafficPolicy" internal_traffic_policy: String;
        acts "externalTrafficPolicy" external_traffic_policy: String;
        acts "healthCheckNodePort" health_check_node_port: Option<i32>;
        acts "allocateLoadBalancerNodePorts" allocate_load_balancer_node_ports: Option<bool>;
        acts "loadBalancerIP" load_balancer_ip: String;
        acts "loadBalancerClass" load_balancer_class: String;
        acts "loadBalancerSourceRanges" load_balancer_source_ranges: Vec<String>;
        acts "trafficDistribution" traffic_distribution: String;
    }
    pub struct ServicePort {
        acts "name" name: String; acts "port" port: u16; acts "protocol" protocol: String; acts "targetPort" target_port: Option<IntOrString>;
        acts "appProtocol" app_protocol: Option<String>; acts "nodePort" node_port: Option<u16>;
    }
    pub struct EndpointSlice {
        acts "addressType" address_type: String; acts "endpoints" endpoints: Vec<Endpoint>; acts "ports" ports: Vec<EndpointPort>;
    }
    pub struct Endpoint {
        acts "addresses" addresses: Vec<String>; acts "conditions" conditions: EndpointConditions; acts "hostname" hostname: Option<String>;
        acts "nodeName" node_name: Option<String>; acts "zone" zone: Option<String>; acts "targetRef" target_ref: Option<TargetRef>; acts "hints" hints: Option<Value>;
        acts "deprecatedTopology" deprecated_topology: BTreeMap<String, String>;
    }
    pub struct EndpointConditions { acts "ready" ready: Option<bool>; acts "serving" serving: Option<bool>; acts "terminating" terminating: Option<bool>; }
    pub struct EndpointPort { acts "name" name: Option<String>; acts "port" port: Option<u16>; acts "protocol" protocol: Option<String>; acts "appProtocol" app_protocol: Option<String>; }
    pub struct TargetRef { acts "apiVersion" api_version: String; acts "kind" kind: String; acts "name" name: String; acts "namespace" namespace: String; acts "uid" uid: String; acts "resourceVersion" resource_version: String; acts "fieldPath" field_path: String; }
    pub struct Pod { acts "spec" spec: PodSpec; acts "status" status: PodStatus; }
    pub struct PodSpec { acts "containers" containers: Vec<Container>, keys("name"); acts "serviceAccountName" service_account_name: String; acts "nodeName" node_name: String; acts "hostNetwork" host_network: bool; }
    pub struct Container { acts "name" name: String; acts "image" image: String; acts "ports" ports: Vec<ContainerPort>; }
    pub struct ContainerPort { acts "name" name: String; acts "containerPort" container_port: u16; acts "protocol" protocol: String; acts "hostPort" host_port: Option<u16>; }
    pub struct PodStatus { acts "phase" phase: String; acts "podIP" pod_ip: String; acts "podIPs" pod_ips: Vec<PodIp>; acts "conditions" conditions: Vec<PodCondition>; }
    pub struct PodIp { acts "ip" ip: String; }
    pub struct PodCondition { acts "type" type_: String; acts "status" status: String; acts "reason" reason: String; }
}
