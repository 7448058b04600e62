//! HTTP/2 connections to endpoints, shared by many requests of one worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{ConnectError, Connected, connect_over};
use super::limits::{Counted, Room};
use super::transport::{Speaks, Transport};
use super::{Busy, Member, count};
use crate::conn::wire::Wire;
use crate::http::h2::settings::Own;
use crate::http::h2::{Conn, H2Stream, Keepalive, drive};
use crate::http::head::RequestHead;
use crate::http::stream::Broken;
use crate::snapshot::{Address, Breakers, Cluster, Http2Settings};
use crate::tls::handshake::Failure;
use crate::worker::Worker;

/// One connection; the handle may be cloned.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    door: Rc<Door>,
    streams: Rc<Streams>,
    transport: Transport,
}

/// Who holds it may open streams; the connection ends with its last stream when nobody does.
#[derive(Debug)]
struct Door(Rc<Conn>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.release();
    }
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
    local: Option<Address>,
}

/// A stream's place on its connection.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Rc<Streams>,
    room: Rc<Room>,
}

impl Place {
    /// Our end of the connection.
    pub(crate) fn local_addr(&self) -> Option<Address> {
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

/// Bounds of a response's head.
const HEAD: u32 = 64 * 1024;
const FIELDS: u32 = 100;
/// Streams on one connection when the peer names no limit of its own.
const STREAMS: usize = 1024;

impl Shared {
    pub(crate) fn is_open(&self) -> bool {
        self.door.0.is_open()
    }

    /// How long it has carried nothing.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        match self.streams.count.get() {
            0 => now.saturating_duration_since(self.streams.rested.get()),
            _ => Duration::ZERO,
        }
    }

    fn has_room(&self, settings: &Http2Settings) -> bool {
        self.is_open() && self.streams.count.get() < self.capacity(settings)
    }

    /// How many streams it takes at a time.
    fn capacity(&self, settings: &Http2Settings) -> usize {
        let limit = settings.max_concurrent_streams.map_or(STREAMS, |limit| limit as usize);
        limit.min(self.door.0.most_streams()).max(1)
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

/// Puts a request on a connection that takes one more stream: an open one with room, else a new one, else the next with room.
pub(crate) async fn checkout(
    worker: &Worker,
    cluster: &Cluster,
    busy: &Busy,
    breakers: &Breakers,
    (transport, speaks): (&Transport, Speaks),
    (head, upgrade, end): (&RequestHead, bool, bool),
) -> Result<(H2Stream, Place, bool), ConnectError> {
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
                let made =
                    connect_over(&worker.buffers, cluster, busy.at(), counted, None, (transport, speaks))
                        .await?;
                if speaks == Speaks::Either && made.protocol.as_deref() != Some(b"h2") {
                    // It has changed its mind: the next attempt speaks HTTP/1.1.
                    member.speaks_h2.set(Some(false));
                    return Err(Failure::Protocol.into());
                }
                (share(cluster, member, made, transport), false)
            }
        };
        let place = shared.place(room);
        if shared.has_room(&cluster.http2) {
            // Where one fits, perhaps another does.
            room.free();
        }
        let conn = &shared.door.0;
        let request = poll_fn(|cx| conn.poll_request(cx, head, upgrade, end));
        let begun = if upgrade {
            // It waits for the endpoint's SETTINGS, which belong to connecting.
            let within = tokio::time::timeout(cluster.connect_timeout, request);
            within.await.map_err(|_| ConnectError::Timeout)?
        } else {
            request.await
        };
        match begun {
            Ok(stream) => return Ok((stream, place, reused)),
            Err(Broken::NotOffered) => return Err(ConnectError::NoUpgrade),
            Err(error) if !reused => return Err(ConnectError::Handshake(error)),
            Err(_) => {}
        }
    }
}

/// What a member's connections carry and can carry: their streams, and all that new requests may use of them.
pub(crate) fn streams(cluster: &Cluster, member: &Member) -> (usize, usize) {
    let list = member.idle.h2.borrow();
    let open = list.iter().filter(|shared| shared.is_open() && !shared.spent(cluster));
    open.fold((0, 0), |(used, room), shared| {
        (used + shared.streams.count.get(), room + shared.capacity(&cluster.http2))
    })
}

/// Begins HTTP/2 on a connection, for all requests to the member.
pub(crate) fn share(cluster: &Cluster, member: &Member, made: Connected, transport: &Transport) -> Shared {
    let shared = begin(made.wire, made.counted, &cluster.http2, transport.clone());
    member.idle.h2.borrow_mut().push(shared.clone());
    shared
}

/// What an endpoint is told.
fn own(settings: &Http2Settings) -> Own {
    Own {
        server: false,
        stream_window: settings.stream_window.unwrap_or(1 << 20),
        connection_window: settings.connection_window.unwrap_or(4 << 20),
        streams: 0,
        head_bytes: HEAD,
        head_fields: FIELDS,
        connect: false,
    }
}

fn keepalive(settings: &Http2Settings) -> Option<Keepalive> {
    /// How long an answer may take where nothing says.
    const PATIENCE: Duration = Duration::from_secs(20);
    let interval = settings.keepalive_interval?;
    Some(Keepalive { interval, timeout: settings.keepalive_timeout.unwrap_or(PATIENCE) })
}

fn begin(wire: Wire, counted: Counted, settings: &Http2Settings, transport: Transport) -> Shared {
    let local = wire.local_addr();
    let conn = Conn::new(own(settings));
    let (driven, keepalive) = (conn.clone(), keepalive(settings));
    tokio::task::spawn_local(async move {
        let _counted = counted;
        drive(driven, wire, keepalive).await;
    });
    let now = Instant::now();
    let streams =
        Streams { count: Cell::new(0), total: Cell::new(0), opened: now, rested: Cell::new(now), local };
    Shared { door: Rc::new(Door(conn)), streams: Rc::new(streams), transport }
}
