//! Connections whose protocol is not HTTP: bytes to one endpoint and back.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::access_log::{self, Entry, Notes};
use crate::conn::alarm::{Alarm, earliest};
use crate::conn::proxy_protocol::Ends;
use crate::conn::registry::{Control, Wish};
use crate::conn::wire::Wire;
use crate::decide::Downstream;
use crate::http::retry::Failure;
use crate::http::stream::{Flow, Stream, WireStream};
use crate::policy;
use crate::snapshot::{Name, TcpProxy};
use crate::telemetry::metrics::Target;
use crate::telemetry::{Flags, Record};
use crate::upstream::connect::{ConnectError, Connected, connect_over};
use crate::upstream::limits::Counted;
use crate::upstream::outlier::Told;
use crate::upstream::transport::{Speaks, Transport};
use crate::upstream::{Busy, count, select};
use crate::worker::Worker;

/// A connection to an endpoint on which nothing was sent yet.
#[derive(Debug)]
pub(crate) struct Dialled {
    wire: Wire,
    busy: Busy,
    _counted: Counted,
}

impl Dialled {
    /// Ready when the endpoint has sent something, or has closed.
    pub(crate) fn poll_spoke(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wire.data().is_empty() && !self.wire.eof() {
            return self.wire.poll_fill(cx).map(|_| ());
        }
        Poll::Ready(())
    }
}

/// One relayed connection.
#[derive(Debug)]
pub(crate) struct Relay<'r> {
    worker: &'r Rc<Worker>,
    downstream: &'r Downstream,
    proxy: &'r TcpProxy,
    control: Rc<Control>,
}

impl<'r> Relay<'r> {
    pub(crate) fn new(
        worker: &'r Rc<Worker>,
        downstream: &'r Downstream,
        proxy: &'r TcpProxy,
        control: Rc<Control>,
    ) -> Self {
        Self { worker, downstream, proxy, control }
    }

    /// Chooses an endpoint and connects to it; else says why not, and to whom.
    pub(crate) async fn dial(
        worker: &Rc<Worker>,
        original_dst: Option<SocketAddr>,
        proxy: &TcpProxy,
        client: Option<Ends>,
    ) -> Result<Dialled, (Flags, Option<Name>)> {
        let snapshot = worker.snapshot();
        let random = worker.random();
        let cluster = proxy.cluster(random).ok_or((Flags::NO_CLUSTER, None))?;
        let cluster = snapshot.cluster(cluster).ok_or((Flags::NO_CLUSTER, None))?;
        let _permit = policy::on_connection(cluster);
        let state = worker.upstreams.cluster(cluster);
        let mut tried = Vec::new();
        let mut flag = Flags::NO_HEALTHY_UPSTREAM;
        for _ in 0..proxy.max_connect_attempts.max(1) {
            let random = worker.random();
            let Some(chosen) = select::select(&snapshot, cluster, &state, original_dst, random, &tried)
            else {
                return Err((flag, Some(cluster.name.clone())));
            };
            tried.push(chosen.member.address);
            let busy = Busy::new(state.clone(), chosen.member);
            let Some(counted) = busy.member.room.reserve(cluster.breakers[0].max_connections, false) else {
                state.failed(cluster, &Failure::Connect(ConnectError::Overflow), None);
                count(&state.stats.upstream_cx_overflow);
                return Err((Flags::UPSTREAM_OVERFLOW, Some(cluster.name.clone())));
            };
            let made = match Transport::of(&snapshot, cluster, &busy.member, &[]) {
                Ok(over) => {
                    let over = (&over, Speaks::Other);
                    connect_over(&worker.buffers, cluster, busy.at(), counted, client, over).await
                }
                Err(error) => Err(error),
            };
            match made {
                Ok(Connected { wire, counted, .. }) => {
                    state.tell(cluster, &busy.member, Told::Status(200));
                    return Ok(Dialled { wire, busy, _counted: counted });
                }
                Err(_) => {
                    state.tell(cluster, &busy.member, Told::Local);
                    flag = Flags::UPSTREAM_CONNECT_FAILURE;
                    count(&state.stats.upstream_cx_connect_fail);
                }
            }
        }
        Err((flag, Some(cluster.name.clone())))
    }

    /// Relays until both sides have ended, one has broken, or nothing moved for too long.
    pub(crate) async fn run(self, wire: Wire, dialled: Option<Dialled>) {
        let (start, target) = (Instant::now(), self.downstream.original_dst());
        let dialled = match dialled {
            Some(dialled) => Ok(dialled),
            None => Self::dial(self.worker, target, self.proxy, self.downstream.ends()).await,
        };
        let mut record = Record::new(start, self.downstream.listener.direction);
        let Dialled { wire: far, busy, _counted } = match dialled {
            Ok(dialled) => dialled,
            // Without an endpoint there is nobody to relay to: the client's connection ends.
            Err((flag, cluster)) => {
                record.flags.add(flag);
                record.cluster = cluster;
                return self.log(&record, &Notes::default());
            }
        };
        let member = busy.member.clone();
        let series = self.worker.metrics.tcp(&member.series, self.downstream.listener.direction, || Target {
            cluster: Some(member.cluster.clone()),
            workload: member.workload.clone(),
        });
        series.borrow_mut().opened += 1;
        let local = self.logged().then(|| far.local_addr()).flatten();
        let (up, down) = self.pump(wire, far).await;
        {
            let mut series = series.borrow_mut();
            series.closed += 1;
            series.received += up;
            series.sent += down;
        }
        (record.request_bytes, record.response_bytes) = (up, down);
        (record.member, record.attempts) = (Some(member), 1);
        self.log(&record, &Notes { upstream_local: local, ..Notes::default() });
    }

    fn logged(&self) -> bool {
        !self.proxy.access_log.is_empty()
    }

    /// Writes the connection's lines.
    fn log(&self, record: &Record, notes: &Notes) {
        if self.logged() {
            let (downstream, now) = (self.downstream, Instant::now());
            let entry =
                Entry { downstream, request: None, response: None, record, notes, version: None, now };
            access_log::write(self.worker, &self.proxy.access_log, &entry);
        }
    }

    /// Returns the bytes passed in each direction: from the client, and to it.
    async fn pump(&self, near: Wire, far: Wire) -> (u64, u64) {
        let mut near = WireStream::new(near);
        let mut far = WireStream::new(far);
        near.tunnel();
        far.tunnel();
        let (mut near, mut far) = (Stream::Wire(near), Stream::Wire(far));
        let (mut up, mut down) = (Flow::default(), Flow::default());
        let mut alarm = Alarm::default();
        let idle = self.proxy.idle_timeout;
        let mut quiet_until = idle.map(|idle| Instant::now() + idle);
        let hard = self.proxy.max_duration.map(|most| Instant::now() + most);
        poll_fn(|cx| {
            self.control.register(cx.waker());
            if self.control.wish() == Wish::Cut {
                return Poll::Ready(());
            }
            if !up.done && matches!(up.poll(cx, &mut near, &mut far), Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            if !down.done && matches!(down.poll(cx, &mut far, &mut near), Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            if up.done && down.done {
                return Poll::Ready(());
            }
            if std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved) {
                quiet_until = idle.map(|idle| Instant::now() + idle);
            }
            alarm.poll(cx, earliest(quiet_until, hard))
        })
        .await;
        (up.bytes, down.bytes)
    }
}
