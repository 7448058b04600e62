//! `Gateway` (Istio's): what a gateway proxy listens for.

use std::collections::BTreeMap;

use super::Port;
use crate::schema::described;

described! {
    /// Servers of the proxies that a selector chooses.
    pub struct Gateway {
        /// Servers.
        acts "servers" servers: Vec<Server>;
        /// Labels of the proxies that serve it; none: every gateway.
        acts "selector" selector: BTreeMap<String, String>;
    }

    /// A port with its hosts.
    pub struct Server {
        /// Port.
        acts "port" port: Option<Port>, required;
        /// Address to listen on; absent: all. `unix:///path` or `unix://@name` with port 0: a Unix socket, one for each proxy.
        acts "bind" bind: String;
        /// Hosts, `[NAMESPACE/]NAME`, to which VirtualServices may bind.
        acts "hosts" hosts: Vec<String>, required;
        /// TLS.
        acts "tls" tls: Option<ServerTlsSettings>;
        /// Hidden in Istio's API and without effect there.
        later "defaultEndpoint" default_endpoint: String;
        /// Name, unique in the object.
        acts "name" name: String;
    }

    /// TLS of a server.
    pub struct ServerTlsSettings {
        /// Answer plain HTTP with a redirect (301) to HTTPS.
        acts "httpsRedirect" https_redirect: bool;
        /// How connections are protected.
        acts "mode" mode: Option<ServerTlsMode>, denies("ISTIO_MUTUAL", "AUTO_PASSTHROUGH");
        /// File of the server's certificate, on the proxy's machine.
        acts "serverCertificate" server_certificate: String;
        /// File of its key.
        acts "privateKey" private_key: String;
        /// File of the authorities that clients are verified by.
        acts "caCertificates" ca_certificates: String;
        /// Secret with the server's certificate, in the gateway proxy's namespace: `tls.crt` and `tls.key`, or `cert` and
        /// `key`; clients' authorities in `NAME-cacert` (`cacert` or `ca.crt`), else in it.
        acts "credentialName" credential_name: String;
        /// Secrets with several certificates.
        acts "credentialNames" credential_names: Vec<String>;
        /// Secret of the authorities that clients are verified by.
        acts "caCertCredentialName" ca_cert_credential_name: String;
        /// Names that a client's certificate may hold.
        acts "subjectAltNames" subject_alt_names: Vec<String>;
        /// SHA-256 of the keys of clients' certificates.
        acts "verifyCertificateSpki" verify_certificate_spki: Vec<String>;
        /// SHA-256 of clients' certificates.
        acts "verifyCertificateHash" verify_certificate_hash: Vec<String>;
        /// Oldest version.
        acts "minProtocolVersion" min_protocol_version: Option<String>, one_of("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3");
        /// Newest version.
        acts "maxProtocolVersion" max_protocol_version: Option<String>, one_of("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3");
        /// Cipher suites.
        acts "cipherSuites" cipher_suites: Vec<String>;
        /// File of revoked certificates.
        acts "caCrl" ca_crl: String;
        /// Files of several certificates.
        acts "tlsCertificates" tls_certificates: Vec<TlsCertificate>;
        /// Do not verify clients.
        later "insecureSkipVerify" insecure_skip_verify: Option<bool>;
    }

    /// Files of a certificate.
    pub struct TlsCertificate {
        /// File of the certificate.
        acts "serverCertificate" server_certificate: String;
        /// File of its key.
        acts "privateKey" private_key: String;
        /// File of the authorities that clients are verified by.
        acts "caCertificates" ca_certificates: String;
    }

    /// How connections to a server are protected.
    pub enum ServerTlsMode {
        #[default] Passthrough = "PASSTHROUGH",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        AutoPassthrough = "AUTO_PASSTHROUGH",
        IstioMutual = "ISTIO_MUTUAL",
        OptionalMutual = "OPTIONAL_MUTUAL",
    }
}
