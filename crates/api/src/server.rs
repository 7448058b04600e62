//! The socket side: connections bounded, headers and idle readers timed, one graceful end.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{Api, collect, lease, routes};

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;
/// A client has so long to send a request's head, the time between two requests included: as long as
/// Kubernetes lets a connection idle, so that clients which keep theirs do not find them closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// A peer that takes nothing of what is sent for so long is dropped.
const SLOW_READER: Duration = Duration::from_secs(60);
/// Requests under way at shutdown have so long to end.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failure to accept (no file descriptors), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(
    api: Arc<Api>,
    listener: TcpListener,
    stop: watch::Sender<bool>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut background = JoinSet::new();
    background.spawn(collect::run(api.clone()));
    background.spawn(lease::run(api.clone()));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = accept(&listener, &room) => match accepted {
                Ok(stream) => {
                    connections.spawn(connection(api.clone(), stream, permit));
                }
                Err(error) => {
                    tracing::warn!("API: cannot accept a connection: {error}; check the limit of open files");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Watches end and kept-alive connections close when they see this.
    let _ = stop.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("API: closing connections whose requests did not end in {DRAIN:?}");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (io::Result<TcpStream>, Option<OwnedSemaphorePermit>) {
    let permit = room.clone().acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), permit)
}

async fn connection(api: Arc<Api>, stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
    let _permit = permit;
    // Best effort: neither changes what is answered.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(SLOW_READER));
    let stopped = api.stopped();
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(routes::answer(api, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopped => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("API: a connection ended with {error}");
    }
}
