//! The name table as it travels: an xDS resource of our own, and the file a proxy starts from.

use serde::{Deserialize, Serialize};

/// The type under which the table is sent over xDS.
pub const TYPE_URL: &str = "type.googleapis.com/heddle.dev.v1.NameTable";

/// `heddle.dev.v1.NameTable`: every name that one scope of proxies may see.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct NameTable {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<NameEntry>,
    /// Default `cluster.local` when empty.
    #[prost(string, tag = "2")]
    pub cluster_domain: String,
    /// The namespace of the proxies that receive the table; short forms are answered by it. Empty: full
    /// names only, unless the server is told the asker's namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// `heddle.dev.v1.NameEntry`: one host.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct NameEntry {
    /// Full name without the final dot (`reviews.default.svc.cluster.local`, `api.example.com`), or a
    /// wildcard (`*.example.com`), which stands for names of any depth below.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Where the object that declares the host lives. Of several entries for one host, the one in the
    /// asker's namespace wins, then the first.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The service's name, where it has short forms (`reviews`, `reviews.default`, `reviews.default.svc`);
    /// empty for hosts of ServiceEntries.
    #[prost(string, tag = "3")]
    pub service: String,
    /// The service's addresses, IPv4 and IPv6. None and not headless: the name is left to the resolvers.
    #[prost(string, repeated, tag = "4")]
    pub ips: Vec<String>,
    /// Answered with the addresses of `endpoints` instead of `ips`.
    #[prost(bool, tag = "5")]
    pub headless: bool,
    #[prost(message, repeated, tag = "6")]
    pub ports: Vec<NamePort>,
    /// Healthy endpoints; read when headless.
    #[prost(message, repeated, tag = "7")]
    pub endpoints: Vec<NameEndpoint>,
    /// The host is another name for this one (`ExternalName`): answered with a CNAME, and with what the other
    /// has. Empty: it is not.
    #[prost(string, tag = "8")]
    pub alias: String,
}

/// `heddle.dev.v1.NamePort`: what SRV answers.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct NamePort {
    #[prost(string, tag = "1")]
    pub name: String,
    /// The service's port; of a headless service's endpoint, the port it listens on.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// `udp`; anything else is answered as `tcp`.
    #[prost(string, tag = "3")]
    pub protocol: String,
}

/// `heddle.dev.v1.NameEndpoint`: one healthy instance of a headless service.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct NameEndpoint {
    #[prost(string, tag = "1")]
    pub ip: String,
    /// Its own label below the host (`web-0`), answered too. Empty: the address with dashes.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Empty: the entry's ports.
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<NamePort>,
}
