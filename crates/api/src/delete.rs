//! Deletion: preconditions, finalizers, propagation, collections.

use std::sync::Arc;

use heddle_resource::Object;
use heddle_store::{Precondition, Revision, StoreError};
use serde_json::{Value, json};

use crate::{
    Api,
    edit::Target,
    error::ApiError,
    meta,
    query::{self, Query},
    selector::Selection,
};

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are collected afterwards.
    Background,
    /// They go first; the owner stays, marked, until they are gone.
    Foreground,
    /// They stay, without their owner.
    Orphan,
}

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug)]
pub(crate) struct DeleteOptions {
    pub(crate) propagation: Propagation,
    pub(crate) dry_run: bool,
    uid: Option<String>,
    revision: Option<String>,
}

impl DeleteOptions {
    pub(crate) fn read(body: Option<&Value>, query: &Query) -> Result<Self, ApiError> {
        let field = |name: &str| body.and_then(|b| b.get(name));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let propagation =
            text(field("propagationPolicy")).or_else(|| query.get("propagationPolicy").map(str::to_owned));
        let orphan = field("orphanDependents").and_then(Value::as_bool);
        let propagation = match (propagation.as_deref(), orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Propagation::Orphan,
            (Some("Foreground"), _) => Propagation::Foreground,
            (Some("Background") | None, _) => Propagation::Background,
            (Some(other), _) => {
                return Err(ApiError::bad_request(format!(
                    "propagationPolicy: found {other:?}, expected Background, Foreground or Orphan"
                )));
            }
        };
        let in_body: Vec<String> = field("dryRun")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect();
        let dry_run = query::dry_run(&in_body)? || query::dry_run(query.all("dryRun"))?;
        let preconditions = field("preconditions");
        let precondition = |name: &str| text(preconditions.and_then(|p| p.get(name)));
        Ok(Self { propagation, dry_run, uid: precondition("uid"), revision: precondition("resourceVersion") })
    }
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// The last state of what is gone.
    Gone(Arc<Object>),
    /// Marked; finalizers (or a namespace's content) hold it.
    Marked(Arc<Object>),
}

const ATTEMPTS: usize = 8;

impl Api {
    pub(crate) async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let (kind, name) = (target.kind, target.name.as_str());
        if kind.kind == "Namespace" && matches!(name, "default" | "kube-system") {
            let message = format!("namespaces {name:?} is forbidden: this namespace may not be deleted");
            return Err(ApiError::forbidden(message).about(kind, name));
        }
        for _ in 0..ATTEMPTS {
            let live = match self.get_stored(&target.key()).await? {
                None => return Err(ApiError::not_found(kind, name)),
                Some((_, Some(why))) => return Err(ApiError::conflict(kind, name, &why)),
                Some((live, None)) => live,
            };
            check(&live, options)?;
            if let Some(deleted) = self.delete_once(target, &live, options).await? {
                return Ok(deleted);
            }
        }
        Err(ApiError::modified(kind, name))
    }

    /// `None`: another writer came between.
    async fn delete_once(
        &self,
        target: &Target,
        live: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Option<Deleted>, ApiError> {
        let kind = target.kind;
        let mut finalizers = live.meta.finalizers.clone();
        if options.propagation == Propagation::Foreground && !finalizers.iter().any(|f| f == FOREGROUND) {
            finalizers.push(FOREGROUND.to_owned());
        }
        let held = !finalizers.is_empty() || kind.kind == "Namespace";
        if options.dry_run {
            return Ok(Some(if held { Deleted::Marked(live.clone()) } else { Deleted::Gone(live.clone()) }));
        }
        if options.propagation == Propagation::Orphan {
            self.orphan(&live.meta.uid).await?;
        }
        let store = self.writable(kind, &target.name)?;
        let precondition = Precondition::Revision(Revision::of(live).unwrap_or_default());
        let done = if !held {
            store.delete(&target.key(), precondition).await.map(Deleted::Gone)
        } else if live.meta.deletion_timestamp.is_some() && finalizers == live.meta.finalizers {
            Ok(Deleted::Marked(live.clone()))
        } else {
            store.put(marked(live, &finalizers)?, precondition).await.map(Deleted::Marked)
        };
        match done {
            Ok(deleted) => {
                self.collect.notify_one();
                Ok(Some(deleted))
            }
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(ApiError::of_store(error, kind, &target.name)),
        }
    }

    /// Deletes what a selection matches; returns what it was.
    pub(crate) async fn delete_collection(
        &self,
        target: &Target,
        selection: &Selection,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let listing = self.list_stored(target.kind, selection.namespace.as_deref()).await?;
        let mut deleted = Vec::new();
        for object in listing.items.iter().filter(|object| selection.matches(object)) {
            let one = Target {
                namespace: object.meta.namespace.to_string(),
                name: object.meta.name.to_string(),
                ..target.clone()
            };
            match self.delete(&one, options).await {
                Ok(Deleted::Gone(object) | Deleted::Marked(object)) => deleted.push(object),
                Err(error) if error.code == http::StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }
}

/// The finalizer of a foreground deletion, taken off when the dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

fn check(live: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let mismatch = |what: &str, asked: &str, found: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}");
        ApiError::conflict(live.kind, &live.meta.name, &why)
    };
    match &options.uid {
        Some(uid) if *uid != live.meta.uid => return Err(mismatch("UID", uid, &live.meta.uid)),
        _ => {}
    }
    match &options.revision {
        Some(revision) if *revision != live.meta.resource_version => {
            Err(mismatch("ResourceVersion", revision, &live.meta.resource_version))
        }
        _ => Ok(()),
    }
}

/// The object with its deletion under way.
pub(crate) fn marked(live: &Object, finalizers: &[String]) -> Result<Object, ApiError> {
    let mut object = live.clone();
    let now = live.meta.deletion_timestamp.clone().unwrap_or_else(meta::now);
    let json = Arc::make_mut(&mut object.json);
    let metadata = meta::of(json)?;
    metadata.insert("deletionTimestamp".to_owned(), now.as_str().into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    if !finalizers.is_empty() {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
    if live.kind.kind == "Namespace" {
        json["status"] = json!({ "phase": "Terminating" });
    }
    object.meta.deletion_timestamp = Some(now);
    object.meta.finalizers = finalizers.to_vec();
    Ok(object)
}
