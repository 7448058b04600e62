//! One proxy with a listener for each way to an endpoint, in the clear and over TLS; every listener takes both versions.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use envoy_types::pb::envoy::{config::cluster::v3 as cluster, extensions::transport_sockets::tls::v3 as tls};
use heddle_tests::eventually;
use heddle_xds::Encoded;

use crate::kit::{
    self, Mesh,
    peer::Folder,
    tls::{Authority, Leaf},
};

/// How one side of the proxy is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) http2: bool,
    pub(crate) tls: bool,
}

impl Version {
    pub(crate) const ALL: [Self; 4] = [
        Self { http2: false, tls: false },
        Self { http2: true, tls: false },
        Self { http2: false, tls: true },
        Self { http2: true, tls: true },
    ];

    fn alpn(self) -> Vec<String> {
        vec![if self.http2 { "h2" } else { "http/1.1" }.to_owned()]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP/{}{}", if self.http2 { "2" } else { "1.1" }, if self.tls { " over TLS" } else { "" })
    }
}

/// A version in, a version out, and where that is.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) down: Version,
    pub(crate) up: Version,
    pub(crate) at: SocketAddr,
}

impl Pair {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http{}://{}{path}", if self.down.tls { "s" } else { "" }, self.at)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.down, self.up)
    }
}

/// Certificates for 127.0.0.1.
pub(crate) struct Keys {
    pub(crate) folder: Folder,
    authority: Authority,
    pub(crate) leaf: Leaf,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let (folder, authority) = (Folder::new(), Authority::new("root"));
        let leaf = authority.leaf_with("localhost", |params| {
            params.subject_alt_names.push(rcgen::SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        });
        std::fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
        leaf.write(&folder.0, "leaf");
        Self { folder, authority, leaf }
    }

    /// A server that speaks one version.
    pub(crate) fn acceptor(&self, version: Version) -> tokio_rustls::TlsAcceptor {
        let issued = heddle_tests::tls::Issued { chain: self.leaf.chain.clone(), key: self.leaf.key.clone() };
        heddle_tests::tls::acceptor_of(&issued, None, version.alpn())
    }

    /// A file of the folder: `ca.pem`, `leaf.pem`, `leaf.key`.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.0.join(name).display().to_string()
    }
}

pub(crate) struct Bed {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) keys: Keys,
    _mesh: Mesh,
}

impl Bed {
    /// `endpoints`: who is behind, by how they are spoken to. A version that has nobody has no pairs.
    pub(crate) async fn start(keys: Keys, endpoints: &[(Version, SocketAddr)]) -> Self {
        let mut pairs = Vec::new();
        for (up, _) in endpoints {
            for tls in [false, true] {
                let port = heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
                let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                pairs.extend([false, true].map(|http2| Pair { down: Version { http2, tls }, up: *up, at }));
            }
        }
        let mesh = Mesh::start(2, |_| configuration(&keys, endpoints, &pairs)).await;
        for pair in &pairs {
            eventually("the listener is open", || async {
                tokio::net::TcpStream::connect(pair.at).await.map(drop).map_err(|e| format!("{pair}: {e}"))
            })
            .await;
        }
        Self { pairs, keys, _mesh: mesh }
    }

    /// The pairs that a kind of client can speak.
    pub(crate) fn pairs(&self, speaks: impl Fn(Version) -> bool) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(move |pair| speaks(pair.down))
    }
}

fn configuration(keys: &Keys, endpoints: &[(Version, SocketAddr)], pairs: &[Pair]) -> Vec<Arc<Encoded>> {
    let clusters = endpoints.iter().map(|(up, at)| kit::encoded_cluster(&towards(keys, *up, *at)));
    // Both versions come to one listener.
    let listeners = pairs.iter().filter(|pair| pair.down.http2).map(|pair| {
        let mut manager = kit::connection_manager(vec![kit::to_cluster("/", &pair.up.to_string())]);
        manager.http2_protocol_options.get_or_insert_default().allow_connect = true;
        let mut common = kit::tls::presenting(&keys.leaf);
        common.alpn_protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
        let mut listener =
            kit::tls::secured(pair.at, kit::http_filter(&manager), &kit::tls::downstream(common));
        if !pair.down.tls {
            listener.filter_chains[0].transport_socket = None;
        }
        listener.name = pair.to_string();
        kit::encoded_listener(&listener)
    });
    clusters.chain(listeners).collect()
}

fn towards(keys: &Keys, up: Version, at: SocketAddr) -> cluster::Cluster {
    let mut cluster = kit::static_cluster(&up.to_string(), &[at]);
    if up.http2 {
        cluster = kit::http2(cluster);
    }
    if up.tls {
        let validation = kit::tls::trusting(&keys.authority.pem);
        let common = tls::CommonTlsContext { alpn_protocols: up.alpn(), ..Default::default() };
        let context = tls::UpstreamTlsContext {
            common_tls_context: Some(kit::tls::validated_by(common, validation)),
            sni: "localhost".to_owned(),
            ..Default::default()
        };
        cluster.transport_socket = kit::tls::socket("UpstreamTlsContext", &context);
    }
    cluster
}
