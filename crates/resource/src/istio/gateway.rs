//! `Gateway` (Istio's): what a gateway proxy listens for.

use std::collections::BTreeMap;

use super::Port;
use crate::schema::described;

described! {
    pub struct Gateway { acts "servers" servers: Vec<Server>; acts "selector" selector: BTreeMap<String, String>; }
    pub struct Server { acts "port" port: Option<Port>; acts "bind" bind: String; acts "hosts" hosts: Vec<String>; acts "tls" tls: Option<ServerTlsSettings>; acts "defaultEndpoint" default_endpoint: String; acts "name" name: String; }
    pub struct ServerTlsSettings {
        acts "httpsRedirect" https_redirect: bool; denies "mode" mode: Option<ServerTlsMode>; denies "serverCertificate" server_certificate: String; denies "privateKey" private_key: String; denies "caCertificates" ca_certificates: String;
        denies "credentialName" credential_name: String; denies "credentialNames" credential_names: Vec<String>; denies "caCertCredentialName" ca_cert_credential_name: String; denies "subjectAltNames" subject_alt_names: Vec<String>; denies "verifyCertificateSpki" verify_certificate_spki: Vec<String>;
        denies "verifyCertificateHash" verify_certificate_hash: Vec<String>; denies "minProtocolVersion" min_protocol_version: Option<String>; denies "maxProtocolVersion" max_protocol_version: Option<String>; denies "cipherSuites" cipher_suites: Vec<String>; denies "caCrl" ca_crl: String; denies "tlsCertificates" tls_certificates: Vec<TlsCertificate>;
    }
    pub struct TlsCertificate { denies "serverCertificate" server_certificate: String; denies "privateKey" private_key: String; denies "caCertificates" ca_certificates: String; }
    pub enum ServerTlsMode { #[default] Passthrough = "PASSTHROUGH", Simple = "SIMPLE", Mutual = "MUTUAL", AutoPassthrough = "AUTO_PASSTHROUGH", IstioMutual = "ISTIO_MUTUAL", OptionalMutual = "OPTIONAL_MUTUAL" }
}
