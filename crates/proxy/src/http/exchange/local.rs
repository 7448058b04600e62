//! What an exchange answers itself: faults, failures, direct responses.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Ended, Exchange};
use crate::decide::{self, Decision, FaultOutcome, Forward, LocalReply, Respond};
use crate::http::answer;
use crate::http::grpc_web::Web;
use crate::http::head::is_grpc;
use crate::http::retry::{self, Failure};
use crate::http::stream::grpc_status;
use crate::http::trying::Trying;
use crate::snapshot::HttpFilter;
use crate::telemetry::Flags;
use crate::upstream::connect::ConnectError;

impl Exchange<'_> {
    /// Notes whether the client speaks gRPC-Web, where that is translated.
    pub(super) fn note_web(&mut self, decision: &Decision<'_>) {
        let on = |filter: &HttpFilter| matches!(filter, HttpFilter::GrpcWeb { disabled: false });
        let said = match decision {
            Decision::Forward(forward) => Some(forward.web),
            Decision::Respond(answer) => answer.web,
            Decision::Need(_) => None,
        };
        let translated =
            said.unwrap_or_else(|| self.downstream.http().is_some_and(|http| http.filters.iter().any(on)));
        self.heads.web = if translated { Web::of(&self.heads.request) } else { None };
    }

    /// How long the response at hand asks to be left alone before the next try.
    pub(super) fn asked_pause(&self, forward: &Forward<'_>) -> Option<Duration> {
        let policy = forward.retry.filter(|policy| policy.rate_limited.is_some())?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        retry::asked_pause(policy, &self.heads.response, now, self.worker.random())
    }

    /// Delays and aborts. `Some` when the request ends here.
    pub(super) async fn inject(&mut self, fault: &FaultOutcome<'_>) -> Option<Ended> {
        if fault.max_active.is_some() {
            let totals = self.worker.upstreams.ledger().totals(&self.downstream.listener.name);
            // Held until the request ends, as Envoy does. With too many at work the request goes on unharmed.
            self.fault = totals.fault(fault.max_active).ok()?;
        }
        if let Some(delay) = fault.delay {
            self.record.flags.add(Flags::DELAY_INJECTED);
            if self.pause(delay).await.is_err() {
                return Some(self.client_gone());
            }
        }
        let abort = fault.abort.as_ref()?;
        self.record.flags.add(Flags::FAULT_INJECTED);
        self.note("fault_filter_abort");
        let (request, response) = (&self.heads.request, &mut self.heads.response);
        response.clear();
        let body = decide::local_reply(LocalReply::from(abort), request, response);
        Some(self.send_answer(body).await)
    }

    pub(super) async fn answer_after_fault(&mut self, answer: &Respond<'_>) -> Ended {
        if let Some(fault) = &answer.fault
            && let Some(ended) = self.inject(fault).await
        {
            return ended;
        }
        self.answer(answer).await
    }

    /// Waits, unless the client goes away.
    pub(super) async fn pause(&mut self, time: Duration) -> Result<(), ()> {
        if time.is_zero() {
            return Ok(());
        }
        let until = Instant::now() + time;
        let client = &mut *self.client;
        poll_fn(|cx| {
            if client.alarm.poll(cx, Some(until)).is_ready() {
                return Poll::Ready(Ok(()));
            }
            client.poll_gone(cx).map(Err)
        })
        .await
    }

    /// Answers for an endpoint that did not.
    pub(super) async fn fail(&mut self, forward: &Forward<'_>, failure: &Failure, trying: &Trying) -> Ended {
        self.record.attempts = trying.attempts;
        self.note_failure(failure, trying);
        let complete = self.client.stream.recv_done();
        let (status, text) = (failure.status(complete), failure.body(trying.retries > 0));
        let (request, response) = (&self.heads.request, &mut self.heads.response);
        response.clear();
        let body = match self.heads.web {
            // The request is one of gRPC by now; the answer is not to be.
            Some(_) => {
                response.status = status;
                text.as_bytes()
            }
            None => decide::local_reply(LocalReply::new(status, text.as_bytes()), request, response),
        };
        if matches!(failure, Failure::Connect(ConnectError::Overflow))
            && !forward.http.router.suppress_envoy_headers
        {
            response.headers.set("x-envoy-overloaded", b"true");
        }
        forward.edit_local(self.downstream, request, response);
        self.send_answer(body).await
    }

    /// Answers that there is too much to do.
    pub(super) async fn shed(&mut self) -> Ended {
        let grpc = is_grpc(&self.heads.request.headers);
        let body = b"overload"[..].into();
        let answer = Respond { flag: "OM", details: "overload", body, grpc, ..Respond::new(503) };
        self.answer(&answer).await
    }

    /// Answers as the configuration says.
    pub(super) async fn answer(&mut self, respond: &Respond<'_>) -> Ended {
        self.record.flags.add(Flags::named(respond.flag));
        self.record.grpc = respond.grpc || self.heads.web.is_some();
        self.note(respond.details);
        if let Some(matched) = &respond.matched {
            self.note_route(&matched.route.name);
        }
        let (request, response) = (&self.heads.request, &mut self.heads.response);
        response.clear();
        let body = respond.write_head(self.downstream, request, response);
        self.send_answer(body).await
    }

    async fn send_answer(&mut self, body: &[u8]) -> Ended {
        let body = match self.heads.web {
            Some(web) => {
                web.edit_answer(&mut self.heads.response, body);
                &[]
            }
            None => body,
        };
        answer::describe(&mut self.heads.response, body);
        if !self.client.stream.recv_done() || decide::requested_upgrade(&self.heads.request).is_some() {
            // Nobody reads the rest of the request, so nothing can follow it on this connection.
            self.client.keep_alive = false;
        }
        self.finish_head(false);
        self.record.code = self.heads.response.status;
        if self.record.grpc {
            self.record.grpc_status = grpc_status(&self.heads.response.headers);
        }
        let length = body.len() as u64;
        self.record.response_bytes = length;
        let sent = match self.client.send_head(&mut self.heads.response, Some(length)) {
            Ok(()) => answer::send(self.client, body).await,
            Err(broken) => Err(broken),
        };
        if sent.is_err() {
            return self.client_gone();
        }
        Ended(())
    }

    pub(super) fn client_gone(&mut self) -> Ended {
        self.record.flags.add(Flags::DOWNSTREAM_TERMINATED);
        self.note("downstream_remote_disconnect");
        self.client.abort();
        Ended(())
    }

    /// `date`, `server` and what else every response gets.
    pub(super) fn finish_head(&mut self, upgraded: bool) {
        let headers = &mut self.heads.response.headers;
        if !headers.contains("date") {
            self.worker.date.with(SystemTime::now(), |date| headers.append("date", date));
        }
        decide::finish_response(self.downstream, &self.heads.request, upgraded, &mut self.heads.response);
    }
}
