//! Choosing an endpoint: configuration's set, this worker's counts, and the pure balancer between them.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{ClusterState, Member};
use crate::balance::{self, Members};
use crate::http::head::RequestHead;
use crate::snapshot::{Address, Cluster, Discovery, Endpoint, EndpointSet, Snapshot};

/// The endpoint of one attempt.
#[derive(Debug)]
pub(crate) struct Chosen<'s> {
    pub(crate) member: Rc<Member>,
    /// What configuration says of it; none for an original destination.
    pub(crate) endpoint: Option<&'s Endpoint>,
}

/// What the balancer may know of the members.
struct Seen<'m> {
    cluster: &'m Cluster,
    state: &'m ClusterState,
    set: &'m EndpointSet,
    members: &'m [OnceCell<Rc<Member>>],
    tried: &'m [Address],
}

impl Members for Seen<'_> {
    fn active(&self, index: usize) -> u32 {
        self.members.get(index).and_then(OnceCell::get).map_or(0, |member| member.active.get())
    }

    fn badness(&self, index: usize) -> u32 {
        /// An endpoint that answers badly is worse than one that was just not reached.
        const EJECTED: u32 = 1 << 16;
        // What others have seen of an endpoint counts where it was never chosen, too.
        let member = match self.cluster.outlier {
            Some(_) => self.member(index),
            None => self.members.get(index).and_then(OnceCell::get),
        };
        let Some(member) = member else { return 0 };
        let ejected = if self.state.avoids(self.cluster, member) { EJECTED } else { 0 };
        ejected + member.reach.badness()
    }

    fn tried(&self, index: usize) -> bool {
        !self.tried.is_empty()
            && self.set.endpoints.get(index).is_some_and(|endpoint| self.tried.contains(&endpoint.address))
    }
}

impl<'m> Seen<'m> {
    fn member(&self, index: usize) -> Option<&'m Rc<Member>> {
        let (place, endpoint) = (self.members.get(index)?, self.set.endpoints.get(index)?);
        Some(place.get_or_init(|| self.state.member(endpoint)))
    }
}

/// Where a request to a cluster of original destinations goes: where its header says, if the cluster heeds one and it holds
/// an address, else where its connection was going.
pub(crate) fn destination(
    cluster: &Cluster,
    head: &RequestHead,
    original_dst: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let Discovery::OriginalDst { header: Some(name), .. } = &cluster.discovery else { return original_dst };
    let named = head.headers.get(name).and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    named.or(original_dst)
}

/// Picks an endpoint of `cluster`; `None` when there is none.
pub(crate) fn select<'s>(
    snapshot: &'s Snapshot,
    cluster: &'s Cluster,
    state: &ClusterState,
    original_dst: Option<SocketAddr>,
    random: u64,
    tried: &[Address],
) -> Option<Chosen<'s>> {
    if let Discovery::OriginalDst { port, .. } = &cluster.discovery {
        let mut address = original_dst?;
        if let Some(port) = port {
            address.set_port(*port);
        }
        return Some(Chosen { member: state.at(address), endpoint: None });
    }
    let set: &'s EndpointSet = snapshot.endpoints(cluster)?;
    let members = state.members(set);
    let seen = Seen { cluster, state, set, members: &members, tried };
    let picked = balance::pick(cluster, set, &state.balance, &seen, random)?;
    let member = seen.member(picked.index)?.clone();
    member.reach.chosen();
    Some(Chosen { member, endpoint: set.endpoints.get(picked.index) })
}

#[cfg(test)]
#[path = "select_test.rs"]
mod select_test;
