//! What an upgrade or CONNECT has opened: bytes both ways, until both sides have ended or one is gone.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::Exchange;
use crate::conn::alarm::earliest;
use crate::http::body::RequestBody;
use crate::http::stream::{Flow, Side};
use crate::http::trying::Pace;
use crate::http::websocket::is_websocket;
use crate::telemetry::Flags;
use crate::upstream::attempt::Upstream;

/// How long a WebSocket may be silent once one side has ended. Its sides take leave by messages (RFC 6455, 7), so nobody
/// ends its direction to go on listening for long; what is not a WebSocket may.
const CLOSING: Duration = Duration::from_secs(5);

/// When a tunnel ends by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The most that nothing may move; `None` is unlimited.
    pub(super) idle: Option<Duration>,
    /// When it has lived for long enough.
    pub(super) hard: Option<Instant>,
}

impl Exchange<'_> {
    /// Pumps both ways. `body` is what comes from the client, `flow` what goes to it.
    pub(super) async fn tunnel(
        &mut self,
        upstream: &mut Upstream,
        body: &mut RequestBody,
        flow: &mut Flow,
        times: Times,
    ) -> Result<(), Flags> {
        let websocket = is_websocket(&self.heads.request);
        let (worker, client, mut pace) = (self.worker, &mut *self.client, Pace::default());
        // Behind the end of the endpoint a WebSocket has nothing to say: whoever breaks it off then has only left.
        let gone = |flow: &Flow| {
            if websocket && flow.done { Ok(()) } else { Err(Flags::DOWNSTREAM_TERMINATED) }
        };
        let after = |idle: Option<Duration>| idle.map(|idle| Instant::now() + idle);
        let (mut closing, mut quiet_until) = (false, after(times.idle));
        poll_fn(|cx| {
            let (before, mut deaf) = (body.bytes, false);
            if !body.done() {
                match body.poll(cx, &mut client.stream, &mut upstream.stream) {
                    Poll::Ready(Err(Side::From(_))) => return Poll::Ready(gone(flow)),
                    Poll::Ready(Err(Side::To(_))) => deaf = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match flow.poll(cx, &mut upstream.stream, &mut client.stream) {
                // An endpoint that has ended its side and reads no more has left.
                Poll::Ready(Ok(())) if deaf || body.done() || upstream.stream.poll_left(cx).is_ready() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(side)) => {
                    tracing::debug!(%side, "tunnel broken off");
                    return Poll::Ready(Err(side.terminated()));
                }
            }
            // So has a client that is gone, though it may have ended its side before, or wait for an endpoint that does not
            // read. What it has sent to the end is still passed on.
            if (body.done() || !body.ended()) && client.stream.poll_left(cx).is_ready() {
                return Poll::Ready(gone(flow));
            }
            let one_ended = websocket && (body.done() || flow.done) && !flow.stuck;
            let changed = std::mem::replace(&mut closing, one_ended) != one_ended;
            if std::mem::take(&mut flow.moved) || body.bytes != before || changed {
                let most = closing.then_some(CLOSING);
                quiet_until = after(times.idle.into_iter().chain(most).min());
            }
            let hurried = if flow.stuck { pace.limit(worker, client, flow.bytes, cx) } else { None };
            let next = earliest(earliest(quiet_until, times.hard), hurried);
            client.alarm.poll(cx, next).map(|()| Err(Flags::STREAM_IDLE_TIMEOUT))
        })
        .await
    }
}
