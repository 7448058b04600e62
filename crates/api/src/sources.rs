//! Several stores read as one: a writable primary first, then read-only sources.
//!
//! An object found in an earlier store hides one of the same name in a later one. The revision of a
//! list over one store is that store's; over several it is all of them in one number, the primary's
//! first and each other padded to 20 digits, so that clients may keep treating it as one opaque text.

use std::{fmt, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use heddle_resource::{Key, Kind, Object};
use heddle_store::{Event, Revision, Store, StoreError};

/// Where each store stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versions(Vec<Revision>);

const DIGITS: usize = 20;

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, revision) in self.0.iter().enumerate() {
            if index == 0 {
                write!(f, "{}", revision.0)?;
            } else {
                write!(f, "{:020}", revision.0)?;
            }
        }
        Ok(())
    }
}

/// What a client's `resourceVersion` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    All(Versions),
    /// Of one object: where the primary stood.
    Primary(Revision),
}

impl Asked {
    pub(crate) fn parse(text: &str, stores: usize) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let tail = DIGITS * (stores.saturating_sub(1));
        if text.len() <= tail || stores < 2 {
            let revision = Revision(text.parse().ok()?);
            return Some(if stores < 2 {
                Self::All(Versions(vec![revision]))
            } else {
                Self::Primary(revision)
            });
        }
        let (head, tail) = text.split_at(text.len() - tail);
        let mut all = vec![Revision(head.parse().ok()?)];
        for index in 0..stores - 1 {
            all.push(Revision(tail.get(index * DIGITS..(index + 1) * DIGITS)?.parse().ok()?));
        }
        Some(Self::All(Versions(all)))
    }

    /// The primary's part: what a precondition on an object compares.
    pub(crate) fn primary(&self) -> Revision {
        match self {
            Self::Primary(revision) => *revision,
            Self::All(all) => all.0.first().copied().unwrap_or_default(),
        }
    }

    /// Completed by the present where the text said nothing.
    pub(crate) fn or_now(self, now: &Versions) -> Versions {
        match self {
            Self::All(all) => all,
            Self::Primary(revision) => {
                let mut all = now.clone();
                if let Some(first) = all.0.first_mut() {
                    *first = revision;
                }
                all
            }
        }
    }
}

impl Versions {
    /// True when some store is asked for a state that it has not reached.
    pub(crate) fn ahead_of(&self, now: &Self) -> bool {
        self.0.iter().zip(&now.0).any(|(asked, now)| asked > now)
    }
}

/// A consistent list (per store) and where to watch from.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) items: Arc<Vec<Arc<Object>>>,
    pub(crate) versions: Versions,
    /// From which store each item came is the same for all when there is one store; else by index.
    origin: Arc<Vec<u8>>,
}

impl Listing {
    /// True when the item was in this state already at `versions`.
    pub(crate) fn unchanged_since(&self, item: usize, versions: &Versions) -> bool {
        let store = self.origin.get(item).copied().unwrap_or_default();
        let Some(then) = versions.0.get(usize::from(store)) else { return false };
        let Some(object) = self.items.get(item) else { return false };
        Revision::of(object).is_some_and(|r| r <= *then)
    }
}

/// One event of the merged history, with where all stores stand after it.
pub(crate) struct Change {
    pub(crate) event: Event,
    pub(crate) versions: Versions,
}

/// The stores of this API.
#[derive(Clone)]
pub(crate) struct Sources {
    stores: Arc<Vec<Arc<dyn Store>>>,
}

impl Sources {
    pub(crate) fn new(stores: Vec<Arc<dyn Store>>) -> Self {
        Self { stores: Arc::new(stores) }
    }

    pub(crate) fn count(&self) -> usize {
        self.stores.len()
    }

    /// The store that takes writes: the first that is not read-only.
    pub(crate) fn primary(&self) -> Option<&Arc<dyn Store>> {
        self.stores.iter().find(|s| s.read_only().is_none())
    }

    /// The object and, when it came from a read-only source, why it cannot be edited.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<(Arc<Object>, Option<String>)>, StoreError> {
        for store in self.stores.iter() {
            if let Some(object) = store.get(key).await? {
                let why = store.read_only().map(|why| match &object.source {
                    Some(source) => format!("it comes from {}:{}: {why}", source.file, source.line),
                    None => why.to_owned(),
                });
                return Ok(Some((object, why)));
            }
        }
        Ok(None)
    }

    pub(crate) async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<Listing, StoreError> {
        let (mut items, mut versions) = (Vec::new(), Vec::new());
        for (index, store) in self.stores.iter().enumerate() {
            let (found, revision) = store.list(kind, namespace).await?;
            versions.push(revision);
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            items.extend(found.into_iter().map(|object| (object, index)));
        }
        if self.stores.len() > 1 {
            // Stable: of two with one name the earlier store's comes first and stays.
            items.sort_by(|(a, _), (b, _)| name_of(a).cmp(&name_of(b)));
            items.dedup_by(|(a, _), (b, _)| name_of(a) == name_of(b));
        }
        let (items, origin) = items.into_iter().unzip();
        Ok(Listing { items: Arc::new(items), origin: Arc::new(origin), versions: Versions(versions) })
    }

    /// The merged events after `from`.
    pub(crate) async fn watch(
        &self,
        kind: &'static Kind,
        from: &Versions,
    ) -> Result<impl Stream<Item = Result<Change, StoreError>> + Send + 'static + use<>, StoreError> {
        let mut streams = Vec::new();
        for (index, store) in self.stores.iter().enumerate() {
            let revision = from.0.get(index).copied().unwrap_or_default();
            streams.push(store.watch(kind, revision).await?.map(move |event| (index, event)));
        }
        let (sources, start) = (self.clone(), from.clone());
        let merged = stream::unfold(
            (stream::select_all(streams), start, sources),
            |(mut all, mut at, sources)| async {
                loop {
                    let (index, event) = all.next().await?;
                    let event = match event {
                        Ok(event) => event,
                        Err(error) => return Some((Err(error), (all, at, sources))),
                    };
                    at.advance(index, &event);
                    match sources.visible(index, event).await {
                        Ok(None) => {}
                        Ok(Some(event)) => {
                            return Some((Ok(Change { event, versions: at.clone() }), (all, at, sources)));
                        }
                        Err(error) => return Some((Err(error), (all, at, sources))),
                    }
                }
            },
        );
        Ok(merged)
    }

    /// What an event of one store means for the merged view: an earlier store hides it, and what a
    /// later store has comes to light when an earlier one lets go.
    async fn visible(&self, index: usize, event: Event) -> Result<Option<Event>, StoreError> {
        let Some(object) = event.object() else { return Ok(Some(event)) };
        if self.stores.len() == 1 {
            return Ok(Some(event));
        }
        let key = object.key();
        for store in self.stores.iter().take(index) {
            if store.get(&key).await?.is_some() {
                return Ok(None);
            }
        }
        if matches!(event, Event::Delete(_)) {
            for store in self.stores.iter().skip(index + 1) {
                if let Some(object) = store.get(&key).await? {
                    return Ok(Some(Event::Put(object)));
                }
            }
        }
        Ok(Some(event))
    }
}

impl Versions {
    fn advance(&mut self, index: usize, event: &Event) {
        let revision = match event {
            Event::Put(object) | Event::Delete(object) => Revision::of(object),
            Event::Bookmark(revision) => Some(*revision),
        };
        if let (Some(slot), Some(revision)) = (self.0.get_mut(index), revision) {
            *slot = revision;
        }
    }
}

fn name_of(object: &Object) -> (&str, &str) {
    (&object.meta.namespace, &object.meta.name)
}

#[cfg(test)]
#[path = "sources_test.rs"]
mod sources_test;
