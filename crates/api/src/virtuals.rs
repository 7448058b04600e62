//! Resources that are not stored: events (kept in memory), and the reviews by which clients ask what
//! they may do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Api,
    body::{self, BodyType},
    discovery::Listed,
    error::ApiError,
    meta, negotiate, operate,
    path::ResourcePath,
    routes::{Call, json_response},
    selector::FieldSelector,
};

/// A resource that no store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Virtual {
    Event,
    AccessReview,
    RulesReview,
    SelfReview,
}

pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<Virtual> {
    match (group, version, plural) {
        ("", "v1", "events") => Some(Virtual::Event),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => Some(Virtual::AccessReview),
        ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => Some(Virtual::RulesReview),
        ("authentication.k8s.io", "v1", "selfsubjectreviews") => Some(Virtual::SelfReview),
        _ => None,
    }
}

pub(crate) fn listed() -> Vec<Listed> {
    let review = |group, plural, singular, kind| Listed {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        namespaced: false,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
        status: false,
        lease: false,
        preferred: true,
    };
    let authorization = "authorization.k8s.io";
    vec![
        Listed {
            namespaced: true,
            verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
            short_names: &["ev"],
            ..review("", "events", "event", "Event")
        },
        review(
            authorization,
            "selfsubjectaccessreviews",
            "selfsubjectaccessreview",
            "SelfSubjectAccessReview",
        ),
        review(authorization, "selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"),
        review("authentication.k8s.io", "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"),
    ]
}

/// Answers a call about such a resource.
pub(crate) fn answer(
    api: &Arc<Api>,
    of: Virtual,
    path: &ResourcePath,
    call: &Call,
) -> Result<Response, ApiError> {
    negotiate::json_only(&call.headers)?;
    let method = call.method.clone();
    let absent = || {
        let message = format!("{} {:?} not found", path.plural, path.name);
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
    };
    if of != Virtual::Event {
        if method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let body = body::whole_object(&call.headers, &call.body)?;
        return Ok(json_response(StatusCode::CREATED, &review(of, body)));
    }
    match (method, path.name.as_str()) {
        (Method::GET, "") => {
            let selector = call.query.get("fieldSelector").unwrap_or_default();
            let list = api.events.list(&path.namespace, selector)?;
            if path.watch || call.query.flag("watch") {
                return operate::quiet_stream(api, &call.query);
            }
            Ok(json_response(StatusCode::OK, &list))
        }
        (Method::GET, name) => {
            let event = api.events.get(&path.namespace, name).ok_or_else(absent)?;
            Ok(json_response(StatusCode::OK, &event))
        }
        (Method::DELETE, name) if !name.is_empty() => {
            let event = api.events.remove(&path.namespace, name).ok_or_else(absent)?;
            Ok(json_response(StatusCode::OK, &event))
        }
        (Method::POST, "") => {
            let event = body::whole_object(&call.headers, &call.body)?;
            Ok(json_response(StatusCode::CREATED, &api.events.put(&path.namespace, None, event)?))
        }
        (Method::PUT, name) if !name.is_empty() => {
            let event = body::whole_object(&call.headers, &call.body)?;
            Ok(json_response(StatusCode::OK, &api.events.put(&path.namespace, Some(name), event)?))
        }
        (Method::PATCH, name) if !name.is_empty() => {
            let mut event = api.events.get(&path.namespace, name).ok_or_else(absent)?;
            json_patch::merge(&mut event, &body::parse(&call.body, BodyType::MergePatch)?);
            Ok(json_response(StatusCode::OK, &api.events.put(&path.namespace, Some(name), event)?))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// The answer to a review: there are no users yet, whoever reaches the API may do everything.
pub(crate) fn review(of: Virtual, mut body: Value) -> Value {
    body["status"] = match of {
        Virtual::AccessReview | Virtual::Event => {
            json!({ "allowed": true, "reason": "heddle allows whoever reaches its API" })
        }
        Virtual::RulesReview => json!({
            "incomplete": false,
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }),
        Virtual::SelfReview => {
            json!({ "userInfo": { "username": "heddle:anonymous", "groups": ["system:masters"] } })
        }
    };
    body
}

/// The last events, in memory: what they tell of is over soon.
#[derive(Default)]
pub(crate) struct Events {
    kept: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    last: u64,
    events: VecDeque<Value>,
}

const KEPT: usize = 1024;
/// Fields that clients select events by.
const SELECTABLE: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

impl Events {
    /// Keeps an event, replacing one of the same name.
    pub(crate) fn put(
        &self,
        namespace: &str,
        name: Option<&str>,
        mut event: Value,
    ) -> Result<Value, ApiError> {
        let metadata = meta::of(&mut event)?;
        let own = |m: &serde_json::Map<String, Value>, f: &str| {
            m.get(f).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let name = match name {
            Some(name) => name.to_owned(),
            None if own(metadata, "name").is_empty() => meta::generated(&own(metadata, "generateName")),
            None => own(metadata, "name"),
        };
        let mut ring = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        metadata.insert("name".to_owned(), name.as_str().into());
        metadata.insert("namespace".to_owned(), namespace.into());
        metadata.insert("resourceVersion".to_owned(), ring.last.to_string().into());
        metadata.entry("uid").or_insert_with(|| meta::new_uid().into());
        metadata.entry("creationTimestamp").or_insert_with(|| meta::now().into());
        event["apiVersion"] = "v1".into();
        event["kind"] = "Event".into();
        ring.events.retain(|e| !is(e, namespace, &name));
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        Ok(event)
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        let ring = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        ring.events.iter().find(|e| is(e, namespace, name)).cloned()
    }

    pub(crate) fn remove(&self, namespace: &str, name: &str) -> Option<Value> {
        let mut ring = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ring.events.iter().position(|e| is(e, namespace, name))?;
        ring.events.remove(at)
    }

    /// An `EventList`.
    pub(crate) fn list(&self, namespace: &str, selector: &str) -> Result<Value, ApiError> {
        let selector = FieldSelector::parse(selector, &SELECTABLE)?;
        let ring = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |e: &&Value| {
            (namespace.is_empty() || meta::text(e, "namespace") == namespace) && selector.matches(e)
        };
        let items: Vec<&Value> = ring.events.iter().filter(fits).collect();
        Ok(json!({
            "kind": "EventList", "apiVersion": "v1",
            "metadata": { "resourceVersion": ring.last.to_string() }, "items": items,
        }))
    }
}

fn is(event: &Value, namespace: &str, name: &str) -> bool {
    meta::text(event, "namespace") == namespace && meta::text(event, "name") == name
}
