//! The proxy's end: one delta ADS stream, kept up for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, watch};

use crate::ResourceType;

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
    /// Starts the client on the current tokio runtime; it runs until the handle and the receiver
    /// are dropped. Connection failures are retried, and seen in [`ClientHandle::status`].
    pub fn connect(config: ClientConfig) -> (ClientHandle, mpsc::Receiver<Update>) {
        let (wanted, _) = watch::channel(Wanted);
        let (_, status) = watch::channel(Status::default());
        let (_, updates) = mpsc::channel(config.queue.max(1));
        (ClientHandle { wanted, status }, updates)
    }
}

#[derive(Clone, Default, Debug)]
struct Wanted;

/// Says what the client wants to know. Cheap calls that never block; may be called at any time,
/// connected or not.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    #[expect(dead_code, reason = "the stream that reads it comes next")]
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<Status>,
}

impl ClientHandle {
    /// Subscribes to names. A name that does not exist is answered by a removal.
    pub fn subscribe<N: Into<Arc<str>>>(&self, kind: ResourceType, names: impl IntoIterator<Item = N>) {
        let _ = (kind, names.into_iter().map(Into::into).collect::<Vec<Arc<str>>>());
    }

    /// Subscribes to everything of a type (`*`).
    pub fn subscribe_all(&self, kind: ResourceType) {
        self.subscribe(kind, ["*"]);
    }

    /// Ends the subscription to names; nothing more is heard of them.
    pub fn unsubscribe<'n>(&self, kind: ResourceType, names: impl IntoIterator<Item = &'n str>) {
        let _ = (kind, names.into_iter().count());
    }

    /// How the connection is doing; changes can be awaited.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// State of the connection, for readiness and logs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// Whether a stream is open and the server has answered on it.
    pub connected: bool,
    /// Streams opened so far.
    pub connects: u64,
    /// Attempts and streams that failed since the last answer.
    pub failures: u64,
    /// Why the last attempt or stream ended.
    pub last_error: Option<String>,
    /// Responses received and refused because they could not be understood (rubbish).
    pub malformed: u64,
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
    /// Takes the verdict; dropping it without a word is taken as an ACK that never came: after a
    /// reconnect these resources are sent again.
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
    _sealed: (),
}

impl Reply {
    /// Everything in the update is in force.
    pub fn ack(self) {}

    /// The named resources were refused, each for its reason; the others are in force. The server
    /// is told `NAME: REASON`, one line each.
    pub fn nack(self, errors: BTreeMap<Arc<str>, String>) {
        drop(errors);
    }
}
