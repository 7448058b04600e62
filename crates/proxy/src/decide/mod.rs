//! What happens to a request: pure functions of a snapshot, the downstream connection and the request's head.
//!
//! Nothing here waits, locks, reads a clock or draws a random number; the exchange, `explain`, tests and fuzzers all run
//! this code. Order on the request path: [`prepare`] (the connection manager's own checks and header changes), [`decide`],
//! then on a [`Forward`] [`Forward::edit_request`] before the first attempt and [`Forward::edit_response`] behind it, and
//! [`finish_response`] (the connection manager's own response headers) for every response.

pub mod domains;
pub mod format;
pub mod index;
pub mod matching;

mod outcome;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::head::{RequestHead, ResponseHead, Scheme};
use crate::snapshot::{FilterChain, HttpConnectionManager, Listener, NetworkFilter, Snapshot};

pub use self::outcome::*;

/// The connection a request came by.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// The listener that took it (after `use_original_dst`).
    pub listener: Arc<Listener>,
    /// The filter chain chosen by `match_filter_chain`.
    pub chain: Arc<FilterChain>,
    /// The other end (after the PROXY protocol).
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Where it was going before it was redirected.
    pub original_dst: Option<SocketAddr>,
    /// `http` in the clear, `https` over TLS.
    pub scheme: Scheme,
    /// SNI.
    pub server_name: Option<Box<str>>,
    /// Grows by one for each connection of the worker.
    pub connection_id: u64,
}

impl Downstream {
    /// The connection manager, if this is an HTTP connection.
    pub fn http(&self) -> Option<&HttpConnectionManager> {
        match &self.chain.filter {
            NetworkFilter::Http(http) => Some(http),
            _ => None,
        }
    }
}

/// The connection manager's own work on a request before it is routed: host and path normalisation,
/// `x-forwarded-*`, `x-request-id`, removal of what only this hop may read.
///
/// `random` makes the request id when one is needed. An `Err` is to be answered as it stands.
pub fn prepare<'s>(
    downstream: &'s Downstream,
    head: &mut RequestHead,
    random: u64,
) -> Result<(), Respond<'s>> {
    let _ = (downstream, head, random);
    Ok(())
}

/// What happens to a request. `random` is 64 fresh random bits; every roll derives from it.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    downstream: &'s Downstream,
    head: &RequestHead,
    random: u64,
) -> Decision<'s> {
    let _ = (snapshot, downstream, head, random);
    Decision::Respond(Respond::new(404))
}

/// The connection manager's own work on every response: `server`, `via`, removal of hop-by-hop headers.
pub fn finish_response(downstream: &Downstream, head: &mut ResponseHead) {
    let _ = (downstream, head);
}
