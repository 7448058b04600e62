//! The contract of a store.

use std::{
    fmt,
    num::ParseIntError,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use heddle_resource::{Key, Object, kind::Kind};

use crate::{Leases, StoreError};

/// The largest object, as JSON, in bytes: 1 MiB, what etcd takes in one request with room to spare.
pub const MAX_OBJECT_BYTES: usize = 1 << 20;

/// A point in a store's history; `metadata.resourceVersion` in text.
///
/// Opaque to users: equal or not equal for one object, ordered only within one watch of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision an object carries; `None` when no store has stamped it.
    pub fn of(object: &Object) -> Option<Self> {
        object.meta.resource_version.parse().ok()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What must hold of the stored object for a write to take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    Any,
    /// There is no such object (create).
    Absent,
    /// The object is there with exactly this revision (replace, delete).
    Revision(Revision),
}

/// One step in a kind's history.
#[derive(Clone, Debug)]
pub enum Event {
    Put(Arc<Object>),
    /// The last state, carrying the deletion's revision.
    Delete(Arc<Object>),
    /// Everything up to this revision was delivered. Sent once when a watch has caught up.
    Bookmark(Revision),
}

impl Event {
    /// The object concerned; none for a bookmark.
    pub fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Put(object) | Self::Delete(object) => Some(object),
            Self::Bookmark(_) => None,
        }
    }
}

/// The events of one kind after a revision. Ends when the store closes; after an error it ends too.
pub struct Watch {
    stream: BoxStream<'static, Result<Event, StoreError>>,
}

impl Watch {
    pub fn new(stream: impl Stream<Item = Result<Event, StoreError>> + Send + 'static) -> Self {
        Self { stream: stream.boxed() }
    }

    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Event, StoreError>> {
        self.stream.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Event, StoreError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// A place where resources are kept.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, StoreError>;

    /// A consistent snapshot, ordered by namespace and name, and the revision to watch from.
    async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<(Vec<Arc<Object>>, Revision), StoreError>;

    /// The events after `from`, a revision that a list, an object or a bookmark of this store gave.
    /// Any other one, too old or from the store's earlier life, gives [`StoreError::Compacted`]. A slow
    /// reader costs no memory: it is told `Compacted` when what it has not read is no longer kept.
    async fn watch(&self, kind: &'static Kind, from: Revision) -> Result<Watch, StoreError>;

    /// Creates or replaces. Sets `metadata.resourceVersion` in `meta` and `json` of what it returns;
    /// when it returns, the object survives a crash (of durable stores). A put that changes nothing
    /// is no event and keeps the revision.
    async fn put(&self, object: Object, precondition: Precondition) -> Result<Arc<Object>, StoreError>;

    /// Removes, and returns the last state with the deletion's revision.
    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Arc<Object>, StoreError>;

    /// Why this store takes no writes, if it takes none.
    fn read_only(&self) -> Option<&str> {
        None
    }

    /// Leases, where the store has them.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }
}
