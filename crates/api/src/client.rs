//! A small client of this API (or of any that follows the same conventions, over plain HTTP), for the
//! command line: raw JSON in and out, errors in the server's words.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use heddle_resource::Kind;

/// A server that does not take the connection within this time is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// Answers longer than this are refused rather than kept.
const MAX_ANSWER: usize = 256 << 20;
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is no server address: expected http://HOST:PORT")]
    Address(String),
    #[error(
        "no API server answers at {server}: {why}; is heddle up, or does --server (HEDDLE_SERVER) name another?"
    )]
    Unreachable { server: String, why: String },
    #[error("{server} broke off: {why}")]
    Broken { server: String, why: String },
    /// The server's refusal.
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("{server} answered what is no JSON: {why}")]
    NotJson { server: String, why: String },
}

/// A `Status` that says no.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: StatusCode,
    /// `NotFound`, `Conflict`, `Invalid`...
    pub reason: String,
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{} ({})", self.message, self.code)
        } else {
            write!(f, "{}: {}", self.reason, self.message)
        }
    }
}

impl ClientError {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(StatusCode::NOT_FOUND)
    }
}

/// An answer with the warnings that came with it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    /// The write made the object (201).
    pub created: bool,
}

/// How an apply is made.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions<'o> {
    pub manager: &'o str,
    pub force: bool,
    pub dry_run: bool,
    /// `Strict`, `Warn` or `Ignore`.
    pub validation: &'o str,
}

impl Default for ApplyOptions<'_> {
    fn default() -> Self {
        Self { manager: "heddle", force: false, dry_run: false, validation: "Strict" }
    }
}

/// One API server. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    server: String,
    authority: String,
}

impl Client {
    /// # Errors
    /// When the address is not `http://HOST:PORT` (or `HOST:PORT`).
    pub fn new(server: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(server.to_owned());
        let full = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = full.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http")
            || !matches!(uri.path(), "" | "/")
            || authority.as_str().contains('@')
        {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            server: full.trim_end_matches('/').to_owned(),
            authority: format!("{}:{port}", authority.host()),
        })
    }

    /// `http://HOST:PORT`
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The object of this name; `namespace` is not read for cluster-scoped kinds.
    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value, ClientError> {
        let path = object_path(kind, namespace, name);
        Ok(self.call(Method::GET, &path, &[], None).await?.value)
    }

    /// A list of objects; `None`: of all namespaces. `query` as in the API: `labelSelector`, `limit`...
    pub async fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        Ok(self.call(Method::GET, &collection_path(kind, namespace), query, None).await?.value)
    }

    /// Server-side apply.
    pub async fn apply(
        &self,
        kind: &Kind,
        object: &Value,
        options: &ApplyOptions<'_>,
    ) -> Result<Answer, ClientError> {
        let text = |name: &str| {
            object.get("metadata").and_then(|m| m.get(name)).and_then(Value::as_str).unwrap_or_default()
        };
        let namespace = if text("namespace").is_empty() { "default" } else { text("namespace") };
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let version = version.rsplit('/').next().filter(|v| kind.served.contains(v)).unwrap_or(kind.version);
        let path = format!("{}/{}", collection_path_of(kind, version, Some(namespace)), text("name"));
        let mut query = vec![("fieldManager", options.manager), ("fieldValidation", options.validation)];
        if options.force {
            query.push(("force", "true"));
        }
        if options.dry_run {
            query.push(("dryRun", "All"));
        }
        self.call(Method::PATCH, &path, &query, Some(("application/apply-patch+yaml", object))).await
    }

    /// Creates an object; its name may be generated.
    pub async fn create(&self, kind: &Kind, namespace: &str, object: &Value) -> Result<Answer, ClientError> {
        let path = collection_path(kind, Some(namespace));
        self.call(Method::POST, &path, &[], Some(("application/json", object))).await
    }

    /// Replaces an object; refused with `Conflict` if it names a resourceVersion that is not the present one.
    pub async fn replace(&self, kind: &Kind, namespace: &str, object: &Value) -> Result<Answer, ClientError> {
        let name =
            object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default();
        let path = object_path(kind, namespace, name);
        self.call(Method::PUT, &path, &[], Some(("application/json", object))).await
    }

    /// A merge patch of any path.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Answer, ClientError> {
        self.call(Method::PATCH, path, &[], Some(("application/merge-patch+json", patch))).await
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value, ClientError> {
        Ok(self.call(Method::DELETE, &object_path(kind, namespace, name), &[], None).await?.value)
    }

    /// Any path of the server, for debug views and leases.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        self.call(method, path, query, body.map(|body| ("application/json", body))).await
    }

    /// The events after a list's `resourceVersion`; with none, what there is comes first as `ADDED`.
    pub async fn watch(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        resource_version: Option<&str>,
    ) -> Result<Events, ClientError> {
        let mut query = vec![("watch", "true"), ("allowWatchBookmarks", "true")];
        query.extend(resource_version.map(|version| ("resourceVersion", version)));
        let response = self.send(Method::GET, &collection_path(kind, namespace), &query, None).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        Ok(Events { body: response.into_body(), buffer: BytesMut::new(), server: self.server.clone() })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
    ) -> Result<Answer, ClientError> {
        let response = self.send(method, path, query, body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let created = response.status() == StatusCode::CREATED;
        let warnings = response.headers().get_all(header::WARNING).iter();
        let warnings = warnings.filter_map(|w| w.to_str().ok().map(warning_text)).collect();
        let bytes = self.read(response).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|e| ClientError::NotJson { server: self.server.clone(), why: e.to_string() })?;
        Ok(Answer { value, warnings, created })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
    ) -> Result<Response<Incoming>, ClientError> {
        let pairs: Vec<String> =
            query.iter().map(|(k, v)| format!("{k}={}", utf8_percent_encode(v, IN_QUERY))).collect();
        let target = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("heddle/", env!("CARGO_PKG_VERSION")));
        let mut bytes = Bytes::new();
        if let Some((media, value)) = body {
            request = request.header(header::CONTENT_TYPE, media);
            bytes = value.to_string().into();
        }
        let request = request.body(Full::new(bytes)).map_err(|e| self.broken(&e))?;
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority));
        let unreachable = |why: String| ClientError::Unreachable { server: self.server.clone(), why };
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {CONNECT:?}"))),
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|e| self.broken(&e))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let collected = body.collect().await;
        collected
            .map(http_body_util::Collected::to_bytes)
            .map_err(|e| ClientError::Broken { server: self.server.clone(), why: e.to_string() })
    }

    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let code = response.status();
        let bytes = match self.read(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |name: &str| status.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
        ClientError::Refused(Box::new(Refusal { code, reason: text("reason").unwrap_or_default(), message }))
    }

    fn broken(&self, why: &dyn fmt::Display) -> ClientError {
        ClientError::Broken { server: self.server.clone(), why: why.to_string() }
    }
}

/// The events of a watch: `{"type": ..., "object": ...}` each.
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
    server: String,
}

impl Events {
    /// The next event; `None` when the server ended the watch. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Value, ClientError>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let event = serde_json::from_slice(&line);
                return Some(
                    event.map_err(|e| ClientError::NotJson {
                        server: self.server.clone(),
                        why: e.to_string(),
                    }),
                );
            }
            match self.body.frame().await? {
                Ok(frame) => self.buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Err(error) => {
                    return Some(Err(ClientError::Broken {
                        server: self.server.clone(),
                        why: error.to_string(),
                    }));
                }
            }
        }
    }
}

/// `/apis/networking.istio.io/v1/namespaces/NS/virtualservices`
pub fn collection_path(kind: &Kind, namespace: Option<&str>) -> String {
    collection_path_of(kind, kind.version, namespace)
}

fn collection_path_of(kind: &Kind, version: &str, namespace: Option<&str>) -> String {
    let root = if kind.group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{}/{version}", kind.group)
    };
    match namespace {
        Some(namespace) if kind.namespaced => format!("{root}/namespaces/{namespace}/{}", kind.plural),
        _ => format!("{root}/{}", kind.plural),
    }
}

pub fn object_path(kind: &Kind, namespace: &str, name: &str) -> String {
    format!("{}/{name}", collection_path(kind, Some(namespace)))
}

/// The text between the quotes of `299 - "..."`.
fn warning_text(header: &str) -> String {
    let quoted = header.split_once('"').map_or(header, |(_, rest)| rest.trim_end_matches('"'));
    quoted.replace("\\\"", "\"").replace("\\\\", "\\")
}
