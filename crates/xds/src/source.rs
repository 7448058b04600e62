use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{NodeInfo, ResourceType, View};

/// Where streams get what they serve: the control plane.
#[async_trait]
pub trait ViewSource: Send + Sync + 'static {
    /// A node opened a stream. An error closes the stream with that text (`INVALID_ARGUMENT`).
    async fn attach(&self, node: NodeInfo) -> Result<Attached, String>;
}

/// One stream's connection to its source. Dropping it detaches.
pub struct Attached {
    /// Identifies this stream in [`Outcome`]s.
    pub id: u64,
    /// The latest view; a stream that is slow skips the ones between.
    pub views: watch::Receiver<Arc<View>>,
    /// Takes what the client said about what it was sent. Bounded; may be shared by all streams.
    pub outcomes: mpsc::Sender<Outcome>,
    /// Where the source compiles names when they are asked for, it is told here; `None` when the
    /// view always holds everything that exists.
    pub wants: Option<mpsc::Sender<Want>>,
    on_detach: Option<Box<dyn FnOnce() + Send>>,
}

impl Attached {
    /// A connection to a source whose view is complete.
    pub fn new(id: u64, views: watch::Receiver<Arc<View>>, outcomes: mpsc::Sender<Outcome>) -> Self {
        Self { id, views, outcomes, wants: None, on_detach: None }
    }

    /// Tells the source of names that are asked for and not in the view.
    pub fn with_wants(mut self, wants: mpsc::Sender<Want>) -> Self {
        self.wants = Some(wants);
        self
    }

    /// What to do when the stream is gone.
    pub fn on_detach(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.on_detach = Some(Box::new(act));
        self
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(act) = self.on_detach.take() {
            act();
        }
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A client asked for names that its view does not hold.
///
/// The source publishes a view that holds those that exist, then sends `done` (or drops it); only
/// after that does the stream answer "does not exist" for the rest. It waits at most a few
/// seconds.
#[derive(Debug)]
pub struct Want {
    /// [`Attached::id`] of the stream.
    pub stream: u64,
    /// Type of the resources.
    pub kind: ResourceType,
    /// Names not in the view, as the client spelt them.
    pub names: Vec<Arc<str>>,
    /// Told when the view is as complete as it gets.
    pub done: oneshot::Sender<()>,
}

/// What a client did with what it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// [`Attached::id`] of the stream.
    pub stream: u64,
    /// What happened.
    pub event: Event,
}

/// The events of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A response was accepted.
    Acked {
        /// Type of the resources.
        kind: ResourceType,
        /// Generation of the view from which the response was made.
        generation: u64,
        /// Name and version of each resource in it.
        resources: Vec<(Arc<str>, Arc<str>)>,
        /// Names that it removed.
        removed: Vec<Arc<str>>,
    },
    /// A response was refused, as a whole or in part.
    Nacked {
        /// Type of the resources.
        kind: ResourceType,
        /// Generation of the view from which the response was made.
        generation: u64,
        /// Each refused resource. All of the response where the client did not say which.
        refused: Vec<Refusal>,
        /// Name and version of those in the response that it accepted nevertheless (known only
        /// where the client names the refused ones).
        accepted: Vec<(Arc<str>, Arc<str>)>,
        /// The client's text, cut at 4 KiB.
        message: String,
    },
    /// The client has answered everything sent up to the view of this generation, and there is
    /// nothing more to send.
    Synced {
        /// Generation of the view.
        generation: u64,
    },
}

/// One resource that a client refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Name of the resource.
    pub name: Arc<str>,
    /// Version that was refused.
    pub version: Arc<str>,
    /// Why, in the client's words.
    pub reason: String,
}
