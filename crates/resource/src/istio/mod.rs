//! Istio's networking kinds.

mod destination_rule;
mod gateway;
mod service_entry;
mod sidecar;
mod virtual_service;

pub use destination_rule::*;
pub use gateway::*;
pub use service_entry::*;
pub use sidecar::*;
pub use virtual_service::*;

use std::collections::BTreeMap;

use crate::schema::described;

described! {
    /// Selects workloads by their labels, in the object's namespace.
    pub struct WorkloadSelector { acts "labels" labels: BTreeMap<String, String>; acts "matchLabels" match_labels: BTreeMap<String, String>; }
    /// A port of a gateway server, a service entry or a sidecar listener.
    pub struct Port { acts "number" number: u16; acts "protocol" protocol: String; acts "name" name: String; acts "targetPort" target_port: Option<u16>; }
    pub struct PortSelector { acts "number" number: u16; }
}
