//! Watches: the merged history of a kind as one stream of events, filtered as the client asked.
//!
//! The store says what an object became; the client wants to know whether that is new to it. So a
//! watch remembers which objects its client has: an object that comes to match is `ADDED`, one that
//! ceases to match is `DELETED`.

use std::{collections::HashSet, convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use heddle_resource::{Kind, Object};
use heddle_store::{Event, StoreError};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Api,
    error::ApiError,
    negotiate::Form,
    present::Presenter,
    query::Query,
    selector::Selection,
    sources::{Change, Listing, Versions},
};

/// A reader that takes nothing for so long is dropped.
const SLOW_READER: Duration = Duration::from_secs(30);
/// Events that may wait for the reader in one watch.
const BACKLOG: usize = 64;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// When the client names no `timeoutSeconds`: half an hour to an hour, so that not all end at once.
const DEFAULT_SECONDS: std::ops::Range<u64> = 1800..3600;

/// What the client asked of a watch.
struct Wishes {
    /// Starts with the present state as `ADDED` events.
    initial: bool,
    /// Marks the end of the initial events with a bookmark (`sendInitialEvents`).
    mark_initial_end: bool,
    bookmarks: bool,
    timeout: Duration,
}

impl Wishes {
    fn read(query: &Query) -> Result<Self, ApiError> {
        let version = query.get("resourceVersion");
        let how = query.get("resourceVersionMatch");
        let asked = (!query.all("sendInitialEvents").is_empty()).then(|| query.flag("sendInitialEvents"));
        if asked.is_some() && how != Some("NotOlderThan") {
            return Err(ApiError::bad_request(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if asked.is_none() && how.is_some() {
            return Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        let bookmarks = query.flag("allowWatchBookmarks");
        if asked == Some(true) && !bookmarks {
            return Err(ApiError::bad_request("sendInitialEvents requires setting allowWatchBookmarks"));
        }
        let seconds = query.number("timeoutSeconds")?.filter(|s| *s > 0);
        let seconds = seconds.unwrap_or_else(|| fastrand::u64(DEFAULT_SECONDS)).min(86_400);
        Ok(Self {
            initial: asked.unwrap_or(version.is_none_or(|v| v == "0")),
            mark_initial_end: asked == Some(true),
            bookmarks,
            timeout: Duration::from_secs(seconds),
        })
    }
}

/// Names an object within its kind.
type Name = (Arc<str>, Arc<str>);

fn name_of(object: &Object) -> Name {
    (object.meta.namespace.clone(), object.meta.name.clone())
}

/// What the client has seen.
#[derive(Default)]
struct Seen {
    known: HashSet<Name>,
    /// Of a watch that goes on from a revision: the objects of which it is known whether the client has
    /// them. Any other may have been the client's when it is first seen.
    settled: Option<HashSet<Name>>,
}

impl Seen {
    fn before(listing: &Listing, from: &Versions, selection: &Selection) -> Self {
        let mut seen = Self { known: HashSet::new(), settled: Some(HashSet::new()) };
        for (index, object) in listing.items.iter().enumerate() {
            if !listing.unchanged_since(index, from) {
                continue;
            }
            if let Some(settled) = &mut seen.settled {
                settled.insert(name_of(object));
            }
            if selection.matches(object) {
                seen.known.insert(name_of(object));
            }
        }
        seen
    }

    /// What an event is to the client; `None`: nothing.
    fn judge(&mut self, event: &Event, selection: &Selection) -> Option<&'static str> {
        let object = event.object()?;
        if !selection.concerns(object) {
            return None;
        }
        let name = name_of(object);
        let first_sight = self.settled.as_mut().is_some_and(|settled| settled.insert(name.clone()));
        let gone = matches!(event, Event::Delete(_));
        let had = self.known.contains(&name) || (first_sight && (gone || !looks_new(object)));
        if gone || !selection.matches(object) {
            self.known.remove(&name);
            return had.then_some("DELETED");
        }
        self.known.insert(name);
        // Of an object that changed, and that a change may have brought in, either is right.
        Some(if had && (selection.is_plain() || !first_sight) { "MODIFIED" } else { "ADDED" })
    }
}

/// Whether an object looks as it did when it was created. The store does not say; a second manager, or
/// one that wrote later, tells of a change.
fn looks_new(object: &Object) -> bool {
    let metadata = object.json.get("metadata");
    let managers = metadata.and_then(|m| m.get("managedFields")).and_then(Value::as_array);
    match managers.map(Vec::as_slice) {
        Some([one]) => {
            object.meta.generation <= 1
                && one.get("time").and_then(Value::as_str) == Some(object.meta.creation_timestamp.as_str())
        }
        Some([]) | None => object.meta.generation <= 1,
        Some(_) => false,
    }
}

impl Api {
    pub(crate) async fn watch(
        self: &Arc<Self>,
        kind: &'static Kind,
        version: &'static str,
        selection: Selection,
        form: Form,
        query: &Query,
    ) -> Result<Response, ApiError> {
        let wishes = Wishes::read(query)?;
        let permit = self.watchers.clone().try_acquire_owned().map_err(|_| {
            ApiError::too_many("as many watches are open as this API allows; come again later")
        })?;
        let listing = self.list_stored(kind, selection.namespace.as_deref()).await?;
        let from = match query.get("resourceVersion") {
            Some(text) if text != "0" => {
                let asked = self.parse_version(text)?.or_now(&listing.versions);
                if asked.ahead_of(&listing.versions) {
                    return Err(ApiError::too_large_revision(text, &listing.versions.to_string()));
                }
                if wishes.initial { listing.versions.clone() } else { asked }
            }
            _ => listing.versions.clone(),
        };
        let changes = self.sources.watch(kind, &from).await.map_err(|e| ApiError::of_store(e, kind, ""))?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let presenter = Presenter::new(kind, version, form, query, self.sources.count() > 1);
        let stream = OpenWatch { sender, presenter, selection, wishes, _permit: permit };
        tokio::spawn(stream.run(listing, from, changes, self.stopped().boxed()));
        let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<Bytes, Infallible>));
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// One open watch.
struct OpenWatch {
    sender: mpsc::Sender<Bytes>,
    presenter: Presenter,
    selection: Selection,
    wishes: Wishes,
    _permit: OwnedSemaphorePermit,
}

/// The reader is gone, or too slow.
struct Dropped;

impl OpenWatch {
    async fn run(
        mut self,
        listing: Listing,
        from: Versions,
        changes: impl Stream<Item = Result<Change, StoreError>> + Send,
        stopped: BoxFuture<'static, ()>,
    ) {
        let _ = self.follow(listing, from, changes, stopped).await;
    }

    async fn follow(
        &mut self,
        listing: Listing,
        mut at: Versions,
        changes: impl Stream<Item = Result<Change, StoreError>> + Send,
        mut stopped: BoxFuture<'static, ()>,
    ) -> Result<(), Dropped> {
        let mut seen = Seen::default();
        if self.wishes.initial {
            for object in listing.items.iter().filter(|o| self.selection.matches(o)) {
                seen.known.insert(name_of(object));
                let shown = self.presenter.event_object(object, None);
                self.send(&json!({ "type": "ADDED", "object": shown })).await?;
            }
            if self.wishes.mark_initial_end {
                self.bookmark(&at, true).await?;
            }
        } else {
            seen = Seen::before(&listing, &at, &self.selection);
        }
        drop(listing);
        let mut changes = pin!(changes);
        let end = Instant::now() + self.wishes.timeout;
        let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        if let Some(what) = seen.judge(&change.event, &self.selection)
                            && let Some(object) = change.event.object()
                        {
                            let shown = self.presenter.event_object(object, Some(&change.versions));
                            self.send(&json!({ "type": what, "object": shown })).await?;
                        }
                        at = change.versions;
                    }
                    Some(Err(error)) => {
                        let status = ApiError::of_store(error, self.presenter.kind(), "").status();
                        return self.send(&json!({ "type": "ERROR", "object": status })).await;
                    }
                    None => return Ok(()),
                },
                _ = bookmarks.tick(), if self.wishes.bookmarks => self.bookmark(&at, false).await?,
                () = tokio::time::sleep_until(end) => {
                    if self.wishes.bookmarks {
                        self.bookmark(&at, false).await?;
                    }
                    return Ok(());
                }
                () = self.sender.closed() => return Err(Dropped),
                () = &mut stopped => return Ok(()),
            }
        }
    }

    async fn bookmark(&self, at: &Versions, initial_end: bool) -> Result<(), Dropped> {
        let object = self.presenter.bookmark(at, initial_end);
        self.send(&json!({ "type": "BOOKMARK", "object": object })).await
    }

    async fn send(&self, event: &Value) -> Result<(), Dropped> {
        let mut line = event.to_string();
        line.push('\n');
        self.sender.send_timeout(Bytes::from(line), SLOW_READER).await.map_err(|_| Dropped)
    }
}
