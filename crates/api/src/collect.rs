//! What follows a deletion: dependents of owners that are gone, owners that wait for their dependents,
//! content of namespaces that are going.

use std::{sync::Arc, time::Duration};

use heddle_resource::{Key, Kind, Object, kinds};
use heddle_store::{Precondition, Revision, StoreError};
use serde_json::Value;

use crate::{Api, delete::FOREGROUND, error::ApiError, meta};

/// Deletions that come close together are followed by one pass.
const QUIET: Duration = Duration::from_millis(50);
/// And a pass is followed by a rest of so many times its own length: it reads every object.
const REST: u32 = 10;
/// Deletions by other writers of the store are noticed by then.
const PERIOD: Duration = Duration::from_secs(60);

/// Runs until the API stops.
pub(crate) async fn run(api: Arc<Api>) {
    loop {
        let begun = tokio::time::Instant::now();
        if let Err(error) = api.collect_once().await {
            tracing::warn!("collecting dependents of deleted objects: {}; trying again later", error.message);
        }
        let rest = QUIET.max(begun.elapsed() * REST);
        tokio::select! {
            () = api.collect.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
            () = api.stopped() => return,
        }
        tokio::time::sleep(rest).await;
    }
}

impl Api {
    async fn collect_once(&self) -> Result<(), ApiError> {
        let Some(store) = self.sources.primary() else { return Ok(()) };
        let mut all = Vec::new();
        for kind in kinds() {
            let listed = store.list(kind, None).await;
            all.extend(listed.map_err(|e| ApiError::of_store(e, kind, ""))?.0);
        }
        let mut followed = false;
        for object in &all {
            if !object.meta.owner_references.is_empty() {
                followed |= self.collect_dependent(object).await?;
            }
            if object.meta.finalizers.iter().any(|f| f == FOREGROUND)
                && object.meta.deletion_timestamp.is_some()
            {
                followed |= self.collect_owner(object, &all).await?;
            }
            if object.kind.kind == "Namespace" && object.meta.deletion_timestamp.is_some() {
                followed |= self.collect_namespace(object, &all).await?;
            }
        }
        if followed {
            self.collect.notify_one();
        }
        Ok(())
    }

    /// Deletes a dependent all of whose owners are gone; an owner of a kind that is not ours is
    /// thought to be there.
    async fn collect_dependent(&self, object: &Arc<Object>) -> Result<bool, ApiError> {
        for owner in &object.meta.owner_references {
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let Some(kind) = Kind::find(group, &owner.kind) else { return Ok(false) };
            let namespace = if kind.namespaced { object.meta.namespace.clone() } else { "".into() };
            let found = self.get_stored(&Key::new(kind, namespace, owner.name.as_str())).await?;
            if found.is_some_and(|(found, _)| found.meta.uid == owner.uid) {
                return Ok(false);
            }
        }
        self.discard(object).await
    }

    /// A foreground deletion: its dependents go, then its finalizer.
    async fn collect_owner(&self, owner: &Arc<Object>, all: &[Arc<Object>]) -> Result<bool, ApiError> {
        let mut waiting = false;
        let mut followed = false;
        for dependent in all.iter().filter(|o| owned_by(o, &owner.meta.uid)) {
            waiting = true;
            if dependent.meta.deletion_timestamp.is_none() {
                followed |= self.discard(dependent).await?;
            }
        }
        if waiting {
            return Ok(followed);
        }
        let mut object = (**owner).clone();
        object.meta.finalizers.retain(|f| f != FOREGROUND);
        let left = object.meta.finalizers.clone();
        let metadata = meta::of(Arc::make_mut(&mut object.json))?;
        metadata.insert("finalizers".to_owned(), left.iter().map(String::as_str).collect::<Value>());
        if left.is_empty() {
            metadata.remove("finalizers");
            self.quietly(owner, None).await
        } else {
            self.quietly(owner, Some(object)).await
        }
    }

    async fn collect_namespace(
        &self,
        namespace: &Arc<Object>,
        all: &[Arc<Object>],
    ) -> Result<bool, ApiError> {
        let mut waiting = false;
        let mut followed = false;
        for object in all.iter().filter(|o| o.meta.namespace == namespace.meta.name) {
            waiting = true;
            if object.meta.deletion_timestamp.is_none() {
                followed |= self.discard(object).await?;
            }
        }
        if waiting || !namespace.meta.finalizers.is_empty() {
            return Ok(followed);
        }
        self.quietly(namespace, None).await
    }

    /// Deletes an object as a user would: finalizers hold it.
    async fn discard(&self, object: &Arc<Object>) -> Result<bool, ApiError> {
        if object.meta.finalizers.is_empty() {
            return self.quietly(object, None).await;
        }
        if object.meta.deletion_timestamp.is_some() {
            return Ok(false);
        }
        let marked = crate::delete::marked(object, &object.meta.finalizers)?;
        self.quietly(object, Some(marked)).await
    }

    /// Takes the owner out of its dependents' references.
    pub(crate) async fn orphan(&self, uid: &str) -> Result<(), ApiError> {
        let Some(store) = self.sources.primary() else { return Ok(()) };
        for kind in kinds() {
            let (items, _) = store.list(kind, None).await.map_err(|e| ApiError::of_store(e, kind, ""))?;
            for object in items.iter().filter(|o| owned_by(o, uid)) {
                let mut free = (**object).clone();
                free.meta.owner_references.retain(|o| o.uid != uid);
                let metadata = meta::of(Arc::make_mut(&mut free.json))?;
                if let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
                    owners.retain(|o| o.get("uid").and_then(Value::as_str) != Some(uid));
                    if owners.is_empty() {
                        metadata.remove("ownerReferences");
                    }
                }
                self.quietly(object, Some(free)).await?;
            }
        }
        Ok(())
    }

    /// Puts or deletes if the object is unchanged; another writer's change is left for the next pass.
    async fn quietly(&self, object: &Arc<Object>, new: Option<Object>) -> Result<bool, ApiError> {
        let store = self.writable(object.kind, &object.meta.name)?;
        let precondition = Precondition::Revision(Revision::of(object).unwrap_or_default());
        let done = match new {
            Some(new) => store.put(new, precondition).await,
            None => store.delete(&object.key(), precondition).await,
        };
        match done {
            Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Ok(true),
            Err(error) => Err(ApiError::of_store(error, object.kind, &object.meta.name)),
        }
    }
}

fn owned_by(object: &Object, uid: &str) -> bool {
    !uid.is_empty() && object.meta.owner_references.iter().any(|o| o.uid == uid)
}
