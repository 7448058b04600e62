//! Fuzz targets: plain functions over bytes, for whatever an outsider can send. They must not panic.

mod admit;
mod dns;
mod frames;
mod hello;
mod hpack;
mod http1;
mod tls;
mod xds;
mod xds_session;

pub use admit::admit_yaml;
pub use dns::{dns_names, dns_question};
pub use frames::{h2_client, h2_server};
pub use hello::{proxy_protocol, tls_hello};
pub use hpack::{hpack_blocks, hpack_fields};
pub use http1::{chunked, http1_request, http1_response};
pub use tls::{tls_handshake, tls_records};
pub use xds::xds_into_snapshot;
pub use xds_session::xds_session;

/// A function that must take any bytes, and what good input looks like.
pub struct Target {
    pub name: &'static str,
    /// True when the input was taken for what it should be and reached the code behind the parser.
    pub run: fn(&[u8]) -> bool,
    pub corpus: &'static [&'static [u8]],
    /// The files and folders of the code that it is for.
    pub code: &'static [&'static str],
}

macro_rules! targets {
    ($($run:ident, $corpus:expr, $($code:literal)*;)*) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($run), run: $run, corpus: $corpus, code: &[$($code),*] }),*];
    };
}

targets! {
    admit_yaml, admit::CORPUS, "crates/resource/src";
    http1_request, http1::REQUESTS, "crates/proxy/src/http/h1";
    http1_response, http1::RESPONSES, "crates/proxy/src/http/h1";
    chunked, http1::CHUNKED, "crates/proxy/src/http/h1/chunked.rs";
    hpack_blocks, hpack::BLOCKS, "crates/proxy/src/http/h2/hpack";
    hpack_fields, hpack::FIELDS, "crates/proxy/src/http/h2/hpack";
    h2_client, frames::CLIENTS, "crates/proxy/src/http/h2";
    h2_server, frames::SERVERS, "crates/proxy/src/http/h2";
    tls_hello, hello::CORPUS, "crates/proxy/src/conn/hello.rs";
    tls_handshake, tls::HANDSHAKES, "crates/proxy/src/tls";
    tls_records, tls::RECORDS, "crates/proxy/src/tls/record.rs" "crates/proxy/src/tls/session.rs";
    proxy_protocol, hello::PROXY_PROTOCOL, "crates/proxy/src/conn/proxy_protocol.rs";
    xds_into_snapshot, xds::CORPUS, "crates/proxy/src/snapshot" "crates/proxy/src/decide";
    xds_session, xds_session::CORPUS, "crates/xds/src";
    dns_question, dns::QUESTIONS, "crates/dns/src";
    dns_names, dns::TABLES, "crates/dns/src";
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_target_has_good_input_and_code() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for target in super::TARGETS {
            assert!(target.corpus.iter().any(|input| (target.run)(input)), "{}", target.name);
            for code in target.code {
                assert!(root.join(code).exists(), "{}: {code}", target.name);
            }
        }
    }

    #[test]
    fn header_blocks_are_good_to_the_end() {
        assert!(super::hpack::BLOCKS.iter().all(|input| super::hpack_blocks(input)));
        assert!(super::hpack::FIELDS.iter().all(|input| super::hpack_fields(input)));
    }
}
