//! `ServiceEntry`, `WorkloadEntry` and `WorkloadGroup`: services and instances that nothing else announces.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Port, WorkloadSelector};
use crate::schema::described;

described! {
    pub struct ServiceEntry {
        acts "hosts" hosts: Vec<String>; acts "addresses" addresses: Vec<String>; acts "ports" ports: Vec<Port>, keys("number"); acts "location" location: Option<Location>; acts "resolution" resolution: Resolution;
        acts "endpoints" endpoints: Vec<WorkloadEntry>; acts "workloadSelector" workload_selector: Option<WorkloadSelector>; acts "exportTo" export_to: Vec<String>; acts "subjectAltNames" subject_alt_names: Vec<String>;
    }
    pub enum Location { #[default] MeshExternal = "MESH_EXTERNAL", MeshInternal = "MESH_INTERNAL" }
    pub enum Resolution { #[default] None = "NONE", Static = "STATIC", Dns = "DNS", DnsRoundRobin = "DNS_ROUND_ROBIN", DynamicDns = "DYNAMIC_DNS" }
    pub struct WorkloadEntry {
        acts "address" address: String; acts "ports" ports: BTreeMap<String, u16>; acts "labels" labels: BTreeMap<String, String>; later "network" network: String; acts "locality" locality: String; acts "weight" weight: u32;
        acts "serviceAccount" service_account: String;
    }
    pub struct WorkloadGroup { acts "metadata" metadata: Option<GroupMeta>; acts "template" template: Option<WorkloadEntry>; later "probe" probe: Option<Probe>; }
    pub struct GroupMeta { acts "labels" labels: BTreeMap<String, String>; acts "annotations" annotations: BTreeMap<String, String>; }
    pub struct Probe {
        later "initialDelaySeconds" initial_delay_seconds: i32; later "timeoutSeconds" timeout_seconds: i32; later "periodSeconds" period_seconds: i32; later "successThreshold" success_threshold: i32; later "failureThreshold" failure_threshold: i32;
        later "httpGet" http_get: Option<Value>; later "tcpSocket" tcp_socket: Option<Value>; later "exec" exec: Option<Value>; later "grpc" grpc: Option<Value>;
    }
}
