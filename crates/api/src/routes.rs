//! From a request to its answer: doors, paths, verbs.

use std::sync::Arc;

use axum::{body::Body, response::IntoResponse, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    Api,
    body::{self, BodyType},
    delete::{DeleteOptions, Deleted},
    discovery,
    edit::{Target, Written},
    error::ApiError,
    lease, meta,
    negotiate::{self, Form},
    openapi, operate,
    patch::{self, Patch},
    path::{ApiPath, ResourcePath},
    present::{Presenter, list_meta},
    query::{Query, WriteOptions},
    selector::{FieldSelector, LabelSelector, Selection},
    virtuals,
};

/// One request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// Read already, within the limit; empty for a GET.
    pub(crate) body: Vec<u8>,
}

impl Call {
    fn user_agent(&self) -> &str {
        self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    fn write_options(&self) -> Result<WriteOptions, ApiError> {
        WriteOptions::read(&self.query, self.user_agent())
    }
}

/// Answers one request.
pub(crate) async fn answer(api: Arc<Api>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let open = || {
        api.doors.check(&parts.uri, &parts.headers)?;
        Query::parse(parts.uri.query().unwrap_or_default())
    };
    let query = match open() {
        Ok(query) => query,
        Err(refused) => return refused.into_response(),
    };
    let path = parts.uri.path().to_owned();
    let body = match parts.method {
        Method::GET | Method::HEAD => Ok(Vec::new()),
        _ => body::read(body, api.max_body).await,
    };
    let body = match body {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let call = Call { method: parts.method, path, query, headers: parts.headers, body };
    match dispatch(&api, &call).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn dispatch(api: &Arc<Api>, call: &Call) -> Result<Response, ApiError> {
    let first = call.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "api" | "apis" => {}
        "openapi" => {
            only_get(call)?;
            return openapi::answer(api, call);
        }
        _ => {
            if call.method != Method::POST {
                only_get(call)?;
            }
            return operate::answer(api, call).await;
        }
    }
    match ApiPath::parse(&call.path).ok_or_else(ApiError::no_such_path)? {
        ApiPath::CoreVersions => {
            only_get(call)?;
            discover(call, true, || discovery::core_versions(&api.address))
        }
        ApiPath::Groups => {
            only_get(call)?;
            discover(call, false, discovery::group_list)
        }
        ApiPath::Group(group) => {
            only_get(call)?;
            negotiate::json_only(&call.headers)?;
            discovery::group(&group)
                .map(|g| json_response(StatusCode::OK, &g))
                .ok_or_else(ApiError::no_such_path)
        }
        ApiPath::Resources { group, version } => {
            only_get(call)?;
            negotiate::json_only(&call.headers)?;
            let list = discovery::resource_list(&group, &version);
            list.map(|l| json_response(StatusCode::OK, &l)).ok_or_else(ApiError::no_such_path)
        }
        ApiPath::Resource(path) => {
            if let Some(of) = virtuals::find(&path.group, &path.version, &path.plural) {
                return virtuals::answer(api, of, &path, call);
            }
            resource(api, path, call).await
        }
    }
}

fn only_get(call: &Call) -> Result<(), ApiError> {
    if matches!(call.method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed())
    }
}

fn discover(call: &Call, core: bool, plain: impl Fn() -> Value) -> Result<Response, ApiError> {
    let mut response = match negotiate::discovery_form(&call.headers)? {
        Form::Discovery(version) => {
            let mut response = json_response(StatusCode::OK, &discovery::aggregated(core, version));
            let media =
                format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            if let Ok(media) = HeaderValue::from_str(&media) {
                response.headers_mut().insert(header::CONTENT_TYPE, media);
            }
            response
        }
        _ => json_response(StatusCode::OK, &plain()),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

async fn resource(api: &Arc<Api>, path: ResourcePath, call: &Call) -> Result<Response, ApiError> {
    let (kind, version) =
        discovery::served(&path.group, &path.version, &path.plural).ok_or_else(ApiError::no_such_path)?;
    if !kind.namespaced && !path.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    if path.subresource == "lease" && kind.kind == "WorkloadEntry" {
        let key = heddle_resource::Key::new(kind, path.namespace.as_str(), path.name.as_str());
        return lease::answer(api, call, &key).await;
    }
    if !(path.subresource.is_empty() || path.subresource == "status" && meta::has_status(kind)) {
        return Err(ApiError::no_such_path());
    }
    let all_namespaces = kind.namespaced && path.namespace.is_empty();
    let target =
        Target { kind, version, namespace: path.namespace, name: path.name, subresource: path.subresource };
    if target.name.is_empty() {
        return collection(api, target, all_namespaces, path.watch, call).await;
    }
    if all_namespaces {
        return Err(ApiError::no_such_path());
    }
    object(api, target, path.watch, call).await
}

/// `GET`, `POST` and `DELETE` of a collection.
async fn collection(
    api: &Arc<Api>,
    target: Target,
    all_namespaces: bool,
    watch: bool,
    call: &Call,
) -> Result<Response, ApiError> {
    match call.method {
        Method::GET | Method::HEAD => {
            let form = negotiate::object_form(&call.headers)?;
            let selection = selection(&target, &call.query)?;
            if watch || call.query.flag("watch") {
                return api.watch(target.kind, target.version, selection, form, &call.query).await;
            }
            let page = api.list_page(target.kind, &selection, &call.query).await?;
            let presenter = Presenter::new(target.kind, target.version, form, &call.query, false);
            Ok(json_response(StatusCode::OK, &presenter.page(&page)))
        }
        Method::POST => {
            if all_namespaces {
                return Err(ApiError::bad_request(format!(
                    "an empty namespace may not be set during creation: post to .../namespaces/NAMESPACE/{}",
                    target.kind.plural
                )));
            }
            let form = negotiate::object_form(&call.headers)?;
            let options = call.write_options()?;
            let value = body::whole_object(&call.headers, &call.body)?;
            let written = api.create(&target, value, &options).await?;
            Ok(written_response(&target, form, &call.query, &written))
        }
        Method::DELETE => {
            let form = negotiate::object_form(&call.headers)?;
            let selection = selection(&target, &call.query)?;
            let options = delete_options(call)?;
            let deleted = api.delete_collection(&target, &selection, &options).await?;
            let presenter = Presenter::new(target.kind, target.version, form, &call.query, false);
            Ok(json_response(StatusCode::OK, &presenter.list(&deleted, list_meta(""))))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn selection(target: &Target, query: &Query) -> Result<Selection, ApiError> {
    Ok(Selection {
        namespace: (!target.namespace.is_empty()).then(|| target.namespace.clone()),
        labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
        fields: FieldSelector::parse(
            query.get("fieldSelector").unwrap_or_default(),
            selectable(target.kind.kind),
        )?,
    })
}

/// The fields besides name and namespace by which Kubernetes selects objects of a kind.
fn selectable(kind: &str) -> &'static [&'static str] {
    match kind {
        "Namespace" => &["status.phase"],
        "Secret" => &["type"],
        "Service" => &["spec.clusterIP", "spec.type"],
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        _ => &[],
    }
}

/// The verbs of one object and of its status.
async fn object(api: &Arc<Api>, target: Target, watch: bool, call: &Call) -> Result<Response, ApiError> {
    let form = negotiate::object_form(&call.headers)?;
    match call.method {
        Method::GET | Method::HEAD if watch => {
            let mut selection = selection(&target, &call.query)?;
            selection.fields = FieldSelector::parse(&format!("metadata.name={}", target.name), &[])?;
            api.watch(target.kind, target.version, selection, form, &call.query).await
        }
        Method::GET | Method::HEAD => {
            let (found, _) = api
                .get_stored(&target.key())
                .await?
                .ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
            let presenter = Presenter::new(target.kind, target.version, form, &call.query, false);
            Ok(json_response(StatusCode::OK, &presenter.object(&found)))
        }
        Method::PUT => {
            let options = call.write_options()?;
            let value = body::whole_object(&call.headers, &call.body)?;
            let written = api.replace(&target, value, &options).await?;
            Ok(written_response(&target, form, &call.query, &written))
        }
        Method::PATCH => {
            let written = patch_object(api, &target, call).await?;
            Ok(written_response(&target, form, &call.query, &written))
        }
        Method::DELETE if target.subresource.is_empty() => {
            let options = delete_options(call)?;
            match api.delete(&target, &options).await? {
                Deleted::Gone(object) if !returns_deleted(&target) => {
                    Ok(json_response(StatusCode::OK, &deleted_status(&target, &object)))
                }
                Deleted::Gone(object) | Deleted::Marked(object) => {
                    let presenter = Presenter::new(target.kind, target.version, form, &call.query, false);
                    Ok(json_response(StatusCode::OK, &presenter.object(&object)))
                }
            }
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn patch_object(api: &Arc<Api>, target: &Target, call: &Call) -> Result<Written, ApiError> {
    let options = call.write_options()?;
    let of = match body::body_type(&call.headers) {
        Ok(Some(of)) if !matches!(of, BodyType::Json | BodyType::Yaml | BodyType::Protobuf) => of,
        _ => {
            let found =
                call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            return Err(ApiError::media_type(found, patch::ACCEPTED));
        }
    };
    if of == BodyType::Apply {
        if call.query.get("fieldManager").is_none() {
            return Err(ApiError::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        let config = body::parse(&call.body, BodyType::Apply)?;
        return api.apply(target, config, &options).await;
    }
    if options.force {
        return Err(ApiError::bad_request("force: may be used with server-side apply only"));
    }
    let patch = Patch::read(target.kind, of, &call.body)?;
    api.update(target, &options, |live| patch.apply(target.kind, &target.name, live)).await
}

fn delete_options(call: &Call) -> Result<DeleteOptions, ApiError> {
    let body = if call.body.is_empty() { None } else { Some(body::whole_object(&call.headers, &call.body)?) };
    DeleteOptions::read(body.as_ref(), &call.query)
}

/// The kinds whose deletion Kubernetes answers with the object, as its typed clients expect.
fn returns_deleted(target: &Target) -> bool {
    target.kind.group.is_empty() && matches!(target.kind.kind, "Service" | "ServiceAccount" | "Pod")
}

fn deleted_status(target: &Target, object: &heddle_resource::Object) -> Value {
    let mut details = json!({ "name": target.name, "kind": target.kind.plural, "uid": object.meta.uid });
    if !target.kind.group.is_empty() {
        details["group"] = target.kind.group.into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

fn written_response(target: &Target, form: Form, query: &Query, written: &Written) -> Response {
    let presenter = Presenter::new(target.kind, target.version, form, query, false);
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json_response(code, &presenter.object(&written.object));
    for warning in written.warnings.iter().take(MAX_WARNINGS) {
        if let Ok(value) = HeaderValue::from_str(&warning_text(warning)) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
    response
}

/// More are not read by anybody.
const MAX_WARNINGS: usize = 32;

/// RFC 7234: code 299, no agent, a quoted text of printable ASCII.
fn warning_text(warning: &str) -> String {
    let mut text = String::from("299 - \"");
    for c in warning.chars().take(512) {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

pub(crate) fn json_response(code: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
