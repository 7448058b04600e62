//! `BackendTLSPolicy`: TLS from gateways to backends.

use std::collections::BTreeMap;

use super::{Condition, ParentReference};
use crate::schema::described;

described! {
    /// TLS from the Gateways that route to a Service to its endpoints.
    pub struct BackendTlsPolicy {
        /// What is wanted.
        acts "spec" spec: BackendTlsPolicySpec, required;
        /// What is, written by the control plane.
        acts "status" status: PolicyStatus;
    }

    /// `spec` of a BackendTLSPolicy.
    pub struct BackendTlsPolicySpec {
        /// Services of its namespace; of policies for one port, that which names it goes before one that does not,
        /// then the older.
        acts "targetRefs" target_refs: Vec<PolicyTarget>, required;
        /// How the backend is verified.
        acts "validation" validation: Option<BackendTlsValidation>, required;
        /// Further settings.
        later "options" options: BTreeMap<String, String>;
    }

    /// A Service, or one of its ports.
    pub struct PolicyTarget {
        /// API group: `""`.
        acts "group" group: String;
        /// Kind: `Service`.
        acts "kind" kind: String, required;
        /// Name.
        acts "name" name: String, required;
        /// Name of a port; absent: all.
        acts "sectionName" section_name: Option<String>;
    }

    /// How a backend is verified.
    pub struct BackendTlsValidation {
        /// Authorities: ConfigMaps or Secrets of its namespace with `ca.crt`.
        acts "caCertificateRefs" ca_certificate_refs: Vec<LocalReference>;
        /// `System`: the authorities that the proxy's machine trusts.
        acts "wellKnownCACertificates" well_known_ca_certificates: Option<String>;
        /// Server name that is asked for, and, without subjectAltNames, verified.
        acts "hostname" hostname: String, required;
        /// Names of which the certificate has to hold one.
        acts "subjectAltNames" subject_alt_names: Vec<SubjectAltName>;
    }

    /// An object of the same namespace.
    pub struct LocalReference {
        /// API group: `""`.
        acts "group" group: String;
        /// Kind: `ConfigMap` or `Secret`.
        acts "kind" kind: String, required;
        /// Name.
        acts "name" name: String, required;
    }

    /// A name in a certificate.
    pub struct SubjectAltName {
        /// `Hostname` or `URI`.
        acts "type" type_: String, required, one_of("Hostname", "URI");
        /// For `Hostname`.
        acts "hostname" hostname: Option<String>;
        /// For `URI`.
        acts "uri" uri: Option<String>;
    }

    /// `status` of a policy.
    pub struct PolicyStatus {
        /// One entry per Gateway and controller.
        acts "ancestors" ancestors: Vec<PolicyAncestorStatus>;
    }

    /// Status of a policy towards one Gateway.
    pub struct PolicyAncestorStatus {
        /// The Gateway.
        acts "ancestorRef" ancestor_ref: ParentReference, required;
        /// Who writes the entry.
        acts "controllerName" controller_name: String, required;
        /// `Accepted`, `ResolvedRefs`.
        acts "conditions" conditions: Vec<Condition>, keys("type");
    }
}
