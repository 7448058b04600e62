//! `ServiceEntry`, `WorkloadEntry` and `WorkloadGroup`: services and instances that nothing else announces.

use std::collections::BTreeMap;

use super::{Port, WorkloadSelector};
use crate::schema::described;

described! {
    /// Adds services to the registry.
    pub struct ServiceEntry {
        /// Names; `*.suffix` for resolution NONE and dynamic DNS.
        acts "hosts" hosts: Vec<String>, required;
        /// Virtual addresses or CIDR ranges.
        acts "addresses" addresses: Vec<String>;
        /// Ports.
        acts "ports" ports: Vec<Port>, keys("name");
        /// Inside or outside the mesh.
        acts "location" location: Option<Location>;
        /// How the endpoints' addresses are found.
        acts "resolution" resolution: Resolution, later("DYNAMIC_DNS");
        /// Endpoints.
        acts "endpoints" endpoints: Vec<WorkloadEntry>;
        /// Chooses WorkloadEntries and Pods as endpoints.
        acts "workloadSelector" workload_selector: Option<WorkloadSelector>;
        /// Namespaces that see this object: `.`, `*`, `~` or names; none means all.
        acts "exportTo" export_to: Vec<String>;
        /// Names that the servers' certificates may hold.
        later "subjectAltNames" subject_alt_names: Vec<String>;
    }

    /// Inside or outside the mesh.
    pub enum Location {
        #[default] MeshExternal = "MESH_EXTERNAL",
        MeshInternal = "MESH_INTERNAL",
    }

    /// How the endpoints' addresses are found.
    pub enum Resolution {
        #[default] None = "NONE",
        Static = "STATIC",
        Dns = "DNS",
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        DynamicDns = "DYNAMIC_DNS",
    }

    /// One instance.
    pub struct WorkloadEntry {
        /// IP address, host name, or `unix:///path` (`unix://@name`: an abstract one).
        acts "address" address: String;
        /// Port name to number.
        acts "ports" ports: BTreeMap<String, u16>;
        /// Labels.
        acts "labels" labels: BTreeMap<String, String>;
        /// Network; absent: the caller's.
        later "network" network: String;
        /// `region/zone/subzone`.
        acts "locality" locality: String;
        /// Share relative to other endpoints; absent or 0: 1.
        acts "weight" weight: u32;
        /// Identity of the instance.
        acts "serviceAccount" service_account: String;
    }

    /// What instances of a workload have in common.
    pub struct WorkloadGroup {
        /// Labels and annotations of the entries.
        later "metadata" metadata: Option<GroupMeta>;
        /// What the entries have in common.
        later "template" template: Option<WorkloadEntry>, required;
        /// Check of each instance.
        later "probe" probe: Option<Probe>;
    }

    /// Labels and annotations of a group's entries.
    pub struct GroupMeta {
        /// Labels.
        acts "labels" labels: BTreeMap<String, String>;
        /// Annotations.
        acts "annotations" annotations: BTreeMap<String, String>;
    }

    /// Check of an instance.
    pub struct Probe {
        /// Seconds before the first check.
        later "initialDelaySeconds" initial_delay_seconds: i32;
        /// Seconds an answer may take; absent: 1.
        later "timeoutSeconds" timeout_seconds: i32;
        /// Seconds between checks; absent: 10.
        later "periodSeconds" period_seconds: i32;
        /// Good checks in a row until it is healthy; absent: 1.
        later "successThreshold" success_threshold: i32;
        /// Bad checks in a row until it is unhealthy; absent: 3.
        later "failureThreshold" failure_threshold: i32;
        /// By HTTP.
        later "httpGet" http_get: Option<HttpProbe>;
        /// By connecting.
        later "tcpSocket" tcp_socket: Option<TcpProbe>;
        /// By a command.
        later "exec" exec: Option<ExecProbe>;
        /// By gRPC's health service.
        later "grpc" grpc: Option<GrpcProbe>;
    }

    /// Check by HTTP.
    pub struct HttpProbe {
        /// Path; absent: `/`.
        later "path" path: String;
        /// Port.
        later "port" port: u16, required;
        /// Host; absent: the instance.
        later "host" host: String;
        /// Scheme.
        later "scheme" scheme: String, one_of("HTTP", "HTTPS");
        /// Headers.
        later "httpHeaders" http_headers: Vec<ProbeHeader>;
    }

    /// A header of a check.
    pub struct ProbeHeader {
        /// Name.
        later "name" name: String;
        /// Value.
        later "value" value: String;
    }

    /// Check by connecting.
    pub struct TcpProbe {
        /// Host; absent: the instance.
        later "host" host: String;
        /// Port.
        later "port" port: u16, required;
    }

    /// Check by a command.
    pub struct ExecProbe {
        /// Program and arguments.
        later "command" command: Vec<String>, required;
    }

    /// Check by gRPC's health service.
    pub struct GrpcProbe {
        /// Port.
        later "port" port: u16;
        /// Service that is asked about.
        later "service" service: String;
    }
}
