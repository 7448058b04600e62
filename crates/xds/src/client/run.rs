use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::google::rpc;
use http::uri::PathAndQuery;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info, warn};

use super::book::{Answer, Book, Verdict};
use super::incoming::{Delta, Resource, Response};
use super::wanted::Wanted;
use super::{ClientConfig, Received, Reply, Status, Update};
use crate::ResourceType;

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Room for requests that the connection has not taken yet.
const REQUESTS: usize = 64;

/// Why a stream ended.
enum End {
    /// The consumer is gone: no more streams.
    Unwanted,
    Failed(String),
}

/// Keeps a stream up until the consumer is gone.
pub(super) async fn run(
    config: ClientConfig,
    wanted: Arc<watch::Sender<Wanted>>,
    status: watch::Sender<Status>,
    updates: mpsc::Sender<Update>,
) {
    let (verdicts, verdict) = mpsc::unbounded_channel();
    let book = Book::new(&config.initial);
    let wants = wanted.subscribe();
    let mut link =
        Link { wants, _wanted: wanted, status, updates, verdicts, verdict, book, streams: 0, config };
    let mut random = fastrand::Rng::new();
    loop {
        let End::Failed(error) = link.stream().await else {
            return;
        };
        let failures = link.failed(error);
        let pause = backoff(&link.config, failures, random.f64());
        if !link.pause(pause).await {
            return;
        }
    }
}

/// Doubles with each failure in a row; between half and all of it, by chance.
fn backoff(config: &ClientConfig, failures: u64, chance: f64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let full = config.backoff_base.saturating_mul(1 << doublings).min(config.backoff_max);
    full.mul_f64(0.5 + chance / 2.0)
}

struct Link {
    config: ClientConfig,
    wants: watch::Receiver<Wanted>,
    /// What was wanted stays wanted when the last handle is gone.
    _wanted: Arc<watch::Sender<Wanted>>,
    status: watch::Sender<Status>,
    updates: mpsc::Sender<Update>,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
    verdict: mpsc::UnboundedReceiver<(u64, Verdict)>,
    book: Book,
    /// Streams begun; tells answers to this stream from answers to an earlier one.
    streams: u64,
}

impl Link {
    fn failed(&self, error: String) -> u64 {
        let uri = &self.config.uri;
        let mut failures = 0;
        self.status.send_modify(|status| {
            status.failures += 1;
            failures = status.failures;
            if status.connected {
                info!(%uri, %error, "lost the xDS server; going on with what is there");
            } else if failures.is_power_of_two() {
                warn!(%uri, %error, attempts = failures, "cannot reach the xDS server; is it running, and is this its address?");
            }
            status.connected = false;
            status.last_error = Some(error);
        });
        failures
    }

    /// Waits, taking verdicts meanwhile; `false` when the consumer is gone.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = tokio::time::sleep(pause);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return true,
                () = self.updates.closed() => return false,
                Some((sequence, verdict)) = self.verdict.recv() => {
                    self.book.settle(sequence, verdict);
                }
            }
        }
    }

    /// One stream from its connection to its end.
    async fn stream(&mut self) -> End {
        self.streams += 1;
        let channel = tokio::select! {
            channel = connect(&self.config) => match channel {
                Ok(channel) => channel,
                Err(error) => return End::Failed(error),
            },
            () = self.updates.closed() => return End::Unwanted,
        };
        let (requests, outbound) = mpsc::channel(REQUESTS);
        let mut told = Wanted::default();
        let mut first = true;
        let call = open(channel, outbound, self.config.max_message);
        let mut call = std::pin::pin!(call);
        // Some servers send their headers only with the first response: ask before they came.
        let mut responses = loop {
            if let Err(end) = self.tell(&mut told, &requests, &mut first).await {
                return end;
            }
            tokio::select! {
                opened = &mut call => match opened {
                    Ok(responses) => break responses,
                    Err(status) => return End::Failed(describe(&status)),
                },
                _ = self.wants.changed() => {}
                () = self.updates.closed() => return End::Unwanted,
                Some((sequence, verdict)) = self.verdict.recv() => {
                    self.book.settle(sequence, verdict);
                }
            }
        };
        self.status.send_modify(|status| {
            status.connected = true;
            status.connects += 1;
        });
        debug!(uri = %self.config.uri, "xDS stream open");
        self.converse(&mut responses, &requests, told, first).await
    }

    async fn converse(
        &mut self,
        responses: &mut Streaming<Response>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        mut told: Wanted,
        mut first: bool,
    ) -> End {
        let updates = self.updates.clone();
        loop {
            if let Err(end) = self.tell(&mut told, requests, &mut first).await {
                return end;
            }
            // Room for an update before the response is read: a slow consumer slows the server.
            let room = updates.capacity() > 0;
            tokio::select! {
                response = responses.message(), if room => {
                    let end = match response {
                        Ok(Some(response)) => self.receive(response, requests).await,
                        Ok(None) => Some(End::Failed("the server closed the stream".to_owned())),
                        Err(status) => Some(End::Failed(self.broken(&status))),
                    };
                    if let Some(end) = end {
                        return end;
                    }
                }
                permit = updates.reserve(), if !room => match permit {
                    Ok(permit) => drop(permit),
                    Err(_) => return End::Unwanted,
                },
                Some((sequence, verdict)) = self.verdict.recv() => {
                    if let Some(answer) = self.book.settle(sequence, verdict)
                        && answer.stream == self.streams
                        && requests.send(reply(answer)).await.is_err()
                    {
                        return End::Failed("the connection was lost".to_owned());
                    }
                }
                _ = self.wants.changed() => {}
                () = updates.closed() => return End::Unwanted,
            }
        }
    }

    fn broken(&self, status: &tonic::Status) -> String {
        // What cannot be decoded ends the stream; a new one may do better.
        if matches!(status.code(), tonic::Code::Internal | tonic::Code::OutOfRange) {
            self.status.send_modify(|status| status.malformed += 1);
        }
        describe(status)
    }

    /// Tells the server what changed in what is wanted.
    async fn tell(
        &mut self,
        told: &mut Wanted,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        first: &mut bool,
    ) -> Result<(), End> {
        let wanted = self.wants.borrow_and_update().clone();
        for kind in ResourceType::ALL {
            let Some(difference) = wanted.since(told, kind) else {
                continue;
            };
            self.book.forget(kind, &difference.unsubscribe, &wanted);
            let new = !told.wants(kind);
            let request = DeltaDiscoveryRequest {
                node: std::mem::take(first).then(|| self.config.node.clone()),
                type_url: kind.url().to_owned(),
                initial_resource_versions: if new {
                    self.book.present(kind, &wanted)
                } else {
                    Default::default()
                },
                resource_names_subscribe: difference.subscribe,
                resource_names_unsubscribe: difference.unsubscribe,
                ..Default::default()
            };
            // Bounded by the connection taking requests; a dead one ends the stream.
            if requests.send(request).await.is_err() {
                return Err(End::Failed("the connection was lost".to_owned()));
            }
        }
        *told = wanted;
        Ok(())
    }

    /// Hands a response to the consumer.
    async fn receive(
        &mut self,
        response: Response,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Option<End> {
        self.status.send_modify(|status| {
            status.failures = 0;
            status.responses += 1;
        });
        let Some(kind) = ResourceType::from_url(&response.type_url) else {
            let error = format!("unknown type {:?}: it was not asked for", response.type_url);
            return self.refuse(response, error, requests).await;
        };
        let wanted = self.wants.borrow().clone();
        let mut malformed = BTreeMap::new();
        let mut added = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            match received(kind, resource) {
                Ok(resource) => {
                    // Given up meanwhile: nobody waits for it.
                    if let Some(subscription) = wanted.subscription(kind, &resource.name) {
                        added.push((resource, subscription));
                    }
                }
                Err((name, reason)) => {
                    malformed.insert(name, reason);
                }
            }
        }
        if !malformed.is_empty() {
            self.status.send_modify(|status| status.malformed += malformed.len() as u64);
        }
        let removed: Vec<Arc<str>> = response.removed_resources.into_iter().map(Arc::from).collect();
        let entries =
            added.iter().map(|(r, subscription)| (r.name.clone(), r.version.clone(), *subscription));
        let came = (self.streams, response.nonce);
        let sequence = self.book.enter(kind, came, entries, removed.clone(), malformed);
        let reply = Reply { sequence, verdicts: Some(self.verdicts.clone()) };
        let added = added.into_iter().map(|(resource, _)| resource).collect();
        match self.updates.send(Update { kind, added, removed, reply }).await {
            Ok(()) => None,
            Err(_) => Some(End::Unwanted),
        }
    }

    /// A response that cannot be used at all.
    async fn refuse(
        &mut self,
        response: Response,
        error: String,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Option<End> {
        warn!(uri = %self.config.uri, %error, "the xDS server sent something that cannot be used");
        self.status.send_modify(|status| status.malformed += 1);
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: Some(invalid(error)),
            ..Default::default()
        };
        let sent = requests.send(request).await;
        sent.is_err().then(|| End::Failed("the connection was lost".to_owned()))
    }
}

/// Checks the envelope of a resource.
fn received(kind: ResourceType, resource: Resource) -> Result<Received, (Arc<str>, String)> {
    let name: Arc<str> = resource.name.into();
    let Some(any) = resource.resource else {
        return Err((name, "the response names it without its content".to_owned()));
    };
    if name.is_empty() {
        return Err((name, format!("a resource of type {} without a name", any.type_url)));
    }
    if any.type_url != kind.url() {
        return Err((name, format!("is a {} in a response of {}", any.type_url, kind.url())));
    }
    Ok(Received { name, version: resource.version.into(), body: any.value })
}

fn reply(answer: Answer) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: answer.kind.url().to_owned(),
        response_nonce: answer.nonce,
        error_detail: answer.error.map(invalid),
        ..Default::default()
    }
}

fn invalid(message: String) -> rpc::Status {
    rpc::Status { code: tonic::Code::InvalidArgument as i32, message, details: Vec::new() }
}

async fn connect(config: &ClientConfig) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(config.uri.clone())
        .map_err(|error| format!("{:?} is not a URL of an xDS server: {}", config.uri, chain(&error)))?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20);
    endpoint.connect().await.map_err(|error| chain(&error))
}

async fn open(
    channel: Channel,
    outbound: mpsc::Receiver<DeltaDiscoveryRequest>,
    limit: usize,
) -> Result<Streaming<Response>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(limit);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(chain(&error)))?;
    let request = tonic::Request::new(ReceiverStream::new(outbound));
    let response = grpc.streaming(request, PathAndQuery::from_static(METHOD), Delta).await?;
    Ok(response.into_inner())
}

fn describe(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
