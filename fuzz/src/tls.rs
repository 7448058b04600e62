//! TLS before, at and after the handshake, with a certificate made for the run.

use std::sync::LazyLock;

use heddle_proxy::tls::probe::Probe;

static PROBE: LazyLock<Probe> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["probe.example.com".to_owned()]);
    let made = made.expect("a certificate");
    Probe::new(&made.cert.pem(), &made.signing_key.serialize_pem()).expect("a probe")
});

/// Nothing changed, one byte changed here and there, and bytes that stand alone, for either side.
pub(crate) const HANDSHAKES: &[&[u8]] = &[
    b"\x01",
    b"\x03",
    b"\x01\x00\x09\x01",
    b"\x03\x00\x60\x80\x01\x10\x07",
    b"\x00\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    b"\x02\x16\x03\x03\x00\x04\x02\x00\x00\x00\x15\x03\x03\x00\x02\x02\x28",
];

/// Data, changes of keys with and without a wish for one in return, a ticket, alerts, and messages in pieces.
pub(crate) const RECORDS: &[&[u8]] = &[
    b"\x00\x17\x05hello\x17\x00\x15\x02\x01\x00",
    b"\x00\x16\x05\x18\x00\x00\x01\x01\x17\x01x",
    b"\x01\x16\x05\x18\x00\x00\x01\x00\x17\x01x",
    b"\x01\x16\x13\x04\x00\x00\x0f\x00\x00\x00\x10\x00\x00\x00\x01\x01\x00\x00\x02ab\x00\x00",
    b"\x00\x16\x03\x18\x00\x00\x16\x02\x01\x00",
    b"\x00\x15\x02\x02\x28",
];

/// Bytes at the handshake. True when they were answered.
pub fn tls_handshake(data: &[u8]) -> bool {
    PROBE.handshake(data)
}

/// Records of an established session. True when one was accepted.
pub fn tls_records(data: &[u8]) -> bool {
    PROBE.established(data)
}
