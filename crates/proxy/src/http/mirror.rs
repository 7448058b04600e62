//! Copies of requests, sent beside them; nobody waits for their answers.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::body::RequestBody;
use super::head::{RequestHead, ResponseHead};
use super::stream::{Got, Stream};
use crate::decide::{Downstream, Forward};
use crate::policy::Permit;
use crate::snapshot::Name;
use crate::upstream::attempt::{Heard, Sending, Upstream};
use crate::upstream::{Busy, preconnect, select};
use crate::worker::Worker;

/// The longest a copy may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The most copies under way on one worker: a slow mirror must not fill the memory.
const MOST: usize = 1024;

/// Sends the copies of a request. Its body goes along when it is complete and kept, else there is no copy.
pub(crate) fn send(
    worker: &Rc<Worker>,
    permit: Permit,
    downstream: &Downstream,
    forward: &Forward<'_>,
    head: &RequestHead,
    body: &RequestBody,
) {
    for mirror in &forward.mirrors {
        let Some(body) = body.copy() else { continue };
        if worker.mirrors.get() >= MOST {
            continue;
        }
        let mut head = head.clone();
        mirror.edit(downstream, &mut head);
        let (worker, body) = (worker.clone(), body.to_vec());
        let cluster = mirror.cluster.name.clone();
        let original_dst = downstream.original_dst();
        worker.mirrors.set(worker.mirrors.get() + 1);
        tokio::task::spawn_local(async move {
            let _ =
                tokio::time::timeout(LIMIT, run(&worker, permit, &cluster, original_dst, &head, &body)).await;
            worker.mirrors.set(worker.mirrors.get() - 1);
        });
    }
}

async fn run(
    worker: &Worker,
    permit: Permit,
    cluster: &Name,
    original_dst: Option<std::net::SocketAddr>,
    head: &RequestHead,
    body: &[u8],
) {
    let snapshot = worker.snapshot();
    let Some(cluster) = snapshot.cluster(cluster) else { return };
    let state = worker.upstreams.cluster(cluster);
    let target = select::destination(cluster, head, original_dst);
    let Some(chosen) = select::select(&snapshot, cluster, &state, target, worker.random(), &[]) else {
        return;
    };
    let breakers = &cluster.breakers[0];
    let Ok(place) = state.requests.take(breakers.max_requests) else { return };
    let busy = Busy::new(state, chosen.member).holding(place);
    let sending =
        Sending { length: Some(body.len() as u64), upgrade: false, raw: false, client: None, breakers };
    let Ok(mut upstream) = Upstream::open(permit, worker, cluster, busy, head, &sending).await else {
        return;
    };
    preconnect::see_to(worker, cluster, &upstream, head, &sending);
    let mut rest = body;
    let mut finished = false;
    let mut response = ResponseHead::default();
    let answered = poll_fn(|cx| {
        while !rest.is_empty() {
            match upstream.stream.poll_send(cx, rest) {
                Poll::Ready(Ok(len)) => rest = &rest[len..],
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !std::mem::replace(&mut finished, true) && upstream.stream.finish(None).is_err() {
            return Poll::Ready(false);
        }
        if let Poll::Ready(Err(_)) = upstream.stream.poll_flush(cx) {
            return Poll::Ready(false);
        }
        loop {
            match upstream.poll_head(cx, &mut response) {
                Poll::Ready(Ok(Heard::Interim)) => {}
                other => return other.map(|outcome| outcome.is_ok()),
            }
        }
    })
    .await;
    if answered && poll_fn(|cx| poll_drain(cx, &mut upstream.stream)).await {
        upstream.release(cluster);
    }
}

/// Reads a body to its end and forgets it.
fn poll_drain(cx: &mut std::task::Context<'_>, stream: &mut Stream) -> Poll<bool> {
    loop {
        match stream.poll_recv(cx) {
            Poll::Ready(Ok(Got::Data)) => {
                let len = stream.chunk().len();
                stream.consume(len);
            }
            Poll::Ready(Ok(Got::End)) => {
                stream.take_trailers();
                return Poll::Ready(true);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => return Poll::Pending,
        }
    }
}
