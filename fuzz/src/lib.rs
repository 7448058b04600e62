//! Fuzz targets: plain functions over bytes, for whatever an outsider can send. They must not panic.

mod admit;
mod dns;
mod hello;
mod http1;
mod tls;
mod xds;
mod xds_session;

pub use admit::admit_yaml;
pub use dns::{dns_names, dns_question};
pub use hello::{proxy_protocol, tls_hello};
pub use http1::{http1_request, http1_response};
pub use tls::{tls_handshake, tls_records};
pub use xds::xds_into_snapshot;
pub use xds_session::xds_session;

/// A function that must take any bytes, and what good input looks like.
pub struct Target {
    pub name: &'static str,
    /// True when the input was taken for what it should be and reached the code behind the parser.
    pub run: fn(&[u8]) -> bool,
    pub corpus: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "admit_yaml", run: admit_yaml, corpus: admit::CORPUS },
    Target { name: "http1_request", run: http1_request, corpus: http1::REQUESTS },
    Target { name: "http1_response", run: http1_response, corpus: http1::RESPONSES },
    Target { name: "tls_hello", run: tls_hello, corpus: hello::CORPUS },
    Target { name: "tls_handshake", run: tls_handshake, corpus: tls::HANDSHAKES },
    Target { name: "tls_records", run: tls_records, corpus: tls::RECORDS },
    Target { name: "proxy_protocol", run: proxy_protocol, corpus: hello::PROXY_PROTOCOL },
    Target { name: "xds_into_snapshot", run: xds_into_snapshot, corpus: xds::CORPUS },
    Target { name: "xds_session", run: xds_session, corpus: xds_session::CORPUS },
    Target { name: "dns_question", run: dns_question, corpus: dns::QUESTIONS },
    Target { name: "dns_names", run: dns_names, corpus: dns::TABLES },
];
