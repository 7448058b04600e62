//! Request bodies: bounded, of a known type, parsed to JSON.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::{error::ApiError, protobuf};

/// The types of body that an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyType {
    Json,
    Yaml,
    JsonPatch,
    MergePatch,
    StrategicPatch,
    Apply,
    /// Kubernetes' own, for core kinds.
    Protobuf,
}

/// Of whole objects.
pub(crate) const OBJECT: &str = "application/json,application/yaml";

/// A client has so long to send its body.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads at most `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let Ok(collected) = tokio::time::timeout(TIMEOUT, Limited::new(body, limit).collect()).await else {
        let message = format!("the request body did not come within {TIMEOUT:?}");
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(format!("the request body is larger than {limit} bytes")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the request body could not be read: {error}"))),
    }
}

/// `None` for a request without a Content-Type.
pub(crate) fn body_type(headers: &HeaderMap) -> Result<Option<BodyType>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    match media.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "application/json" => Ok(Some(BodyType::Json)),
        "application/yaml" | "application/x-yaml" => Ok(Some(BodyType::Yaml)),
        protobuf::MEDIA => Ok(Some(BodyType::Protobuf)),
        "application/json-patch+json" => Ok(Some(BodyType::JsonPatch)),
        "application/merge-patch+json" => Ok(Some(BodyType::MergePatch)),
        "application/strategic-merge-patch+json" => Ok(Some(BodyType::StrategicPatch)),
        "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Some(BodyType::Apply)),
        _ => Err(ApiError::media_type(media, OBJECT)),
    }
}

/// The one document of a body.
pub(crate) fn parse(bytes: &[u8], of: BodyType) -> Result<Value, ApiError> {
    match of {
        BodyType::Yaml | BodyType::Apply => parse_yaml(bytes),
        BodyType::Protobuf => protobuf::decode(bytes),
        _ => serde_json::from_slice(bytes)
            .map_err(|e| ApiError::bad_request(format!("the body of the request is not valid JSON: {e}"))),
    }
}

fn parse_yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("the body of the request is not valid UTF-8"))?;
    let mut documents = heddle_resource::parse_documents(text, "the request body");
    match (documents.pop(), documents.is_empty()) {
        (Some(Ok(document)), true) => Ok(document.value),
        (Some(Err(diagnostic)), true) => Err(ApiError::bad_request(diagnostic.to_string())),
        (None, _) => Err(ApiError::bad_request("the body of the request is empty")),
        (Some(_), false) => {
            Err(ApiError::bad_request("the body of the request has several documents, expected one"))
        }
    }
}

/// A body that must be an object of the API: no patch.
pub(crate) fn whole_object(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, ApiError> {
    let of = match body_type(headers)? {
        None | Some(BodyType::Json) => BodyType::Json,
        Some(of @ (BodyType::Yaml | BodyType::Protobuf)) => of,
        Some(_) => {
            let found = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            return Err(ApiError::media_type(found, OBJECT));
        }
    };
    if bytes.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "the request has no body, expected an object",
        ));
    }
    let value = parse(bytes, of)?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ApiError::bad_request("the body of the request is not an object"))
    }
}
