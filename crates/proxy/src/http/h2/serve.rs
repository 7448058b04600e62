//! The server side: the requests of one connection, side by side.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{H2Stream, Replayed};
use crate::conn::alarm::{Alarm, earliest};
use crate::conn::open::is_h2;
use crate::conn::registry::{Control, Wish};
use crate::conn::wire::Wire;
use crate::decide::Downstream;
use crate::http::client::Client;
use crate::http::exchange::Exchange;
use crate::http::h1::encode::Case;
use crate::http::h1::parse;
use crate::http::head::{RequestHead, Version};
use crate::http::meter::{Metered, Resets};
use crate::http::serve::{LINGER, lifetime, linger, record_malformed};
use crate::http::stream::{Stream, WireStream};
use crate::http::translate;
use crate::overload::{HURRY, Stage};
use crate::snapshot::Codec;
use crate::worker::Worker;

/// Serves HTTP/2 until the connection ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
    mut wire: Wire,
    control: Rc<Control>,
) {
    let Some(http) = downstream.http() else { return };
    match Box::pin(is_h2(&mut wire, Codec::Auto, http.idle_timeout, &control)).await {
        Some(true) => {}
        // A wrong preface is a connection error (RFC 9113, 3.4); so closed that the peer can see it.
        Some(false) => {
            record_malformed(&worker, &downstream, 0);
            return Box::pin(linger(&mut WireStream::new(wire), &mut Alarm::default())).await;
        }
        None => return,
    }
    let settings = &http.http2;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams.unwrap_or(1024))
        .initial_window_size(settings.stream_window.unwrap_or(1 << 20))
        .initial_connection_window_size(settings.connection_window.unwrap_or(4 << 20))
        .max_header_list_size(http.max_request_headers)
        .max_send_buffer_size(256 * 1024)
        .enable_connect_protocol();
    let io = Metered::new(Replayed::new(wire), true);
    let flooded = io.flooded();
    let handshake = builder.handshake::<_, bytes::Bytes>(io);
    let handshake = tokio::time::timeout(http.idle_timeout.unwrap_or(Duration::MAX), handshake);
    let mut connection = match handshake.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            if error.is_library() {
                record_malformed(&worker, &downstream, 0);
            }
            return;
        }
        Err(_) => return,
    };
    let (mut alarm, active) = (Alarm::default(), Rc::new(std::cell::Cell::new(0_usize)));
    let (mut draining, mut deadline, mut calmed) = (false, None, false);
    let mut shedding = false;
    let (resets, mut old) = (Rc::<Resets>::default(), lifetime(http));
    loop {
        let accepted = poll_fn(|cx| {
            control.register(cx.waker());
            if control.wish() >= Wish::Drain && !std::mem::replace(&mut draining, true) {
                connection.graceful_shutdown();
            }
            if control.wish() == Wish::Cut {
                return Poll::Ready(None);
            }
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
            if !calmed && worker.metrics.calms(flooded.get(), &resets) {
                calmed = true;
                deadline = Some(Instant::now() + LINGER);
                connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                // Says so, if the peer takes it.
                if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                    return Poll::Ready(accepted.filter(Result::is_err));
                }
            }
            if calmed {
                return alarm.poll(cx, deadline).map(|()| None);
            }
            let now_shedding = worker.stage.get() >= Stage::CloseIdle;
            if active.get() > 0 {
                deadline = None;
            } else if deadline.is_none() || shedding != now_shedding {
                let most = if now_shedding { Some(HURRY) } else { http.idle_timeout };
                deadline = most.map(|most| Instant::now() + most);
            }
            shedding = now_shedding;
            if alarm.poll(cx, earliest(deadline, old)).is_ready() {
                // Asked to end once already, and silent since.
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) && draining {
                    return Poll::Ready(None);
                }
                connection.graceful_shutdown();
                (draining, deadline, old) = (true, None, None);
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        let (request, respond) = match accepted {
            Some(Ok(accepted)) => accepted,
            // The peer broke the protocol, and was told how by GOAWAY.
            Some(Err(error)) if error.is_library() => {
                record_malformed(&worker, &downstream, 0);
                break;
            }
            Some(Err(_)) | None => break,
        };
        let (worker, downstream, control) = (worker.clone(), downstream.clone(), control.clone());
        let (active, resets) = (active.clone(), resets.clone());
        active.set(active.get() + 1);
        tokio::task::spawn_local(async move {
            let early = serve_one(&worker, &downstream, control, request, respond).await;
            resets.closed(early);
            active.set(active.get() - 1);
        });
    }
}

/// Serves one request of an HTTP/2 connection; true when the client broke it off soon after it began.
async fn serve_one(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    control: Rc<Control>,
    request: http::Request<h2::RecvStream>,
    respond: h2::server::SendResponse<bytes::Bytes>,
) -> bool {
    let (parts, body) = request.into_parts();
    let most = downstream.http().map_or(0, |http| http.max_headers_count as usize);
    if let Err(malformed) = translate::check(&parts, most) {
        refuse(worker, downstream, respond, malformed.status());
        return false;
    }
    let length = if body.is_end_stream() {
        Some(0)
    } else {
        parts.headers.get("content-length").and_then(|value| parse::decimal(value.as_bytes()))
    };
    let mut heads = worker.take_heads();
    translate::from_h2(&parts, &mut heads.request);
    let mut client = Client {
        stream: Stream::H2(H2Stream::new((length != Some(0)).then_some(body), None)),
        control,
        alarm: Alarm::default(),
        case: Case::Lower,
        respond: Some(respond),
        method: heads.request.method,
        version: Version::Http2,
        keep_alive: true,
        expects_continue: expects_continue(downstream, &heads.request),
        interim: false,
    };
    // Boxed: a task is moved several times before it first runs.
    let early = Box::pin(Exchange::new(worker, downstream, &mut client, &mut heads, length).run()).await;
    worker.give_heads(heads);
    early
}

/// Whether a client waits for a `100 Continue` that is ours to give (RFC 9110, 10.1.1).
fn expects_continue(downstream: &Downstream, head: &RequestHead) -> bool {
    head.headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
        && downstream.http().is_some_and(|http| !http.proxy_100_continue)
}

/// Answers a request that HTTP/2 can carry and we cannot.
fn refuse(
    worker: &Worker,
    downstream: &Downstream,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    status: u16,
) {
    record_malformed(worker, downstream, status);
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    // A client that is gone needs no answer.
    let _ = respond.send_response(response, true);
}
