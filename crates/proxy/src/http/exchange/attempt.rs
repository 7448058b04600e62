//! One attempt of a request: an endpoint, a connection, and what comes back first.

use std::future::{Future as _, poll_fn};
use std::task::Poll;

use tokio::time::Instant;

use super::noted::note_upstream;
use super::{Exchange, after_other_reads};
use crate::decide::{Forward, UpgradeOutcome};
use crate::http::body::RequestBody;
use crate::http::retry::Failure;
use crate::http::stream::Side;
use crate::http::trying::{Limit, Pace, Stop, Trying};
use crate::policy;
use crate::snapshot::Snapshot;
use crate::upstream::attempt::{Heard, Sending, Upstream};
use crate::upstream::{Busy, preconnect, select};

impl Exchange<'_> {
    /// One attempt: pick an endpoint, connect, send, and hear what it answers.
    pub(super) async fn attempt(
        &mut self,
        permit: policy::Permit,
        snapshot: &Snapshot,
        forward: &Forward<'_>,
        body: &mut RequestBody,
        trying: &mut Trying,
    ) -> Result<Upstream, Stop> {
        let cluster = forward.cluster;
        let state = self.worker.upstreams.cluster(cluster);
        let target = select::destination(cluster, &self.heads.request, self.downstream.original_dst());
        note_upstream(self.downstream, &mut self.heads.notes, None);
        let random = if trying.attempts == 1 { forward.random } else { self.worker.random() };
        let chosen = select::select(snapshot, cluster, &state, target, random, &trying.tried);
        let Some(chosen) = chosen else {
            self.record.cluster = Some(cluster.name.clone());
            return Err(Failure::NoHost.into());
        };
        self.record.member = Some(chosen.member.clone());
        trying.tried.push(chosen.member.address);
        let request = &mut self.heads.request;
        forward.set_hostname(chosen.endpoint.and_then(|endpoint| endpoint.hostname.as_deref()), request);
        if trying.attempts > 1 {
            forward.set_attempt(trying.attempts, request);
        }
        let breakers = &cluster.breakers[usize::from(forward.action.high_priority)];
        let place = state.requests.take(breakers.max_requests).map_err(Failure::Connect)?;
        let busy = Busy::new(state, chosen.member).holding(place);
        let sending = Sending {
            length: self.length,
            upgrade: forward.upgrade == UpgradeOutcome::Pass,
            raw: forward.upgrade == UpgradeOutcome::Terminate,
            client: Some(self.downstream),
            breakers,
        };
        let mut limit = Limit::new(forward, trying, body);
        let open = Upstream::open(permit, self.worker, cluster, busy, request, &sending);
        let mut upstream = {
            let mut open = std::pin::pin!(open);
            let client = &mut *self.client;
            poll_fn(|cx| {
                if let Poll::Ready(outcome) = open.as_mut().poll(cx) {
                    return Poll::Ready(outcome.map_err(|error| Failure::Connect(error).into()));
                }
                if body.ended() && client.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Stop::Client));
                }
                limit.poll(client, None, cx).map(|failure| Err(failure.into()))
            })
            .await?
        };
        preconnect::see_to(self.worker, cluster, &upstream, &self.heads.request, &sending);
        trying.reused = upstream.reused;
        note_upstream(self.downstream, &mut self.heads.notes, Some(&mut upstream));
        self.hear(forward, &mut upstream, body, trying, limit).await?;
        Ok(upstream)
    }

    /// Sends the body of the request until the head of the response is there.
    async fn hear(
        &mut self,
        forward: &Forward<'_>,
        upstream: &mut Upstream,
        body: &mut RequestBody,
        trying: &mut Trying,
        mut limit: Limit,
    ) -> Result<(), Stop> {
        after_other_reads().await;
        let (worker, client, head) = (self.worker, &mut *self.client, &mut self.heads.response);
        // What follows the head of an upgrade belongs to the tunnel.
        let tunnel = forward.upgrade != UpgradeOutcome::None;
        let proxied = forward.http.proxy_100_continue;
        let mut pace = Pace::default();
        poll_fn(|cx| {
            if tunnel {
                if let Poll::Ready(Ok(())) = upstream.stream.poll_flush(cx) {
                    limit.sent(forward, trying);
                }
            } else if !body.done() {
                let before = body.bytes;
                match body.poll(cx, &mut client.stream, &mut upstream.stream) {
                    Poll::Ready(Ok(())) => limit.sent(forward, trying),
                    Poll::Ready(Err(Side::From(broken))) => return Poll::Ready(Err(broken.into())),
                    // Who stops reading may have answered already: the head of the response decides.
                    Poll::Ready(Err(Side::To(_))) | Poll::Pending => {}
                }
                if body.bytes != before {
                    limit.moved(forward, trying);
                }
            }
            loop {
                match upstream.poll_head(cx, head) {
                    Poll::Ready(Ok(Heard::Final)) => return Poll::Ready(Ok(())),
                    // The client has had its own `100 Continue`, unless the endpoint is to give it.
                    Poll::Ready(Ok(Heard::Interim)) if head.status != 100 || proxied => {
                        client.send_interim(head);
                    }
                    Poll::Ready(Ok(Heard::Interim)) => {}
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(Failure::Reset(broken).into())),
                    Poll::Pending => break,
                }
            }
            client.poll_interim(cx);
            if (tunnel || body.ended()) && client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Stop::Client));
            }
            let slow = !tunnel && body.starved();
            let hurried = if slow { pace.limit(worker, client, body.bytes, cx) } else { None };
            limit.poll(client, hurried, cx).map(|failure| Err(failure.into()))
        })
        .await?;
        trying.answered = Some(Instant::now());
        Ok(())
    }
}
