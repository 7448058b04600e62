//! One request and its response: the page to read.

mod attempt;
mod local;
mod noted;
mod tunnel;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use self::noted::note_response;
use self::tunnel::Times;
use super::body::RequestBody;
use super::client::Client;
use super::grpc_web::Web;
use super::h2::meter::Resets;
use super::head::{Method, is_grpc};
use super::retry;
use super::stream::{Extra, Flow, Side, grpc_status};
use super::trying::{Pace, Stop, Trying};
use crate::conn::alarm::earliest;
use crate::decide::{self, Decision, Downstream, Forward, Respond};
use crate::overload::Stage;
use crate::policy;
use crate::snapshot::Snapshot;
use crate::telemetry::{Flags, Record};
use crate::upstream::attempt::Upstream;
use crate::upstream::count;
use crate::upstream::limits::Ticket;
use crate::upstream::outlier::Told;
use crate::worker::{Heads, Worker};

/// How long an exchange waits for configuration that has to be fetched.
const CONFIGURATION: Duration = Duration::from_secs(5);

/// One request with everything that takes part in it.
#[derive(Debug)]
pub(crate) struct Exchange<'c> {
    worker: &'c Rc<Worker>,
    downstream: &'c Downstream,
    client: &'c mut Client,
    heads: &'c mut Heads,
    record: Record,
    random: u64,
    /// This request's place among the faults at work (`max_active_faults`).
    fault: Ticket,
    /// Length of the request's body, when known.
    length: Option<u64>,
}

/// The exchange is over and the client has what there is to have.
pub(crate) struct Ended(());

impl<'c> Exchange<'c> {
    pub(crate) fn new(
        worker: &'c Rc<Worker>,
        downstream: &'c Downstream,
        client: &'c mut Client,
        heads: &'c mut Heads,
        length: Option<u64>,
    ) -> Self {
        let record = Record::new(Instant::now(), downstream.listener.direction);
        let (random, fault) = (worker.random(), Ticket::default());
        Self { worker, downstream, client, heads, record, random, fault, length }
    }

    // What a request only needs when something goes wrong is boxed, so that the future of one that goes well stays small.

    /// Carries the exchange to its end: prepare, decide, permit, attempt (and again), relay, record.
    /// True when the client broke it off soon after it began.
    pub(crate) async fn run(mut self) -> bool {
        if self.worker.stage.get() >= Stage::Refuse {
            Box::pin(self.shed()).await;
        } else {
            let _: Ended = match decide::prepare(self.downstream, &mut self.heads.request, self.random) {
                Err(answer) => Box::pin(self.answer(&answer)).await,
                Ok(()) => self.route().await,
            };
        }
        let (now, gone) = (Instant::now(), self.record.flags.has(Flags::DOWNSTREAM_TERMINATED));
        let early = gone && now.duration_since(self.record.start) < Resets::EARLY;
        self.log(now);
        self.record.finish(self.worker, now);
        early
    }

    /// Decides on the newest configuration, and again when something had to be fetched.
    async fn route(&mut self) -> Ended {
        let deadline = self.record.start + CONFIGURATION;
        loop {
            let snapshot = self.worker.snapshot();
            let decision = decide::decide(&snapshot, self.downstream, &self.heads.request, self.random);
            self.note_web(&decision);
            match &decision {
                Decision::Forward(forward) => return self.forward(&snapshot, forward).await,
                Decision::Respond(answer) => return Box::pin(self.answer_after_fault(answer)).await,
                Decision::Need(_) => {}
            }
            let changed = Box::pin(tokio::time::timeout_at(deadline, self.worker.changed()));
            if changed.await.is_err() {
                let answer = Respond { flag: "NR", ..Respond::new(404) };
                return Box::pin(self.answer(&answer)).await;
            }
        }
    }

    /// The request goes to a cluster.
    async fn forward(&mut self, snapshot: &Snapshot, forward: &Forward<'_>) -> Ended {
        let permit = policy::on_request(self.downstream, &self.heads.request, forward.cluster);
        if let Some(fault) = &forward.fault
            && let Some(ended) = Box::pin(self.inject(fault)).await
        {
            return ended;
        }
        if let Some(web) = self.heads.web {
            web.edit_request(&mut self.heads.request);
            // What is known is the length of the text.
            self.length = self.length.filter(|length| *length == 0);
        }
        self.record.grpc = is_grpc(&self.heads.request.headers);
        self.note_route(&forward.route.name);
        forward.edit_request(self.downstream, &mut self.heads.request);
        if self.client.expects_continue {
            self.heads.request.headers.remove("expect");
            self.client.send_continue();
        }

        let state = self.worker.upstreams.cluster(forward.cluster);
        let mut trying = Trying::new(self.record.start);
        let mut body = RequestBody::new(Trying::keep(forward));
        body.web = self.heads.web.and_then(Web::decoder);
        let mut upstream = loop {
            let mut asked = None;
            trying.attempts += 1;
            self.record.attempts = trying.attempts;
            let outcome = self.attempt(permit, snapshot, forward, &mut body, &mut trying).await;
            self.record.request_bytes = body.bytes;
            match outcome {
                Ok(upstream) => {
                    if forward.cluster.outlier.is_some() {
                        state.tell(forward.cluster, &upstream.busy.member, Told::of(&self.heads.response));
                    }
                    let wanted = retry::response_retried(forward, &self.heads.response);
                    if !(wanted && trying.again(forward, &state, &body, false, &mut self.record.flags)) {
                        break upstream;
                    }
                    asked = self.asked_pause(forward);
                }
                Err(Stop::Client) => return self.client_gone(),
                Err(Stop::Malformed) => {
                    let body = if self.heads.web.is_some() { &b"malformed body"[..] } else { &[] };
                    let answer = Respond { flag: "DPE", body: body.into(), ..Respond::new(400) };
                    return Box::pin(self.answer(&answer)).await;
                }
                Err(Stop::Failed(failure)) => {
                    self.record.flags = failure.flag();
                    state.failed(forward.cluster, &failure, self.record.member.as_deref());
                    if trying.replay(&failure, self.heads.request.method, &state, &body) {
                        trying.attempts -= 1;
                        body.restart();
                        continue;
                    }
                    let wanted = failure.retried(forward, self.heads.request.method);
                    let free = failure.refused();
                    if !(wanted && trying.again(forward, &state, &body, free, &mut self.record.flags)) {
                        return Box::pin(self.fail(forward, &failure, &trying)).await;
                    }
                    // Refused at once while there are others: nobody needs to wait.
                    if free && state.has_others(&trying.tried) {
                        body.restart();
                        continue;
                    }
                }
            }
            let pause =
                asked.unwrap_or_else(|| retry::back_off(forward, trying.retries, self.worker.random()));
            if Box::pin(self.pause(pause)).await.is_err() {
                return self.client_gone();
            }
            body.restart();
        };
        trying.under_way = None;
        state.retries.answered(&forward.cluster.breakers[usize::from(forward.action.high_priority)]);
        self.record.attempts = trying.attempts;
        super::mirror::send(self.worker, permit, self.downstream, forward, &self.heads.request, &body);
        let ended = self.respond(forward, &mut upstream, &mut body, &trying).await;
        // Only a connection that stands between two messages is kept.
        upstream.release(forward.cluster);
        ended
    }

    /// Passes the response, and what is left of the request, on.
    async fn respond(
        &mut self,
        forward: &Forward<'_>,
        upstream: &mut Upstream,
        body: &mut RequestBody,
        trying: &Trying,
    ) -> Ended {
        let (request, response) = (&self.heads.request, &mut self.heads.response);
        self.record.code = response.status;
        self.record.flags = self.record.flags.only(Flags::DELAY_INJECTED);
        let trailers = note_response(self.downstream, &mut self.heads.notes, trying);
        if response.status >= 500 {
            count(&upstream.busy.member.failures);
        }
        let web = self.heads.web.filter(|_| is_grpc(&response.headers));
        let length = match web {
            Some(_) => upstream.response_length(response).filter(|length| *length == 0),
            None => upstream.response_length(response),
        };
        let tunnel = response.status == 101
            || (request.method == Method::Connect && (200..300).contains(&response.status));
        // Counted from the end of the request, so it does not exist before that.
        if !tunnel && self.client.stream.recv_done() && !forward.http.router.suppress_envoy_headers {
            let time = trying.service_time().as_millis();
            response.headers.set_number("x-envoy-upstream-service-time", time as u64);
        }
        forward.edit_response(self.downstream, request, trying.attempts, response);
        if let Some(web) = web {
            self.heads.response.headers.remove("content-length");
            web.edit_response(&mut self.heads.response);
        }
        self.finish_head(tunnel);
        let sent = if tunnel {
            upstream.tunnel();
            self.client.send_tunnel_head(&self.heads.response)
        } else {
            self.client.send_head(&mut self.heads.response, length)
        };
        if sent.is_err() {
            return self.client_gone();
        }
        let mut flow = Flow::default();
        let web = web.filter(|_| length != Some(0)).map(Web::encoder);
        if trailers || web.is_some() {
            flow.extra = Some(Box::new(Extra { web, trailers: None }));
        }
        let one = forward.retry.and_then(|policy| policy.per_try_idle_timeout);
        let idle = forward.idle_timeout.into_iter().chain(one).min();
        let hard = forward.max_stream_duration.map(|most| self.record.start + most);
        let times = Times { idle, hard };
        let outcome = if tunnel {
            *body = RequestBody::new(0);
            // Boxed: few requests become one.
            Box::pin(self.tunnel(upstream, body, &mut flow, times)).await
        } else {
            self.relay(upstream, body, &mut flow, trying, times).await
        };
        self.record.response_bytes = flow.bytes;
        self.record.request_bytes = body.bytes;
        if self.record.grpc {
            self.record.grpc_status = grpc_status(&self.heads.response.headers).or(flow.grpc_status);
        }
        self.heads.notes.extra = flow.extra;
        if let Err(flag) = outcome {
            self.note_broken(flag);
            self.record.flags.add(flag);
            self.client.abort();
        }
        Ended(())
    }

    /// Pumps both bodies until the response is complete.
    async fn relay(
        &mut self,
        upstream: &mut Upstream,
        body: &mut RequestBody,
        flow: &mut Flow,
        trying: &Trying,
        Times { idle, hard }: Times,
    ) -> Result<(), Flags> {
        after_other_reads().await;
        let (worker, client, mut pace) = (self.worker, &mut *self.client, Pace::default());
        // The head has just come.
        let mut quiet_until = idle.map(|idle| trying.answered.unwrap_or_else(Instant::now) + idle);
        poll_fn(|cx| {
            let before = body.bytes;
            if !body.done()
                && let Poll::Ready(Err(Side::From(_))) =
                    body.poll(cx, &mut client.stream, &mut upstream.stream)
            {
                return Poll::Ready(Err(Flags::DOWNSTREAM_TERMINATED));
            }
            match flow.poll(cx, &mut upstream.stream, &mut client.stream) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
                Poll::Ready(Err(side)) => {
                    tracing::debug!(%side, "response broken off");
                    return Poll::Ready(Err(side.terminated()));
                }
            }
            if body.ended() && client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Flags::DOWNSTREAM_TERMINATED));
            }
            if std::mem::take(&mut flow.moved) || body.bytes != before {
                quiet_until = idle.map(|idle| Instant::now() + idle);
            }
            let hurried = if flow.stuck { pace.limit(worker, client, flow.bytes, cx) } else { None };
            let next = earliest(earliest(quiet_until, hard), hurried);
            client.alarm.poll(cx, next).map(|()| Err(Flags::STREAM_IDLE_TIMEOUT))
        })
        .await
    }
}

/// Lets the tasks that are ready go first, once. What became readable together is then read together and written together:
/// the peers are woken once for many messages, and not for each. Under load that is worth more than anything we compute
/// for a request; without it nobody else is ready, and it costs next to nothing.
async fn after_other_reads() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
