//! Requests of an xDS client into the server's sessions.

/// Requests as [`heddle_xds::fuzz::session`] reads them; the first byte with its high bit set begins from good input.
/// True when they were answered.
pub fn xds_session(data: &[u8]) -> bool {
    let answered = heddle_xds::fuzz::session(data);
    // Good requests first, so that what follows meets a session that has something to say.
    if let Some(mut input) =
        heddle_xds::fuzz::corpus().into_iter().nth(usize::from(data.first().copied().unwrap_or(0) % 3))
    {
        input.extend_from_slice(data.get(1..).unwrap_or_default());
        heddle_xds::fuzz::session(&input);
    }
    answered
}

pub(crate) const CORPUS: &[&[u8]] = &[
    b"\x00\x38\x00\x12\x33type.googleapis.com/envoy.config.cluster.v3.Cluster\x1a\x01*",
    b"\x01\x41\x00\x12\x33type.googleapis.com/envoy.config.cluster.v3.Cluster\x1a\x01a\x32\x011\x3a\x04\x12\x02a:",
    b"\x42\x38\x00\x1a\x01a\x22\x33type.googleapis.com/envoy.config.cluster.v3.Cluster",
];
