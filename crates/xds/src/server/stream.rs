use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{debug, info};

use super::Shared;
use super::body::Item;
use super::method::Method;
use crate::session::Session;
use crate::{
    Attached, DeltaSession, NodeInfo, Outcome, ResourceType, SessionConfig, SotwSession, Variant, Want,
};

/// One client's stream: moves messages between the wire, the session and the source.
pub(super) struct Stream {
    shared: Arc<Shared>,
    method: Method,
    requests: Requests,
    responses: mpsc::Sender<Item>,
}

/// The requests of a stream.
pub(super) enum Requests {
    Delta(Streaming<DeltaDiscoveryRequest>),
    Sotw(Streaming<DiscoveryRequest>),
}

pub(super) enum AnyRequest {
    Delta(Box<DeltaDiscoveryRequest>),
    Sotw(Box<DiscoveryRequest>),
}

enum AnySession {
    Delta(DeltaSession),
    Sotw(SotwSession),
}

/// Completes when the source has done what it can about names.
type Resolving = Pin<Box<dyn Future<Output = (ResourceType, Vec<Arc<str>>)> + Send>>;

impl Stream {
    pub(super) fn new(
        shared: Arc<Shared>,
        method: Method,
        requests: Requests,
        responses: mpsc::Sender<Item>,
    ) -> Self {
        Self { shared, method, requests, responses }
    }

    pub(super) async fn run(self) {
        let responses = self.responses.clone();
        let shared = self.shared.clone();
        let streams = shared.metrics.streams_of(self.method.variant);
        streams.fetch_add(1, Relaxed);
        shared.metrics.streams_opened.fetch_add(1, Relaxed);
        let ended = Box::pin(self.converse()).await;
        streams.fetch_sub(1, Relaxed);
        let status = match ended {
            Ok(()) => Status::ok(""),
            Err(status) => {
                shared.metrics.stream_errors.fetch_add(1, Relaxed);
                debug!(%status, "xDS stream ended");
                status
            }
        };
        // Whoever is still there to hear it.
        let _ = responses.send(Item::End(status)).await;
    }

    async fn converse(mut self) -> Result<(), Status> {
        let mut closing = self.shared.closing.subscribe();
        let first = tokio::select! {
            first = self.requests.next() => first?,
            _ = closing.wait_for(|closing| *closing) => return Err(leaving()),
            () = self.responses.closed() => return Ok(()),
        };
        let Some(first) = first else {
            return Ok(());
        };
        self.shared.admission.turn().await;
        let node = first.node().map(NodeInfo::from).unwrap_or_default();
        let (id, client) = (node.id.clone(), node.kind);
        let attached = self.shared.source.attach(node).await.map_err(|reason| {
            info!(node = %id, %reason, "xDS client refused");
            Status::invalid_argument(reason)
        })?;
        debug!(node = %id, stream = attached.id, ?client, "xDS stream open");
        let config = SessionConfig {
            client,
            on_demand: attached.wants.is_some(),
            interner: self.shared.interner.clone(),
        };
        let mut views = attached.views.clone();
        let view = views.borrow_and_update().clone();
        let now = Instant::now().into_std();
        let mut session = match self.method.variant {
            Variant::Delta => AnySession::Delta(DeltaSession::new(config, view, now)),
            Variant::StateOfTheWorld => AnySession::Sotw(SotwSession::new(config, view, now)),
        };
        self.take(&mut session, first)?;
        self.carry(session, attached, views, closing).await
    }

    /// The loop of an open stream.
    async fn carry(
        mut self,
        mut session: AnySession,
        attached: Attached,
        mut views: watch::Receiver<Arc<crate::View>>,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), Status> {
        let mut resolving: FuturesUnordered<Resolving> = FuturesUnordered::new();
        loop {
            let full = self.send_all(session.core()) && self.responses.capacity() == 0;
            while let Some((kind, names)) = session.core().poll_want() {
                if let Some(wants) = attached.wants.clone() {
                    resolving.push(Box::pin(want(wants, attached.id, kind, names)));
                }
            }
            while let Some(event) = session.core().poll_event() {
                self.shared.metrics.note_event(&event);
                let outcome = Outcome { stream: attached.id, event };
                if attached.outcomes.send(outcome).await.is_err() {
                    return Err(Status::unavailable("the control plane no longer serves this stream"));
                }
            }
            let deadline = session.core().next_deadline().map(Instant::from_std);
            let reading = !session.core().backlogged();
            tokio::select! {
                request = self.requests.next(), if reading => match request? {
                    Some(request) => {
                        session.core().on_tick(Instant::now().into_std());
                        self.take(&mut session, request)?;
                    }
                    None => return Ok(()),
                },
                changed = views.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the control plane withdrew this node's view"));
                    }
                    let view = views.borrow_and_update().clone();
                    session.core().on_tick(Instant::now().into_std());
                    session.core().on_view(view);
                }
                Some((kind, names)) = resolving.next() => {
                    let view = views.borrow_and_update().clone();
                    session.core().on_view(view);
                    session.core().on_resolved(kind, &names);
                }
                room = self.responses.reserve(), if full => match room {
                    Ok(permit) => drop(permit),
                    Err(_) => return Ok(()),
                },
                () = self.responses.closed() => return Ok(()),
                () = sleep_until(deadline) => session.core().on_tick(Instant::now().into_std()),
                _ = closing.wait_for(|closing| *closing) => return Err(leaving()),
            }
        }
    }

    /// Hands over what may be sent, as long as the connection takes it. What does not fit stays in
    /// the session, where newer views merge with it. Whether something went out.
    fn send_all(&self, session: &mut Session) -> bool {
        while let Ok(permit) = self.responses.try_reserve() {
            let Some(response) = session.poll_send() else {
                return false;
            };
            self.shared.metrics.note_response(&response);
            permit.send(Item::Response(response));
        }
        true
    }

    fn take(&self, session: &mut AnySession, request: AnyRequest) -> Result<(), Status> {
        let type_url = self.type_url(request.type_url())?;
        if let Some(kind) = ResourceType::from_url(&type_url) {
            self.shared.metrics.of(kind).requests.fetch_add(1, Relaxed);
        }
        match (session, request) {
            (AnySession::Delta(session), AnyRequest::Delta(request)) => {
                session.on_request(DeltaDiscoveryRequest { type_url, ..*request });
            }
            (AnySession::Sotw(session), AnyRequest::Sotw(request)) => {
                session.on_request(DiscoveryRequest { type_url, ..*request });
            }
            // A session is made by the variant of its method, and so are the requests.
            _ => return Err(Status::internal("variant of session and request differ")),
        }
        Ok(())
    }

    /// The type of a request; the per-type services may leave it out.
    fn type_url(&self, given: &str) -> Result<String, Status> {
        match self.method.only {
            Some(only) if given.is_empty() || given == only.url() => Ok(only.url().to_owned()),
            Some(only) => Err(Status::invalid_argument(format!(
                "this stream carries {}, not {given}; use aggregated discovery for several types",
                only.url()
            ))),
            None if given.is_empty() => {
                Err(Status::invalid_argument("type_url is empty; aggregated discovery needs it"))
            }
            None => Ok(given.to_owned()),
        }
    }
}

impl AnySession {
    fn core(&mut self) -> &mut Session {
        match self {
            Self::Delta(session) => &mut session.0,
            Self::Sotw(session) => &mut session.0,
        }
    }
}

impl Requests {
    async fn next(&mut self) -> Result<Option<AnyRequest>, Status> {
        Ok(match self {
            Self::Delta(stream) => stream.message().await?.map(|r| AnyRequest::Delta(Box::new(r))),
            Self::Sotw(stream) => stream.message().await?.map(|r| AnyRequest::Sotw(Box::new(r))),
        })
    }
}

impl AnyRequest {
    fn node(&self) -> Option<&Node> {
        match self {
            Self::Delta(request) => request.node.as_ref(),
            Self::Sotw(request) => request.node.as_ref(),
        }
    }

    fn type_url(&self) -> &str {
        match self {
            Self::Delta(request) => &request.type_url,
            Self::Sotw(request) => &request.type_url,
        }
    }
}

/// Asks the source for names. A source that is gone resolves nothing; the session's deadline does.
async fn want(
    wants: mpsc::Sender<Want>,
    stream: u64,
    kind: ResourceType,
    names: Vec<Arc<str>>,
) -> (ResourceType, Vec<Arc<str>>) {
    let (done, resolved) = oneshot::channel();
    if wants.send(Want { stream, kind, names: names.clone(), done }).await.is_ok() {
        let _ = resolved.await;
    }
    (kind, names)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn leaving() -> Status {
    Status::unavailable("this control plane is shutting down; connect to another one or again later")
}
