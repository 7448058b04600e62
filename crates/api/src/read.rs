//! Reads: one object, a list, pages of a list.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use base64::Engine as _;
use heddle_resource::{Key, Kind, Object};
use heddle_store::Store;
use serde_json::{Value, json};

use crate::{
    Api,
    error::ApiError,
    query::Query,
    selector::Selection,
    sources::{Asked, Listing, Versions},
};

/// Lists that a client is paging through: kept so that its pages are of one moment.
#[derive(Default)]
pub(crate) struct Snapshots {
    kept: Mutex<VecDeque<Snapshot>>,
}

struct Snapshot {
    kind: &'static Kind,
    namespace: Option<String>,
    listing: Listing,
}

/// Snapshots share the objects with the store; what one keeps alive is what changed since.
const SNAPSHOTS: usize = 32;

impl Snapshots {
    fn keep(&self, kind: &'static Kind, namespace: Option<&str>, listing: &Listing) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |s: &Snapshot| s.is(kind, namespace) && s.listing.versions == listing.versions;
        if kept.iter().any(same) {
            return;
        }
        if kept.len() == SNAPSHOTS {
            kept.pop_front();
        }
        kept.push_back(Snapshot { kind, namespace: namespace.map(str::to_owned), listing: listing.clone() });
    }

    fn find(&self, kind: &'static Kind, namespace: Option<&str>, version: &str) -> Option<Listing> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|s| s.is(kind, namespace) && s.listing.versions.to_string() == version)
            .map(|s| s.listing.clone())
    }
}

impl Snapshot {
    fn is(&self, kind: &'static Kind, namespace: Option<&str>) -> bool {
        self.kind == kind && self.namespace.as_deref() == namespace
    }
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) versions: Versions,
    pub(crate) continue_token: Option<String>,
    /// How many follow; `None` when a selector makes that unknown.
    pub(crate) remaining: Option<usize>,
}

/// Where a page begins: after this object of that list.
struct Token {
    /// Empty: of the present, whatever has changed in between.
    version: String,
    namespace: String,
    name: String,
}

impl Token {
    fn encode(&self) -> String {
        let text =
            json!({ "v": "heddle.dev/v1", "rv": self.version, "ns": self.namespace, "start": self.name });
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text.to_string())
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { version: field("rv")?, namespace: field("ns")?, name: field("start")? })
    }
}

impl Api {
    pub(crate) async fn get_stored(
        &self,
        key: &Key,
    ) -> Result<Option<(Arc<Object>, Option<String>)>, ApiError> {
        self.sources.get(key).await.map_err(|e| ApiError::of_store(e, key.kind, &key.name))
    }

    pub(crate) async fn list_stored(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> Result<Listing, ApiError> {
        self.sources.list(kind, namespace).await.map_err(|e| ApiError::of_store(e, kind, ""))
    }

    /// The store that takes writes.
    pub(crate) fn writable(&self, kind: &'static Kind, name: &str) -> Result<&Arc<dyn Store>, ApiError> {
        self.sources.primary().ok_or_else(|| {
            ApiError::conflict(
                kind,
                name,
                "every source of this mesh is read-only; edit the files it is started with",
            )
        })
    }

    pub(crate) fn parse_version(&self, text: &str) -> Result<Asked, ApiError> {
        Asked::parse(text, self.sources.count()).ok_or_else(|| {
            ApiError::bad_request(format!(
                "invalid resource version {text:?}: expected one that this API gave"
            ))
        })
    }

    /// A list as `limit`, `continue`, `resourceVersion` and `resourceVersionMatch` ask for it.
    pub(crate) async fn list_page(
        &self,
        kind: &'static Kind,
        selection: &Selection,
        query: &Query,
    ) -> Result<Page, ApiError> {
        let namespace = selection.namespace.as_deref();
        let limit =
            query.number("limit")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)).filter(|n| *n > 0);
        let (listing, after) = match query.get("continue") {
            Some(token) => {
                if query.get("resourceVersion").is_some_and(|v| v != "0") {
                    return Err(ApiError::bad_request(
                        "specifying resource version is not allowed when using continue",
                    ));
                }
                let token = Token::decode(token).ok_or_else(|| {
                    ApiError::bad_request("continue key is not valid: it was not given by this API")
                })?;
                (self.continued(kind, namespace, &token).await?, Some(token))
            }
            None => (self.listing_at(kind, namespace, query).await?, None),
        };
        let start = after.map_or(0, |token| {
            let after = (token.namespace.as_str(), token.name.as_str());
            listing.items.partition_point(|o| (&*o.meta.namespace, &*o.meta.name) <= after)
        });
        let page = page_of(&listing, start, selection, limit);
        if page.continue_token.is_some() {
            self.snapshots.keep(kind, namespace, &listing);
        }
        Ok(page)
    }

    async fn continued(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        token: &Token,
    ) -> Result<Listing, ApiError> {
        if let Some(kept) = self.snapshots.find(kind, namespace, &token.version) {
            return Ok(kept);
        }
        let now = self.list_stored(kind, namespace).await?;
        if token.version.is_empty() || now.versions.to_string() == token.version {
            return Ok(now);
        }
        let on =
            Token { version: String::new(), namespace: token.namespace.clone(), name: token.name.clone() };
        Err(ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
             that were created, modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        )
        .continue_with(on.encode()))
    }

    async fn listing_at(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<Listing, ApiError> {
        let version = query.get("resourceVersion");
        let how = query.get("resourceVersionMatch");
        match (how, version) {
            (Some(_), None) => {
                return Err(ApiError::bad_request(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (Some("Exact"), Some("0")) => {
                return Err(ApiError::bad_request(
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (Some(other), _) if !matches!(other, "Exact" | "NotOlderThan") => {
                return Err(ApiError::bad_request(format!(
                    "resourceVersionMatch: found {other:?}, expected Exact or NotOlderThan"
                )));
            }
            _ => {}
        }
        let now = self.list_stored(kind, namespace).await?;
        let Some(text) = version.filter(|v| *v != "0") else { return Ok(now) };
        let asked = self.parse_version(text)?.or_now(&now.versions);
        if asked.ahead_of(&now.versions) {
            return Err(ApiError::too_large_revision(text, &now.versions.to_string()));
        }
        if how != Some("Exact") || asked == now.versions {
            return Ok(now);
        }
        self.snapshots.find(kind, namespace, text).ok_or_else(|| {
            ApiError::expired(format!("The resourceVersion for the provided list is too old: {text}"))
        })
    }
}

fn page_of(listing: &Listing, start: usize, selection: &Selection, limit: Option<usize>) -> Page {
    let mut items = Vec::new();
    let mut matching = listing.items.get(start..).unwrap_or_default().iter().filter(|o| selection.matches(o));
    let limit = limit.unwrap_or(usize::MAX);
    while items.len() < limit {
        let Some(object) = matching.next() else { break };
        items.push(object.clone());
    }
    let left = matching.count();
    let token = items.last().filter(|_| left > 0).map(|last| {
        let version = listing.versions.to_string();
        Token { version, namespace: last.meta.namespace.to_string(), name: last.meta.name.to_string() }
            .encode()
    });
    Page {
        items,
        versions: listing.versions.clone(),
        remaining: token.is_some().then_some(left),
        continue_token: token,
    }
}
