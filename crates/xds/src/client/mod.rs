//! The proxy's end: one delta ADS stream, kept up for ever.

mod book;
mod incoming;
mod run;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, watch};

use crate::ResourceType;
use book::Verdict;
use wanted::Wanted;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `http://HOST:PORT` of the xDS server.
    pub uri: String,
    /// Presented in the first request of each stream.
    pub node: Node,
    /// What is held already (from disk), presented as `initial_resource_versions`: type, name,
    /// version.
    pub initial: Vec<(ResourceType, Arc<str>, Arc<str>)>,
    /// Limit of one attempt to connect; default 5 s.
    pub connect_timeout: Duration,
    /// First pause after a failure; doubled with jitter up to [`ClientConfig::backoff_max`];
    /// default 100 ms.
    pub backoff_base: Duration,
    /// Longest pause between attempts; default 5 s.
    pub backoff_max: Duration,
    /// How many updates may wait for the consumer before the stream is no longer read; default 16.
    pub queue: usize,
    /// Largest message taken, in bytes; default 64 MiB.
    pub max_message: usize,
}

impl ClientConfig {
    /// A configuration with defaults.
    pub fn new(uri: impl Into<String>, node: Node) -> Self {
        Self {
            uri: uri.into(),
            node,
            initial: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            backoff_base: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            queue: 16,
            max_message: 64 << 20,
        }
    }
}

/// A delta ADS client.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Starts the client on the current tokio runtime; it runs until the receiver of updates is
    /// dropped. Connection failures are retried for ever, and seen in [`ClientHandle::status`].
    pub fn connect(config: ClientConfig) -> (ClientHandle, mpsc::Receiver<Update>) {
        let wanted = Arc::new(watch::channel(Wanted::default()).0);
        let (state, status) = watch::channel(Status::default());
        let (updates, receiver) = mpsc::channel(config.queue.max(1));
        tokio::spawn(run::run(config, wanted.clone(), state, updates));
        (ClientHandle { wanted, status }, receiver)
    }
}

/// Says what the client wants to know. Cheap calls that never block; may be made at any time,
/// connected or not. What was wanted stays wanted when the handle is dropped.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    wanted: Arc<watch::Sender<Wanted>>,
    status: watch::Receiver<Status>,
}

impl ClientHandle {
    /// Subscribes to names. Each is answered: by the resource, or by a removal where it does not
    /// exist. Names that are subscribed to already are not asked for again.
    pub fn subscribe<N: Into<Arc<str>>>(&self, kind: ResourceType, names: impl IntoIterator<Item = N>) {
        let names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        self.wanted.send_if_modified(|wanted| wanted.add(kind, names));
    }

    /// Subscribes to everything of a type (`*`).
    pub fn subscribe_all(&self, kind: ResourceType) {
        self.subscribe(kind, ["*"]);
    }

    /// Ends the subscription to names; nothing more is heard of them unless subscribed to again,
    /// and then they are sent anew.
    pub fn unsubscribe<'n>(&self, kind: ResourceType, names: impl IntoIterator<Item = &'n str>) {
        let names: Vec<&str> = names.into_iter().collect();
        self.wanted.send_if_modified(|wanted| wanted.remove(kind, &names));
    }

    /// How the connection is doing; changes can be awaited.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// State of the connection, for readiness and logs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// Whether a stream is open that the server has accepted.
    pub connected: bool,
    /// Streams that the server accepted so far.
    pub connects: u64,
    /// Attempts and streams that failed since the last response.
    pub failures: u64,
    /// Why the last attempt or stream ended.
    pub last_error: Option<String>,
    /// Responses or resources that could not be understood so far (refused, or the stream closed).
    pub malformed: u64,
    /// Responses received so far.
    pub responses: u64,
}

/// One response of the server, of one type.
#[derive(Debug)]
pub struct Update {
    /// Type of the resources.
    pub kind: ResourceType,
    /// Resources that are new or changed.
    pub added: Vec<Received>,
    /// Names that are no more, or never were.
    pub removed: Vec<Arc<str>>,
    /// Takes the verdict; dropped without one, the server hears nothing, and after a reconnect
    /// these resources are sent again.
    pub reply: Reply,
}

/// One resource received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Name within its type.
    pub name: Arc<str>,
    /// The server's version.
    pub version: Arc<str>,
    /// The message in protobuf encoding.
    pub body: Bytes,
}

/// Says what became of an [`Update`]. May be used later than the next update is taken.
#[derive(Debug)]
pub struct Reply {
    sequence: u64,
    /// Unbounded, but never longer than the updates that are out.
    verdicts: Option<mpsc::UnboundedSender<(u64, Verdict)>>,
}

impl Reply {
    /// Everything in the update is in force.
    pub fn ack(mut self) {
        self.send(Verdict::Accepted);
    }

    /// The named resources were refused, each for its reason; the others are in force. The server
    /// is told `NAME: REASON`, one line each.
    pub fn nack(mut self, errors: BTreeMap<Arc<str>, String>) {
        let verdict = if errors.is_empty() { Verdict::Accepted } else { Verdict::Refused(errors) };
        self.send(verdict);
    }

    fn send(&mut self, verdict: Verdict) {
        if let Some(verdicts) = self.verdicts.take() {
            // Fails when the client has ended: nobody is left to tell.
            let _ = verdicts.send((self.sequence, verdict));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send(Verdict::Abandoned);
    }
}

#[cfg(test)]
#[path = "../client_test.rs"]
mod client_test;
