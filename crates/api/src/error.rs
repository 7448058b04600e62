//! Refusals as the Kubernetes `Status` object: code, reason, message, details.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use heddle_resource::Kind;
use heddle_store::StoreError;

/// One cause of an `Invalid` or `Conflict` status.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

/// An answer that says no, in the terms that clients of the Kubernetes API act on.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    details: Box<Details>,
}

#[derive(Debug, Default)]
struct Details {
    name: String,
    group: &'static str,
    kind: &'static str,
    causes: Vec<Cause>,
    /// Seconds after which a client may come again.
    retry_after: Option<u32>,
    /// The token with which an expired list may be continued.
    continue_token: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default() }
    }

    pub(crate) fn about(mut self, kind: &'static Kind, name: &str) -> Self {
        name.clone_into(&mut self.details.name);
        self.details.group = kind.group;
        self.details.kind = kind.plural;
        self
    }

    pub(crate) fn because(mut self, causes: Vec<Cause>) -> Self {
        self.details.causes = causes;
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn not_found(kind: &'static Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(kind));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    pub(crate) fn already_exists(kind: &'static Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(kind));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    pub(crate) fn conflict(kind: &'static Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(kind));
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// The object was changed since the writer read it.
    pub(crate) fn modified(kind: &'static Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn invalid(kind: &'static Kind, name: &str, causes: Vec<Cause>) -> Self {
        let told: Vec<String> =
            causes
                .iter()
                .map(|c| {
                    if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) }
                })
                .collect();
        let told = if told.len() == 1 { told.concat() } else { format!("[{}]", told.join(", ")) };
        let message = format!("{} {name:?} is invalid: {told}", qualified_kind(kind));
        let mut error =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(kind, name).because(causes);
        error.details.kind = kind.kind;
        error
    }

    /// The revision asked for is no longer kept: list again.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn continue_with(mut self, token: String) -> Self {
        self.details.continue_token = Some(token);
        self
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        error.details.retry_after = Some(1);
        error
    }

    pub(crate) fn too_large_revision(asked: &str, current: &str) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
        error.details.retry_after = Some(1);
        error.details.causes = vec![Cause {
            reason: "ResourceVersionTooLarge",
            field: String::new(),
            message: "Too large resource version".to_owned(),
        }];
        error
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only application/json is served here (also as=Table and as=PartialObjectMetadata)";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn media_type(found: &str, accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format ({found:?}) - accepted media types include: {accepted}"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// A store's refusal of an operation on this object.
    pub(crate) fn of_store(error: StoreError, kind: &'static Kind, name: &str) -> Self {
        match error {
            StoreError::Conflict { expected: None, found: Some(_), .. } => Self::already_exists(kind, name),
            StoreError::Conflict { .. } => Self::modified(kind, name),
            StoreError::NotFound { .. } => Self::not_found(kind, name),
            StoreError::Compacted => {
                Self::expired("too old resource version: the events after it are no longer kept; list again")
            }
            StoreError::ReadOnly(why) => Self::conflict(kind, name, &why),
            StoreError::TooLarge { .. } => Self::too_large(error.to_string()).about(kind, name),
            StoreError::NoLease(_) => Self::conflict(kind, name, &error.to_string()),
            StoreError::Full(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "InternalError", error.to_string())
                    .about(kind, name)
            }
            StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
            StoreError::Io(_) | StoreError::Damaged(_) => Self::internal(error.to_string()).about(kind, name),
        }
    }

    /// The `Status` object of this refusal.
    pub(crate) fn status(&self) -> Value {
        let mut details = serde_json::Map::new();
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        };
        let told = &*self.details;
        put("name", &told.name);
        put("group", told.group);
        put("kind", told.kind);
        if !told.causes.is_empty() {
            details.insert("causes".to_owned(), told.causes.iter().map(Cause::json).collect());
        }
        if let Some(seconds) = told.retry_after {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        let mut metadata = json!({});
        if let Some(token) = &told.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}

impl Cause {
    fn json(&self) -> Value {
        let mut cause = json!({ "reason": self.reason, "message": self.message });
        if !self.field.is_empty() {
            cause["field"] = self.field.as_str().into();
        }
        cause
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.details.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// `virtualservices.networking.istio.io`: how messages name a resource.
fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.plural.to_owned() } else { format!("{}.{}", kind.plural, kind.group) }
}

fn qualified_kind(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) }
}
