//! What happens to a request: pure functions of a snapshot, the downstream connection and the request's head.
//!
//! Nothing here waits, locks, reads a clock or draws a random number; the exchange, `explain`, tests and fuzzers all run
//! this code. Order on the request path: [`prepare`] (the connection manager's own checks and header changes), [`decide`],
//! then on a [`Forward`] [`Forward::edit_request`] before the first attempt and [`Forward::edit_response`] behind it, and
//! [`finish_response`] (the connection manager's own response headers) for every response.

pub mod chain;
pub mod domains;
pub mod format;
pub mod index;
pub mod matching;
pub mod observe;

mod edit;
mod filters;
mod forward;
mod outcome;
mod path;
mod pattern;
mod prepare;
mod reply;
mod request;
mod rewrite;
mod timeout;
mod trie;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use self::chain::{Connection, match_filter_chain};
pub use self::observe::{Explain, Mismatch, Observer, Step};
pub use self::outcome::*;
pub use self::prepare::{finish_response, prepare};
pub(crate) use self::reply::percent_encode;
pub use self::reply::{LocalReply, grpc_status_of, local_reply};
pub use self::timeout::{grpc_timeout, grpc_timeout_text};

use self::matching::is_grpc;
use self::request::Request;
use crate::conn::proxy_protocol::Ends;
use crate::http::head::{Method, RequestHead, Scheme};
use crate::snapshot::{
    Address, FilterChain, HttpConnectionManager, Listener, NetworkFilter, RouteSource, Snapshot,
};

/// The connection a request came by.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// The listener that took it (after `use_original_dst`).
    pub listener: Arc<Listener>,
    /// The filter chain chosen by [`match_filter_chain`].
    pub chain: Arc<FilterChain>,
    /// The other end (after the PROXY protocol).
    pub peer: Address,
    /// The other end of the socket, where the PROXY protocol told of another peer.
    pub passed_on_by: Option<Box<Address>>,
    /// Our end.
    pub local: Address,
    /// Where it was going before it was redirected.
    pub original_dst: Option<Box<SocketAddr>>,
    /// This machine's address: what stands for a loopback peer in `x-forwarded-for`, and for us in copies of requests.
    pub machine: Option<IpAddr>,
    /// `http` in the clear, `https` over TLS.
    pub scheme: Scheme,
    /// SNI.
    pub server_name: Option<Box<str>>,
    /// The client has proved who it is by a certificate: what `x-forwarded-client-cert` says of it, made once.
    pub client_cert: Option<Box<[u8]>>,
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

    /// The other end of the socket.
    pub fn direct_peer(&self) -> Address {
        self.passed_on_by.as_deref().copied().unwrap_or(self.peer)
    }

    /// Where it was going before it was redirected.
    pub fn original_dst(&self) -> Option<SocketAddr> {
        self.original_dst.as_deref().copied()
    }

    /// The two ends as the next proxy is told them.
    pub(crate) fn ends(&self) -> Option<Ends> {
        Ends::of(self.peer, self.destination())
    }

    /// Where it was going: to our end, unless it was redirected.
    pub fn destination(&self) -> Address {
        self.original_dst().map_or(self.local, Address::Ip)
    }

    /// The peer's IP address, if it has one, IPv4 as IPv4.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer.ip().map(|ip| ip.to_canonical())
    }
}

/// What happens to a request. `random` is 64 fresh random bits; every roll derives from it.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    downstream: &'s Downstream,
    head: &RequestHead,
    random: u64,
) -> Decision<'s> {
    decide_with(snapshot, downstream, head, random, &mut ())
}

/// [`decide`], seen by an observer.
pub fn decide_with<'s, O: Observer<'s>>(
    snapshot: &'s Snapshot,
    downstream: &'s Downstream,
    head: &RequestHead,
    random: u64,
    observer: &mut O,
) -> Decision<'s> {
    let Some(http) = downstream.http() else { return Decision::Respond(not_found(head)) };
    let config = match &http.routes {
        RouteSource::Inline(config) => config,
        RouteSource::Rds(name) => match snapshot.routes.get(name) {
            Some(config) => config,
            None => return Decision::Need(Names::Routes(name)),
        },
    };
    observer.config(config);
    let at = Request { snapshot, downstream, http, config, head, random };
    let host = at.host();
    let found = config.domains.find(&host).and_then(|index| config.virtual_hosts.get(index));
    observer.virtual_host(&host, found.map(|vh| &**vh));
    match found {
        Some(virtual_host) => at.in_virtual_host(virtual_host, observer),
        None if config.vhds => {
            let host = String::from_utf8_lossy(&host).to_ascii_lowercase();
            Decision::Need(Names::VirtualHost(&config.name, host.into()))
        }
        None => at.no_route(None),
    }
}

fn not_found<'s>(head: &RequestHead) -> Respond<'s> {
    Respond { flag: "NR", details: "route_not_found", grpc: is_grpc(head), ..Respond::new(404) }
}

/// The protocol a request wants to change to: CONNECT, extended CONNECT, or HTTP/1.1 upgrade.
pub fn requested_upgrade(head: &RequestHead) -> Option<&[u8]> {
    if head.method == Method::Connect {
        return Some(if head.protocol().is_empty() { b"CONNECT" } else { head.protocol() });
    }
    let upgrade = head.headers.get("upgrade").filter(|value| !value.is_empty())?;
    let asked = head.headers.get_all("connection").any(|value| {
        value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    asked.then_some(upgrade)
}

#[cfg(test)]
pub(crate) mod kit;

#[cfg(test)]
#[path = "decide_test.rs"]
mod decide_test;
