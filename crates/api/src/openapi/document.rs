//! The OpenAPI documents as JSON.

use std::collections::BTreeMap;

use heddle_resource::{Kind, kinds};
use serde_json::{Map, Value, json};

use crate::{meta, schema};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// One document with every kind (Swagger 2).
pub(super) fn v2() -> Value {
    let mut definitions = meta_schemas("#/definitions/");
    let mut paths = Map::new();
    for kind in kinds() {
        for version in kind.served {
            describe(kind, version, "#/definitions/", &mut definitions);
            add_paths(kind, version, true, &mut paths);
        }
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "heddle", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "definitions": definitions,
    })
}

/// The schemas and the paths of one document.
type Parts = (Map<String, Value>, Map<String, Value>);

/// One document for each group and version, by path.
pub(super) fn v3() -> BTreeMap<String, Value> {
    let mut documents: BTreeMap<String, Parts> = BTreeMap::new();
    for kind in kinds() {
        for version in kind.served {
            let (schemas, paths) = documents
                .entry(root(kind, version).trim_start_matches('/').to_owned())
                .or_insert_with(|| (meta_schemas("#/components/schemas/"), Map::new()));
            describe(kind, version, "#/components/schemas/", schemas);
            add_paths(kind, version, false, paths);
        }
    }
    let whole = |(schemas, paths)| {
        json!({
            "openapi": "3.0.0",
            "info": { "title": "heddle", "version": env!("CARGO_PKG_VERSION") },
            "paths": Value::Object(paths),
            "components": { "schemas": Value::Object(schemas) },
        })
    };
    documents.into_iter().map(|(path, parts)| (path, whole(parts))).collect()
}

/// `/api/v1`, `/apis/GROUP/VERSION`
fn root(kind: &Kind, version: &str) -> String {
    if kind.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{}/{version}", kind.group) }
}

/// `io.istio.networking.v1.VirtualService`: the group reversed, as Kubernetes names definitions.
fn definition_name(kind: &Kind, version: &str) -> String {
    match kind.group {
        "" => format!("io.k8s.api.core.{version}.{}", kind.kind),
        "discovery.k8s.io" => format!("io.k8s.api.discovery.{version}.{}", kind.kind),
        group => {
            let reversed: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{}", reversed.join("."), kind.kind)
        }
    }
}

fn gvk(kind: &Kind, version: &str, suffix: &str) -> Value {
    json!({ "group": kind.group, "version": version, "kind": format!("{}{suffix}", kind.kind) })
}

/// Adds a kind and its list.
fn describe(kind: &Kind, version: &str, refs: &str, into: &mut Map<String, Value>) {
    let name = definition_name(kind, version);
    let mut properties = schema::json_schema(kind);
    properties.insert("apiVersion".to_owned(), text("The group and version of this document."));
    properties.insert("kind".to_owned(), text("The kind of this document."));
    properties.insert("metadata".to_owned(), reference(refs, &format!("{META}.ObjectMeta")));
    let object = json!({
        "type": "object",
        "description": format!("{} {} of {}.", kind.kind, version, group_title(kind)),
        "properties": properties,
        "x-kubernetes-group-version-kind": [gvk(kind, version, "")],
    });
    let list = json!({
        "type": "object",
        "description": format!("A list of {}.", kind.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": text("The group and version of this document."),
            "kind": text("The kind of this document."),
            "metadata": reference(refs, &format!("{META}.ListMeta")),
            "items": { "type": "array", "items": reference(refs, &name) },
        },
        "x-kubernetes-group-version-kind": [gvk(kind, version, "List")],
    });
    into.insert(format!("{name}List"), list);
    into.insert(name, object);
}

fn group_title(kind: &Kind) -> &str {
    if kind.group.is_empty() { "the core group" } else { kind.group }
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn reference(refs: &str, name: &str) -> Value {
    json!({ "$ref": format!("{refs}{name}") })
}

/// `metadata` of objects and lists, deletion options, status: the same for every kind.
fn meta_schemas(refs: &str) -> Map<String, Value> {
    let strings = || json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let time = || json!({ "type": "string", "format": "date-time" });
    let list_of =
        |name: &str| json!({ "type": "array", "items": reference(refs, &format!("{META}.{name}")) });
    let mut owners = list_of("OwnerReference");
    owners["x-kubernetes-patch-merge-key"] = "uid".into();
    owners["x-kubernetes-patch-strategy"] = "merge".into();
    let finalizers =
        json!({ "type": "array", "items": { "type": "string" }, "x-kubernetes-patch-strategy": "merge" });
    let object = json!({
        "name": text("Unique within its namespace and kind."),
        "generateName": text("The beginning of a name to be made up."),
        "namespace": text("Made on first use."),
        "selfLink": text("Not used."),
        "uid": text("Unique in time and space."),
        "resourceVersion": text("Changes with every write; opaque."),
        "generation": { "type": "integer", "format": "int64", "description": "Counts changes of the content." },
        "creationTimestamp": time(),
        "deletionTimestamp": time(),
        "deletionGracePeriodSeconds": { "type": "integer", "format": "int64" },
        "labels": strings(),
        "annotations": strings(),
        "ownerReferences": owners,
        "finalizers": finalizers,
        "managedFields": list_of("ManagedFieldsEntry"),
    });
    let owner = json!({
        "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "name": { "type": "string" },
        "uid": { "type": "string" }, "controller": { "type": "boolean" },
        "blockOwnerDeletion": { "type": "boolean" },
    });
    let managed = json!({
        "manager": { "type": "string" }, "operation": { "type": "string" }, "apiVersion": { "type": "string" },
        "time": time(), "fieldsType": { "type": "string" }, "fieldsV1": { "type": "object" },
        "subresource": { "type": "string" },
    });
    let list = json!({
        "resourceVersion": { "type": "string" }, "continue": { "type": "string" },
        "remainingItemCount": { "type": "integer", "format": "int64" }, "selfLink": { "type": "string" },
    });
    let delete = json!({
        "apiVersion": { "type": "string" }, "kind": { "type": "string" },
        "propagationPolicy": { "type": "string" }, "gracePeriodSeconds": { "type": "integer", "format": "int64" },
        "dryRun": { "type": "array", "items": { "type": "string" } },
        "preconditions": { "type": "object", "properties": {
            "uid": { "type": "string" }, "resourceVersion": { "type": "string" },
        } },
        "orphanDependents": { "type": "boolean" },
    });
    let all = [
        ("ObjectMeta", object),
        ("OwnerReference", owner),
        ("ManagedFieldsEntry", managed),
        ("ListMeta", list),
        ("DeleteOptions", delete),
    ];
    let whole = |properties: Value| json!({ "type": "object", "properties": properties });
    all.into_iter().map(|(name, properties)| (format!("{META}.{name}"), whole(properties))).collect()
}

const WRITE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "All: check and answer, but store nothing."),
    ("fieldManager", "string", "Who writes."),
    ("fieldValidation", "string", "Ignore, Warn or Strict: what happens to unknown fields."),
];
const READ: [(&str, &str, &str); 10] = [
    ("allowWatchBookmarks", "boolean", "Send bookmarks."),
    ("continue", "string", "Where the next page begins."),
    ("fieldSelector", "string", "Which objects, by field."),
    ("labelSelector", "string", "Which objects, by label."),
    ("limit", "integer", "How many objects a page has."),
    ("resourceVersion", "string", "As of when."),
    ("resourceVersionMatch", "string", "Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Begin a watch with what there is."),
    ("timeoutSeconds", "integer", "How long a watch lasts."),
    ("watch", "boolean", "Follow the changes."),
];
const FORCE: [(&str, &str, &str); 1] = [("force", "boolean", "Take over fields that others own.")];
const DELETE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "All: check and answer, but delete nothing."),
    ("gracePeriodSeconds", "integer", "Not used."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground."),
];

/// Adds the paths of a kind with their operations.
fn add_paths(kind: &Kind, version: &str, v2: bool, into: &mut Map<String, Value>) {
    let root = root(kind, version);
    let (collection, parameters) = if kind.namespaced {
        (format!("{root}/namespaces/{{namespace}}/{}", kind.plural), vec!["namespace"])
    } else {
        (format!("{root}/{}", kind.plural), Vec::new())
    };
    let refs = if v2 { "#/definitions/" } else { "#/components/schemas/" };
    let writer = Operations { kind, version, v2, object: reference(refs, &definition_name(kind, version)) };
    let list = reference(refs, &format!("{}List", definition_name(kind, version)));
    if kind.namespaced {
        let mut item = Map::new();
        item.insert("get".to_owned(), writer.operation("list", "AllNamespaces", &READ, None, &list));
        into.insert(format!("{root}/{}", kind.plural), Value::Object(item));
    }
    let mut item = Map::new();
    item.insert("get".to_owned(), writer.operation("list", "", &READ, None, &list));
    item.insert(
        "post".to_owned(),
        writer.operation("post", "", &WRITE, Some("application/json"), &writer.object),
    );
    item.insert("delete".to_owned(), writer.operation("deletecollection", "", &DELETE, None, &list));
    item.insert("parameters".to_owned(), writer.path_parameters(&parameters));
    into.insert(collection.clone(), Value::Object(item));

    let mut named = parameters;
    named.push("name");
    let item_path = format!("{collection}/{{name}}");
    into.insert(item_path.clone(), writer.item("", &named));
    if meta::has_status(kind) {
        into.insert(format!("{item_path}/status"), writer.item("Status", &named));
    }
}

struct Operations<'k> {
    kind: &'k Kind,
    version: &'k str,
    v2: bool,
    object: Value,
}

impl Operations<'_> {
    /// The operations of one object or its status.
    fn item(&self, suffix: &str, parameters: &[&str]) -> Value {
        let mut item = Map::new();
        let patch: Vec<_> = WRITE.into_iter().chain(FORCE).collect();
        item.insert("get".to_owned(), self.operation("get", suffix, &[], None, &self.object));
        item.insert(
            "put".to_owned(),
            self.operation("put", suffix, &WRITE, Some("application/json"), &self.object),
        );
        let media = "application/merge-patch+json";
        item.insert("patch".to_owned(), self.operation("patch", suffix, &patch, Some(media), &self.object));
        if suffix.is_empty() {
            item.insert("delete".to_owned(), self.operation("delete", suffix, &DELETE, None, &self.object));
        }
        item.insert("parameters".to_owned(), self.path_parameters(parameters));
        Value::Object(item)
    }

    fn operation(
        &self,
        action: &str,
        suffix: &str,
        query: &[(&str, &str, &str)],
        body: Option<&str>,
        answer: &Value,
    ) -> Value {
        let mut parameters: Vec<Value> = query
            .iter()
            .map(|(name, kind, description)| self.parameter(name, "query", kind, description))
            .collect();
        let group = if self.kind.group.is_empty() { "core" } else { self.kind.group };
        let id =
            format!("{action}_{group}_{}_{}{suffix}", self.version, self.kind.kind).replace(['.', '-'], "_");
        let mut operation = json!({
            "operationId": id,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(self.kind, self.version, ""),
        });
        if self.v2 {
            if let Some(media) = body {
                parameters.push(json!({
                    "name": "body", "in": "body", "required": true, "schema": self.object,
                }));
                operation["consumes"] = json!([media]);
            }
            operation["produces"] = json!(["application/json"]);
            operation["responses"] = json!({ "200": { "description": "OK", "schema": answer } });
        } else {
            if let Some(media) = body {
                operation["requestBody"] =
                    json!({ "required": true, "content": { media: { "schema": self.object } } });
            }
            let content = json!({ "application/json": { "schema": answer } });
            operation["responses"] = json!({ "200": { "description": "OK", "content": content } });
        }
        operation["parameters"] = Value::Array(parameters);
        operation
    }

    fn path_parameters(&self, names: &[&str]) -> Value {
        names.iter().map(|name| self.parameter(name, "path", "string", name)).collect()
    }

    fn parameter(&self, name: &str, place: &str, kind: &str, description: &str) -> Value {
        let mut parameter = json!({ "name": name, "in": place, "description": description });
        if place == "path" {
            parameter["required"] = true.into();
        }
        if self.v2 {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        } else {
            parameter["schema"] = json!({ "type": kind });
        }
        parameter
    }
}
