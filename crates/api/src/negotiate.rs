//! What the client can read: plain JSON, a Table, or metadata only.

use http::{HeaderMap, header};

use crate::error::ApiError;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// `as=Table`, with the version of meta.k8s.io asked for.
    Table(&'static str),
    /// `as=PartialObjectMetadata` (or its list), with the version of meta.k8s.io asked for.
    Metadata(&'static str),
    /// `as=APIGroupDiscoveryList` with its version.
    Discovery(&'static str),
    /// The gnostic protobuf of `/openapi/v2`.
    OpenApiProto,
}

/// One media range of an Accept header.
struct Range<'h> {
    media: &'h str,
    as_kind: &'h str,
    group: &'h str,
    version: &'h str,
}

const OPENAPI_PROTO: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// The forms the client accepts that this API has, in the client's order.
fn accepted(headers: &HeaderMap) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(text) = value.to_str() else { continue };
        for range in text.split(',').map(str::trim).filter(|r| !r.is_empty()) {
            any = true;
            forms.extend(form_of(&range_of(range)));
        }
    }
    if !any {
        forms.push(Form::Json);
    }
    forms
}

fn range_of(text: &str) -> Range<'_> {
    let mut parts = text.split(';').map(str::trim);
    let mut range = Range { media: parts.next().unwrap_or_default(), as_kind: "", group: "", version: "" };
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => range.as_kind = value,
            Some(("g", value)) => range.group = value,
            Some(("v", value)) => range.version = value,
            _ => {}
        }
    }
    range
}

fn form_of(range: &Range<'_>) -> Option<Form> {
    if OPENAPI_PROTO.contains(&range.media) {
        return Some(Form::OpenApiProto);
    }
    if !matches!(range.media, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let meta = match range.version {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    };
    match (range.as_kind, range.group) {
        ("", _) => Some(Form::Json),
        ("Table", "meta.k8s.io") => meta.map(Form::Table),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => meta.map(Form::Metadata),
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io") => match range.version {
            "v2" => Some(Form::Discovery("v2")),
            "v2beta1" => Some(Form::Discovery("v2beta1")),
            _ => None,
        },
        _ => None,
    }
}

/// For objects and lists.
pub(crate) fn object_form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let fits = |f: &Form| matches!(f, Form::Json | Form::Table(_) | Form::Metadata(_));
    accepted(headers).into_iter().find(fits).ok_or_else(ApiError::not_acceptable)
}

/// For `/api` and `/apis`.
pub(crate) fn discovery_form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let fits = |f: &Form| matches!(f, Form::Json | Form::Discovery(_));
    accepted(headers).into_iter().find(fits).ok_or_else(ApiError::not_acceptable)
}

/// For `/openapi/v2`.
pub(crate) fn openapi_form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let fits = |f: &Form| matches!(f, Form::Json | Form::OpenApiProto);
    accepted(headers).into_iter().find(fits).ok_or_else(ApiError::not_acceptable)
}

/// For answers that come as JSON only (Status, discovery of one group).
pub(crate) fn json_only(headers: &HeaderMap) -> Result<(), ApiError> {
    let fits = |f: Form| f == Form::Json;
    if accepted(headers).into_iter().any(fits) { Ok(()) } else { Err(ApiError::not_acceptable()) }
}
