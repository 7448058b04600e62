//! Writes: create, replace, patch, apply. Each is read, change, admit, put-if-unchanged; a writer that
//! named no resourceVersion is not bothered with races, the change is computed again.

use std::sync::Arc;

use heddle_resource::{Key, Kind, Object};
use heddle_store::{Precondition, Revision, StoreError};
use serde_json::Value;

use crate::{
    Api,
    admission::{self, Admitted},
    apply::{self, Application, Manager, Managers},
    defaults,
    error::ApiError,
    meta,
    propose::{self, Prepared, contested, restore_managed, set_managed, settle_namespace},
    query::{FieldValidation, WriteOptions},
    sources::Asked,
    version,
};

/// How often a change is computed again when other writers come between.
const ATTEMPTS: usize = 8;

/// What a write is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: &'static Kind,
    /// The version that the client speaks.
    pub(crate) version: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty or `status`.
    pub(crate) subresource: String,
}

/// A finished write.
pub(crate) struct Written {
    pub(crate) object: Arc<Object>,
    pub(crate) warnings: Vec<String>,
    pub(crate) created: bool,
}

/// What a change makes of the live object.
pub(crate) struct Proposal {
    /// In the client's version.
    pub(crate) object: Value,
    /// Set by an apply, which computes them itself.
    pub(crate) managers: Option<Managers>,
}

impl Target {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.kind, self.namespace.as_str(), self.name.as_str())
    }

    fn manager(&self, options: &WriteOptions, applies: bool) -> Manager {
        Manager {
            name: options.manager.clone(),
            applies,
            api_version: version::api_version(self.kind.group, self.version),
            subresource: self.subresource.clone(),
        }
    }
}

impl Api {
    pub(crate) async fn create(
        &self,
        target: &Target,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let kind = target.kind;
        version::to_storage(kind, target.version, &mut object)?;
        settle_namespace(target, &mut object)?;
        meta::prepare_create(kind, &mut object)?;
        let manager = target.manager(options, false);
        self.finish_create(target, Proposal { object, managers: None }, &manager, options).await
    }

    async fn finish_create(
        &self,
        target: &Target,
        proposal: Proposal,
        manager: &Manager,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let kind = target.kind;
        let Proposal { object: mut value, managers } = proposal;
        defaults::complete(kind, &mut value);
        let given = value.get("metadata").and_then(|m| m.get("managedFields")).cloned();
        let Admitted { mut object, warnings } =
            admission::admit(kind, value, &target.namespace, options.validation)?;
        let key = object.key();
        if let Some((_, why)) = self.get_stored(&key).await? {
            return Err(match why {
                Some(why) => ApiError::conflict(kind, &key.name, &why),
                None => ApiError::already_exists(kind, &key.name),
            });
        }
        let store = self.writable(kind, &key.name)?;
        self.ensure_namespace(&key, options.dry_run).await?;
        let json = Arc::make_mut(&mut object.json);
        let managers = match managers {
            Some(managers) => managers.present(self.shapes.of(kind), json),
            None => {
                restore_managed(json, given)?;
                apply::update(self.shapes.of(kind), None, json, manager, &meta::now())
            }
        };
        set_managed(json, &managers)?;
        let object = if options.dry_run {
            Arc::new(object)
        } else {
            let put = store.put(object, Precondition::Absent).await;
            put.map_err(|e| ApiError::of_store(e, kind, &key.name))?
        };
        Ok(Written { object, warnings, created: true })
    }

    /// Replaces the object with the one given (`PUT`).
    pub(crate) async fn replace(
        &self,
        target: &Target,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let given = meta::text(&object, "name");
        if !given.is_empty() && given != target.name {
            return Err(misnamed(given, &target.name));
        }
        let change = |_: &Value| Ok(object.clone());
        self.update(target, options, change).await
    }

    /// Changes the live object. `change` sees it in the client's version.
    pub(crate) async fn update(
        &self,
        target: &Target,
        options: &WriteOptions,
        change: impl Fn(&Value) -> Result<Value, ApiError> + Send + Sync,
    ) -> Result<Written, ApiError> {
        let manager = target.manager(options, false);
        for _ in 0..ATTEMPTS {
            let live = self.editable(target).await?;
            let before = version::read_as(target.kind, target.version, &live.json);
            let object = change(&before)?;
            // A replacement that names its resourceVersion is refused here after a lost race; a patch
            // carries the one it was computed from.
            self.check_identity(&live, &object)?;
            let proposal = Proposal { object, managers: None };
            match self.finish_update(target, &live, proposal, &manager, options).await {
                Err(Raced) => {}
                Ok(done) => return done,
            }
        }
        Err(ApiError::modified(target.kind, &target.name))
    }

    /// Server-side apply; creates what is not there.
    pub(crate) async fn apply(
        &self,
        target: &Target,
        mut config: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let manager = target.manager(options, true);
        settle_namespace(target, &mut config)?;
        let stated_name = meta::text(&config, "name").to_owned();
        if !stated_name.is_empty() && stated_name != target.name {
            return Err(misnamed(&stated_name, &target.name));
        }
        meta::of(&mut config)?.insert("name".to_owned(), target.name.as_str().into());
        if config["metadata"].get("managedFields").and_then(Value::as_array).is_some_and(|m| !m.is_empty()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        version::to_storage(target.kind, target.version, &mut config)?;
        defaults::fold_string_data(target.kind, &mut config);
        // A field that is not in the schema could not be owned: refused, as Kubernetes does.
        let strict = match options.validation {
            FieldValidation::Warn => FieldValidation::Strict,
            given => given,
        };
        let options = &WriteOptions { validation: strict, ..options.clone() };
        for _ in 0..ATTEMPTS {
            match self.apply_once(target, &config, &manager, options).await {
                Err(Raced) => {}
                Ok(done) => return done,
            }
        }
        Err(ApiError::modified(target.kind, &target.name))
    }

    async fn apply_once(
        &self,
        target: &Target,
        config: &Value,
        manager: &Manager,
        options: &WriteOptions,
    ) -> Result<Result<Written, ApiError>, Raced> {
        let live = match self.editable(target).await {
            Ok(live) => Some(live),
            Err(error) if error.code == http::StatusCode::NOT_FOUND && target.subresource.is_empty() => None,
            Err(error) => return Ok(Err(error)),
        };
        let asked = meta::text(config, "resourceVersion");
        if !asked.is_empty() && live.as_ref().is_none_or(|live| !self.same_revision(live, asked)) {
            return Ok(Err(ApiError::modified(target.kind, &target.name)));
        }
        let now = meta::now();
        let application = Application {
            shape: self.shapes.of(target.kind),
            live: live.as_ref().map(|live| &*live.json),
            config,
            manager: manager.clone(),
            force: options.force,
            now: &now,
        };
        let (mut object, managers) = match apply::apply(&application) {
            Ok(applied) => applied,
            Err(conflicts) => return Ok(Err(contested(target, &conflicts))),
        };
        let Some(live) = live else {
            if let Err(error) = meta::prepare_create(target.kind, &mut object) {
                return Ok(Err(error));
            }
            let proposal = Proposal { object, managers: Some(managers) };
            return match self.finish_create(target, proposal, manager, options).await {
                Err(error) if error.reason == "AlreadyExists" => Err(Raced),
                done => Ok(done),
            };
        };
        let proposal = Proposal { object, managers: Some(managers) };
        self.finish_update(target, &live, proposal, manager, options).await
    }

    /// From a proposal to a stored object, or a race with another writer.
    async fn finish_update(
        &self,
        target: &Target,
        live: &Arc<Object>,
        proposal: Proposal,
        manager: &Manager,
        options: &WriteOptions,
    ) -> Result<Result<Written, ApiError>, Raced> {
        let kind = target.kind;
        let prepared = propose::prepare(target, live, proposal, options);
        let Prepared { mut object, warnings, given, managers } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let json = Arc::make_mut(&mut object.json);
        let managers = match managers {
            Some(managers) => Ok(managers.present(self.shapes.of(kind), json)),
            None => restore_managed(json, given)
                .map(|()| apply::update(self.shapes.of(kind), Some(&live.json), json, manager, &meta::now())),
        };
        if let Err(error) = managers.and_then(|managers| set_managed(json, &managers)) {
            return Ok(Err(error));
        }
        if *json == *live.json {
            return Ok(Ok(Written { object: live.clone(), warnings, created: false }));
        }
        if options.dry_run {
            return Ok(Ok(Written { object: Arc::new(object), warnings, created: false }));
        }
        let store = match self.writable(kind, &target.name) {
            Ok(store) => store,
            Err(error) => return Ok(Err(error)),
        };
        let precondition = Precondition::Revision(Revision::of(live).unwrap_or_default());
        let finished = live.meta.deletion_timestamp.is_some() && meta::finalizers(&object.json).is_empty();
        let done = if finished && kind.kind != "Namespace" {
            store.delete(&target.key(), precondition).await
        } else {
            store.put(object, precondition).await
        };
        match done {
            Ok(object) => {
                if finished {
                    self.collect.notify_one();
                }
                Ok(Ok(Written { object, warnings, created: false }))
            }
            Err(StoreError::Conflict { .. }) => Err(Raced),
            Err(error) => Ok(Err(ApiError::of_store(error, kind, &target.name))),
        }
    }

    /// The live object, if it may be edited.
    async fn editable(&self, target: &Target) -> Result<Arc<Object>, ApiError> {
        match self.get_stored(&target.key()).await? {
            None => Err(ApiError::not_found(target.kind, &target.name)),
            Some((_, Some(why))) => Err(ApiError::conflict(target.kind, &target.name, &why)),
            Some((object, None)) => Ok(object),
        }
    }

    /// Compares uid and resourceVersion, where the writer names them.
    fn check_identity(&self, live: &Object, object: &Value) -> Result<(), ApiError> {
        let (kind, name) = (live.kind, &live.meta.name);
        let given = meta::text(object, "name");
        if !given.is_empty() && given != &**name {
            return Err(misnamed(given, name));
        }
        let uid = meta::text(object, "uid");
        if !uid.is_empty() && uid != live.meta.uid {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                live.meta.uid
            );
            return Err(ApiError::conflict(kind, name, &why));
        }
        let asked = meta::text(object, "resourceVersion");
        if !asked.is_empty() && !self.same_revision(live, asked) {
            return Err(ApiError::modified(kind, name));
        }
        Ok(())
    }

    /// Several stores give composed revisions; an object's own is the primary's part.
    fn same_revision(&self, live: &Object, asked: &str) -> bool {
        let stored = Revision::of(live);
        Asked::parse(asked, self.sources.count()).is_some_and(|asked| Some(asked.primary()) == stored)
    }

    /// Namespaces are made on first use; nothing new enters one that is going away.
    async fn ensure_namespace(&self, key: &Key, dry_run: bool) -> Result<(), ApiError> {
        if key.namespace.is_empty() {
            return Ok(());
        }
        let Some(kind) = Kind::find("", "Namespace") else { return Ok(()) };
        let namespace = Key::new(kind, "", key.namespace.clone());
        match self.get_stored(&namespace).await? {
            Some((found, _)) if found.meta.deletion_timestamp.is_some() => {
                let message = format!(
                    "{} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
                    key.kind.plural, &*key.name, key.namespace
                );
                Err(ApiError::forbidden(message).about(key.kind, &key.name))
            }
            Some(_) => Ok(()),
            None if dry_run => Ok(()),
            None => self.make_namespace(kind, &key.namespace).await,
        }
    }

    pub(crate) async fn make_namespace(&self, kind: &'static Kind, name: &str) -> Result<(), ApiError> {
        let mut object = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
        });
        meta::prepare_create(kind, &mut object)?;
        let Admitted { object, .. } = admission::admit(kind, object, "", FieldValidation::Ignore)?;
        match self.writable(kind, name)?.put(object, Precondition::Absent).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(ApiError::of_store(error, kind, name)),
        }
    }
}

fn misnamed(given: &str, name: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    ))
}

/// Another writer was faster: compute the change again.
struct Raced;
