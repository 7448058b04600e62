//! What operators and probes ask: version, health, metrics, debug views.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    Api, body,
    error::ApiError,
    mesh::{View, ViewError},
    query::Query,
    routes::{Call, json_response},
};

/// The Kubernetes release whose API conventions these are; kubectl compares it with its own.
const KUBERNETES: (&str, &str, &str) = ("1", "32", "v1.32.0");

pub(crate) async fn answer(api: &Arc<Api>, call: &Call) -> Result<Response, ApiError> {
    let path = call.path.trim_end_matches('/');
    let post = call.method == Method::POST;
    match path {
        "/debug/explain" if post => {
            let question = body::whole_object(&call.headers, &call.body)?;
            viewed(api.mesh.explain(question).await)
        }
        _ if post => Err(ApiError::method_not_allowed()),
        "/version" => Ok(json_response(StatusCode::OK, &version())),
        "" => Ok(json_response(StatusCode::OK, &json!({ "paths": PATHS }))),
        "/healthz" | "/livez" => Ok(text_response(StatusCode::OK, "ok", TEXT)),
        "/readyz" => Ok(ready(api)),
        "/metrics" => Ok(text_response(StatusCode::OK, &api.metrics_text(), PROMETHEUS)),
        _ => match path.strip_prefix("/debug/").and_then(View::parse) {
            Some(view) => viewed(api.mesh.view(view, &call.query.firsts()).await),
            None => Err(ApiError::no_such_path()),
        },
    }
}

const PATHS: [&str; 12] = [
    "/api",
    "/apis",
    "/debug/configz",
    "/debug/convergence",
    "/debug/endpointz",
    "/debug/syncz",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
];
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn version() -> Value {
    let (major, minor, release) = KUBERNETES;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("{release}+heddle.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn ready(api: &Api) -> Response {
    if *api.stopping.borrow() {
        return text_response(StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down", TEXT);
    }
    match api.mesh.ready() {
        Ok(()) => text_response(StatusCode::OK, "ok", TEXT),
        Err(why) => text_response(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {why}"), TEXT),
    }
}

fn viewed(answer: Result<Value, ViewError>) -> Result<Response, ApiError> {
    match answer {
        Ok(value) => Ok(json_response(StatusCode::OK, &value)),
        Err(ViewError::NotServed) => Err(ApiError::no_such_path()),
        Err(ViewError::Invalid(why)) => Err(ApiError::bad_request(why)),
        Err(ViewError::NotFound(why)) => Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", why)),
        Err(ViewError::Failed(why)) => Err(ApiError::internal(why)),
    }
}

fn text_response(code: StatusCode, text: &str, media: &'static str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A watch on which nothing happens, until its `timeoutSeconds`.
pub(crate) fn quiet_stream(api: &Arc<Api>, query: &Query) -> Result<Response, ApiError> {
    let permit =
        api.watchers.clone().try_acquire_owned().map_err(|_| {
            ApiError::too_many("as many watches are open as this API allows; come again later")
        })?;
    let seconds = query.number("timeoutSeconds")?.filter(|s| *s > 0).unwrap_or(1800).min(86_400);
    let stopped = api.stopped();
    let stream = futures_util::stream::once(async move {
        let _permit = permit;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = stopped => {}
        }
        Ok::<Bytes, Infallible>(Bytes::new())
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Api {
    /// The mesh's metrics and this API's own.
    fn metrics_text(&self) -> String {
        let mut text = self.mesh.metrics();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let open = self.max_watches.saturating_sub(self.watchers.available_permits());
        text.push_str("# HELP heddle_api_watches Open watches.\n# TYPE heddle_api_watches gauge\n");
        text.push_str(&format!("heddle_api_watches {open}\n"));
        text
    }
}
