//! What a port speaks.

/// The protocol of a service port, from `appProtocol`, the port name's prefix or a well-known number, as
/// Istio's `protocol.Parse` reads them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Http,
    /// HTTP/2 by prior knowledge.
    Http2,
    Grpc,
    GrpcWeb,
    /// HTTP inside TLS that the workloads speak themselves: opaque to the mesh but for its SNI.
    Https,
    Tls,
    Tcp,
    Mongo,
    Mysql,
    Redis,
    Udp,
    /// Not declared: the proxy finds out.
    Detect,
}

impl Protocol {
    /// The protocol of that name, in any case; `None` for a name that says nothing.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" | "kubernetes.io/wss" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "mongo" => Self::Mongo,
            "mysql" => Self::Mysql,
            "redis" => Self::Redis,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    /// The protocol of a Kubernetes service port.
    pub fn of_port(l4: &str, app_protocol: Option<&str>, name: &str, number: u16) -> Self {
        if l4.eq_ignore_ascii_case("UDP") {
            return Self::Udp;
        }
        if let Some(protocol) = app_protocol.and_then(Self::parse) {
            return protocol;
        }
        // `grpc-web` has a dash of its own, and as in Istio needs none behind it.
        if name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web")) {
            return Self::GrpcWeb;
        }
        let prefix = name.split('-').next().unwrap_or_default();
        match Self::parse(prefix) {
            Some(protocol) => protocol,
            // Server-first by their number, so that detection never waits on them.
            None if app_protocol.is_none() && matches!(number, 25 | 53 | 3306 | 27017) => Self::Tcp,
            None => Self::Detect,
        }
    }

    /// Routed as HTTP without looking.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// The upstream is spoken to in HTTP/2.
    pub fn is_http2(self) -> bool {
        // As gRPC, which it is translated to.
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Routed by SNI.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Carried over TCP at all.
    pub fn is_tcp_based(self) -> bool {
        self != Self::Udp
    }
}
