//! Connections made before a request needs them (`Cluster.preconnect_policy.per_upstream_preconnect_ratio`).
//!
//! Only requests ask for them: where none come, none are made, and one that failed is not tried again before the next request.

use std::rc::Rc;

use super::attempt::{Sending, Upstream};
use super::connect::connect_over;
use super::limits::Counted;
use super::outlier::Told;
use super::pool::Lease;
use super::transport::{Speaks, Transport};
use super::{ClusterState, Member, count, h2};
use crate::conn::buffers::Buffers;
use crate::http::head::RequestHead;
use crate::http::stream::Stream;
use crate::snapshot::{Cluster, Health, Snapshot};
use crate::worker::{Current, Worker};

/// The most connections that a worker makes ahead to one endpoint at a time.
const MOST: u32 = 4;

/// A request was put on an endpoint: sees to it that there is room there for those that may follow.
pub(crate) fn see_to(
    worker: &Worker,
    cluster: &Cluster,
    upstream: &Upstream,
    head: &RequestHead,
    sending: &Sending<'_>,
) {
    if let Some(ratio) = cluster.preconnect
        && !sending.raw
    {
        begin(worker, cluster, ratio, upstream, head, sending);
    }
}

#[cold]
fn begin(
    worker: &Worker,
    cluster: &Cluster,
    ratio: f64,
    upstream: &Upstream,
    head: &RequestHead,
    sending: &Sending<'_>,
) {
    let (state, member) = (&upstream.busy.cluster, &upstream.busy.member);
    let speaks = match &upstream.stream {
        Stream::H2(_) => Speaks::Http2,
        Stream::Wire(_) => Speaks::Http1,
    };
    let missing = missing(cluster, ratio, member, speaks);
    let unsound = || state.avoids(cluster, member) || member.reach.badness() > 0;
    if missing == 0 || member.room.contended() || unsound() {
        return;
    }
    let mut transport = None;
    for _ in 0..missing {
        let Some(counted) = member.room.reserve(sending.breakers.max_connections, false) else { return };
        if transport.is_none() {
            let snapshot = worker.snapshot();
            if !stands(&snapshot, cluster, member) {
                return;
            }
            let Ok(over) = Transport::of(&snapshot, cluster, member, head.authority()) else { return };
            transport = Some((snapshot, over));
        }
        let Some((snapshot, over)) = &transport else { return };
        let making = Making::new(state, member, speaks);
        member.reach.chosen();
        tokio::task::spawn_local(making.run(worker.buffers.clone(), snapshot.clone(), counted, over.clone()));
    }
}

/// How many connections are to be made now.
fn missing(cluster: &Cluster, ratio: f64, member: &Member, speaks: Speaks) -> u32 {
    let making = member.idle.ahead.get();
    let wanted = |active: u32| (ratio * f64::from(active)).ceil() as u32;
    let (streams, room) = h2::streams(cluster, member);
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    if speaks == Speaks::Http2 {
        // How many streams a connection takes is known when it is there.
        return u32::from(making == 0 && wanted(narrow(streams)) > narrow(room));
    }
    let shared = narrow(member.idle.h2.borrow().len());
    let active = member.active.get().saturating_sub(narrow(streams));
    let room = member.room.connections().saturating_sub(shared);
    wanted(active).saturating_sub(room).min(MOST.saturating_sub(making))
}

/// The cluster is as it was for the request, and the member among its endpoints and healthy.
fn stands(snapshot: &Snapshot, cluster: &Cluster, member: &Member) -> bool {
    let same = snapshot.cluster(&cluster.name).is_some_and(|current| std::ptr::eq(current, cluster));
    let set = snapshot.endpoints(cluster).filter(|_| same);
    set.is_some_and(|set| {
        let found = set.endpoints.iter().find(|endpoint| endpoint.id == member.id);
        found.is_some_and(|endpoint| member.is_still(endpoint) && endpoint.health == Health::Healthy)
    })
}

/// A connection on its way.
#[derive(Debug)]
struct Making {
    state: Rc<ClusterState>,
    member: Rc<Member>,
    speaks: Speaks,
}

impl Making {
    fn new(state: &Rc<ClusterState>, member: &Rc<Member>, speaks: Speaks) -> Self {
        member.idle.ahead.set(member.idle.ahead.get() + 1);
        Self { state: state.clone(), member: member.clone(), speaks }
    }

    /// Connects, with TLS where that is spoken, and leaves the connection to whoever comes.
    async fn run(self, buffers: Rc<Buffers>, snapshot: Current, counted: Counted, over: Transport) {
        let Self { state, member, speaks } = &self;
        let Some(cluster) = snapshot.cluster(&state.name) else { return };
        let made = connect_over(&buffers, cluster, (state, member), counted, None, (&over, *speaks)).await;
        match made {
            Ok(made) if *speaks == Speaks::Http2 => {
                h2::share(cluster, member, made, &over);
                member.room.free();
            }
            Ok(made) => member.keep(cluster, made.wire, Lease::new(made.counted, cluster, None, &over)),
            Err(_) => {
                state.tell(cluster, member, Told::Local);
                count(&state.stats.upstream_cx_connect_fail);
            }
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.member.idle.ahead.set(self.member.idle.ahead.get() - 1);
    }
}
