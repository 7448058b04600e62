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
    pub struct WorkloadSelector {
        /// Labels that a workload must have, all of them.
        acts "labels" labels: BTreeMap<String, String>;
        /// The same, as `DestinationRule` names it; labels of both spellings must be there.
        acts "matchLabels" match_labels: BTreeMap<String, String>;
    }

    /// A port of a gateway server, a service entry or a sidecar listener.
    pub struct Port {
        /// Port number, 1 to 65535.
        acts "number" number: u16, required;
        /// `HTTP`, `HTTPS`, `HTTP2`, `GRPC`, `GRPC-WEB`, `TLS`, `TCP`, `MONGO`, `MYSQL`, `REDIS`.
        acts "protocol" protocol: String;
        /// Label of the port.
        acts "name" name: String;
        /// Deprecated and without meaning in Istio.
        acts "targetPort" target_port: Option<u16>;
    }

    /// Names a port by its number.
    pub struct PortSelector {
        /// Port number, 1 to 65535.
        acts "number" number: u16;
    }
}

impl WorkloadSelector {
    /// The labels of both spellings.
    pub fn all(&self) -> impl Iterator<Item = (&String, &String)> {
        self.labels.iter().chain(&self.match_labels)
    }

    /// Whether it selects every workload.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.match_labels.is_empty()
    }
}
