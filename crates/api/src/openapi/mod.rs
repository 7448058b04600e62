//! `/openapi/v2` (JSON and protobuf) and `/openapi/v3`: what clients validate, explain and complete by.
//!
//! Built from the table of kinds on first use, and kept.

mod document;
mod gnostic;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Api,
    error::ApiError,
    negotiate::{self, Form},
    routes::{Call, json_response},
};

/// A document and its content hash.
#[derive(Clone)]
struct Stored {
    body: Bytes,
    etag: String,
}

impl Stored {
    fn new(body: Vec<u8>) -> Self {
        let etag = Sha256::digest(&body).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
        Self { body: body.into(), etag }
    }
}

/// Every description, made when first asked for.
#[derive(Default)]
pub(crate) struct Documents {
    v2: OnceLock<Stored>,
    v2_proto: OnceLock<Stored>,
    /// By path: `api/v1`, `apis/GROUP/VERSION`.
    v3: OnceLock<BTreeMap<String, Stored>>,
}

impl Documents {
    fn v2(&self) -> &Stored {
        self.v2.get_or_init(|| Stored::new(document::v2().to_string().into_bytes()))
    }

    fn v2_proto(&self) -> &Stored {
        self.v2_proto.get_or_init(|| Stored::new(gnostic::encode(&document::v2())))
    }

    fn v3(&self) -> &BTreeMap<String, Stored> {
        self.v3.get_or_init(|| {
            let all = document::v3().into_iter();
            all.map(|(path, document)| (path, Stored::new(document.to_string().into_bytes()))).collect()
        })
    }
}

pub(crate) fn answer(api: &Arc<Api>, call: &Call) -> Result<Response, ApiError> {
    let documents = &api.documents;
    let path = call.path.trim_matches('/');
    match path {
        "openapi/v2" => match negotiate::openapi_form(&call.headers)? {
            Form::OpenApiProto => {
                let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                Ok(stored_response(call, documents.v2_proto(), media))
            }
            _ => Ok(stored_response(call, documents.v2(), "application/json")),
        },
        "openapi/v3" => {
            let paths: serde_json::Map<String, Value> = documents
                .v3()
                .iter()
                .map(|(path, stored)| {
                    let url = format!("/openapi/v3/{path}?hash={}", stored.etag);
                    (path.clone(), json!({ "serverRelativeURL": url }))
                })
                .collect();
            Ok(json_response(StatusCode::OK, &json!({ "paths": paths })))
        }
        _ => {
            let stored = path.strip_prefix("openapi/v3/").and_then(|path| documents.v3().get(path));
            stored
                .map(|stored| stored_response(call, stored, "application/json"))
                .ok_or_else(ApiError::no_such_path)
        }
    }
}

fn stored_response(call: &Call, stored: &Stored, media: &'static str) -> Response {
    let etag = format!("\"{}\"", stored.etag);
    let known = call.headers.get_all(header::IF_NONE_MATCH).iter().any(|v| {
        v.to_str().is_ok_and(|v| v.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag))
    });
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(stored.body.clone()))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    // A URL that names the hash is of one content for ever.
    let cache = if call.query.get("hash") == Some(stored.etag.as_str()) {
        "public, immutable"
    } else {
        "no-cache, private"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}
