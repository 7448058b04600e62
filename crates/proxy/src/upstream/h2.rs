//! HTTP/2 connections to endpoints, shared by many requests of one worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::connect::{ConnectError, Connected, connect_over};
use super::limits::{Counted, Room};
use super::transport::{Speaks, Transport};
use super::{Busy, Member, count};
use crate::conn::wire::Wire;
use crate::http::h2::Replayed;
use crate::http::meter::Metered;
use crate::snapshot::{Breakers, Cluster, Http2Settings};
use crate::tls::handshake::Failure;
use crate::worker::Worker;

/// One connection; the handle may be cloned.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    sender: SendRequest<Bytes>,
    open: Rc<Cell<bool>>,
    streams: Rc<Streams>,
    transport: Transport,
}

/// The streams of one connection.
#[derive(Debug)]
struct Streams {
    count: Cell<usize>,
    /// Ever begun.
    total: Cell<u32>,
    opened: Instant,
    /// When the last one ended.
    rested: Cell<Instant>,
    /// Our end of it.
    local: Option<SocketAddr>,
}

/// A stream's place on its connection.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Rc<Streams>,
    room: Rc<Room>,
}

impl Place {
    /// Our end of the connection.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.streams.local
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.count.set(self.streams.count.get() - 1);
        self.streams.rested.set(Instant::now());
        self.room.free();
    }
}

/// Streams on one connection when the peer names no limit of its own.
const STREAMS: usize = 1024;

impl Shared {
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// How long it has carried nothing.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        match self.streams.count.get() {
            0 => now.saturating_duration_since(self.streams.rested.get()),
            _ => Duration::ZERO,
        }
    }

    fn has_room(&self, settings: &Http2Settings) -> bool {
        let limit = settings.max_concurrent_streams.map_or(STREAMS, |limit| limit as usize);
        self.is_open() && self.streams.count.get() < limit.min(self.sender.current_max_send_streams()).max(1)
    }

    /// It has carried as many requests, or for as long, as the cluster allows: it ends with its last stream.
    fn spent(&self, cluster: &Cluster) -> bool {
        let limit = cluster.max_requests_per_connection;
        (limit != 0 && self.streams.total.get() >= limit)
            || cluster.max_connection_duration.is_some_and(|most| self.streams.opened.elapsed() >= most)
    }

    fn place(&self, room: &Rc<Room>) -> Place {
        self.streams.total.set(self.streams.total.get().saturating_add(1));
        self.streams.count.set(self.streams.count.get() + 1);
        Place { streams: self.streams.clone(), room: room.clone() }
    }
}

/// A connection that takes one more stream: an open one with room, else a new one, else the next with room.
pub(crate) async fn checkout(
    worker: &Worker,
    cluster: &Cluster,
    busy: &Busy,
    breakers: &Breakers,
    (transport, speaks): (&Transport, Speaks),
) -> Result<(SendRequest<Bytes>, Place, bool), ConnectError> {
    let (member, room) = (&*busy.member, &busy.member.room);
    let (mut turn, mut pending) = (!room.contended(), None);
    loop {
        let known = {
            let mut list = member.idle.h2.borrow_mut();
            list.retain(|shared| shared.is_open() && !shared.spent(cluster));
            let fits = |shared: &&Shared| {
                turn && shared.has_room(&cluster.http2) && shared.transport.same(transport)
            };
            list.iter().find(fits).cloned()
        };
        let (shared, reused) = match known {
            Some(shared) => (shared, true),
            None => {
                if pending.is_none() {
                    pending = Some(busy.cluster.totals.pending(breakers)?);
                }
                let reserved = if turn { room.reserve(breakers.max_connections, true) } else { None };
                let Some(counted) = reserved else {
                    if turn {
                        count(&busy.cluster.stats.upstream_cx_overflow);
                    }
                    room.wait().await;
                    turn = true;
                    continue;
                };
                let made = connect_over(worker, cluster, busy, counted, None, (transport, speaks)).await?;
                if speaks == Speaks::Either && made.protocol.as_deref() != Some(b"h2") {
                    // It has changed its mind: the next attempt speaks HTTP/1.1.
                    member.speaks_h2.set(Some(false));
                    return Err(Failure::Protocol.into());
                }
                (share(cluster, member, made, transport).await?, false)
            }
        };
        let place = shared.place(room);
        if shared.has_room(&cluster.http2) {
            // Where one fits, perhaps another does.
            room.free();
        }
        let mut sender = shared.sender.clone();
        match poll_fn(|cx| sender.poll_ready(cx)).await {
            Ok(()) => return Ok((sender, place, reused)),
            Err(error) => {
                shared.open.set(false);
                if !reused {
                    return Err(ConnectError::Handshake(error));
                }
            }
        }
    }
}

/// Ends when the endpoint has left a PING without answer (`connection_keepalive`).
async fn silent(pings: Option<PingPong>, settings: Http2Settings) {
    /// How long an answer may take where nothing says.
    const PATIENCE: Duration = Duration::from_secs(20);
    let (Some(mut pings), Some(interval)) = (pings, settings.keepalive_interval) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(interval).await;
        let patience = settings.keepalive_timeout.unwrap_or(PATIENCE);
        match tokio::time::timeout(patience, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Begins HTTP/2 on a connection, for all requests to the member.
pub(crate) async fn share(
    cluster: &Cluster,
    member: &Member,
    made: Connected,
    transport: &Transport,
) -> Result<Shared, ConnectError> {
    let shared = handshake(made.wire, made.counted, &cluster.http2, transport.clone()).await?;
    member.idle.h2.borrow_mut().push(shared.clone());
    Ok(shared)
}

async fn handshake(
    wire: Wire,
    counted: Counted,
    settings: &Http2Settings,
    transport: Transport,
) -> Result<Shared, ConnectError> {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(settings.stream_window.unwrap_or(1 << 20))
        .initial_connection_window_size(settings.connection_window.unwrap_or(4 << 20))
        .max_send_buffer_size(256 * 1024)
        .max_header_list_size(64 * 1024);
    let local = wire.local_addr().ok();
    let io = Metered::new(Replayed::new(wire), false);
    let (sender, mut connection) = builder.handshake(io).await.map_err(ConnectError::Handshake)?;
    let silent = silent(connection.ping_pong(), *settings);
    let open = Rc::new(Cell::new(true));
    let alive = open.clone();
    tokio::task::spawn_local(async move {
        let _counted = counted;
        // Its end, for whatever reason, is seen by the streams; here it only closes the door.
        tokio::select! {
            _ = connection => {}
            () = silent => {}
        }
        alive.set(false);
    });
    let now = Instant::now();
    let streams =
        Streams { count: Cell::new(0), total: Cell::new(0), opened: now, rested: Cell::new(now), local };
    let streams = Rc::new(streams);
    Ok(Shared { sender, open, streams, transport })
}
