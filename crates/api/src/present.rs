//! Objects as the client asked to see them: whole, as table rows, or metadata only.

use std::sync::Arc;

use heddle_resource::{Kind, Object};
use serde_json::{Value, json};

use crate::{negotiate::Form, query::Query, read::Page, sources::Versions, table, version};

/// What rows of a table carry besides their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    None,
}

/// Shows objects of one kind in one form.
pub(crate) struct Presenter {
    kind: &'static Kind,
    version: &'static str,
    form: Form,
    include: Include,
    /// Objects carry the revision of all stores in events, so that a watch can go on from them.
    composed: bool,
    /// The columns were sent already.
    headed: bool,
}

impl Presenter {
    pub(crate) fn new(
        kind: &'static Kind,
        version: &'static str,
        form: Form,
        query: &Query,
        composed: bool,
    ) -> Self {
        let include = match query.get("includeObject") {
            Some("Object") => Include::Object,
            Some("None") => Include::None,
            _ => Include::Metadata,
        };
        Self { kind, version, form, include, composed, headed: false }
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    pub(crate) fn object(&self, object: &Object) -> Value {
        match &self.form {
            Form::Table(meta) => {
                let rows = vec![self.row(object)];
                table::table(meta, table::columns(self.kind), rows, list_meta(&object.meta.resource_version))
            }
            Form::Metadata(meta) => self.metadata(object, meta),
            _ => version::read_as(self.kind, self.version, &object.json),
        }
    }

    /// The object of a watch event. A table has its columns in the first event only.
    pub(crate) fn event_object(&mut self, object: &Object, versions: Option<&Versions>) -> Value {
        let mut shown = match &self.form {
            Form::Table(meta) => {
                let columns = if self.headed { Vec::new() } else { table::columns(self.kind) };
                self.headed = true;
                table::table(meta, columns, vec![self.row(object)], list_meta(&object.meta.resource_version))
            }
            _ => self.object(object),
        };
        if let (true, Some(versions)) = (self.composed, versions) {
            shown["metadata"]["resourceVersion"] = versions.to_string().into();
        }
        shown
    }

    pub(crate) fn bookmark(&self, at: &Versions, initial_end: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": at.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        match &self.form {
            Form::Table(meta) => table::table(meta, Vec::new(), Vec::new(), metadata),
            Form::Metadata(meta) => json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{meta}"), "metadata": metadata,
            }),
            _ => json!({
                "kind": self.kind.kind,
                "apiVersion": version::api_version(self.kind.group, self.version),
                "metadata": metadata,
            }),
        }
    }

    pub(crate) fn page(&self, page: &Page) -> Value {
        let mut metadata = list_meta(&page.versions.to_string());
        if let Some(token) = &page.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        self.list(&page.items, metadata)
    }

    pub(crate) fn list(&self, items: &[Arc<Object>], metadata: Value) -> Value {
        match &self.form {
            Form::Table(meta) => {
                let rows = items.iter().map(|o| self.row(o)).collect();
                table::table(meta, table::columns(self.kind), rows, metadata)
            }
            Form::Metadata(meta) => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{meta}"),
                "metadata": metadata,
                "items": items.iter().map(|o| self.metadata(o, meta)).collect::<Vec<_>>(),
            }),
            _ => json!({
                "kind": format!("{}List", self.kind.kind),
                "apiVersion": version::api_version(self.kind.group, self.version),
                "metadata": metadata,
                "items": items.iter().map(|o| self.object(o)).collect::<Vec<_>>(),
            }),
        }
    }

    fn metadata(&self, object: &Object, meta: &str) -> Value {
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": format!("meta.k8s.io/{meta}"),
            "metadata": object.json.get("metadata"),
        })
    }

    fn row(&self, object: &Object) -> Value {
        let shown = match (self.include, &self.form) {
            (Include::None, _) => None,
            (Include::Object, _) => Some(version::read_as(self.kind, self.version, &object.json)),
            (Include::Metadata, Form::Table(meta)) => Some(self.metadata(object, meta)),
            (Include::Metadata, _) => Some(self.metadata(object, "v1")),
        };
        table::row(self.kind, object, shown)
    }
}

pub(crate) fn list_meta(version: &str) -> Value {
    json!({ "resourceVersion": version })
}
