//! The sample shop: small HTTP services that know nothing of the mesh. Each one only knows the names of
//! the services it calls and the address of "its" proxy, and writes down every request it served.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// One line of a service's own log.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) service: &'static str,
    pub(crate) instance: &'static str,
    pub(crate) version: &'static str,
    /// The `end-user` header, empty when the caller sent none.
    pub(crate) user: String,
    pub(crate) status: u16,
}

/// What the services wrote down: the truth that the demo's expectations are checked against.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Vec<Served>>);

impl Journal {
    fn write(&self, line: Served) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(line);
        }
    }

    /// Takes every line written since the last call.
    pub(crate) fn take(&self) -> Vec<Served> {
        self.0.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default()
    }

    /// How many lines there are per instance, without taking them.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        if let Ok(lines) = self.0.lock() {
            for line in lines.iter() {
                *counts.entry(line.instance).or_default() += 1;
            }
        }
        counts
    }
}

/// How an instance behaves, beside answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Prompt,
    /// Answers after this long.
    Slow(Duration),
    /// Answers 503 to every n-th request while the fault is switched on.
    Fails {
        every: u64,
    },
    /// Calls these services and answers with what they said.
    Calls(&'static [&'static str]),
}

/// An instance of a service: its name, version and nature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) nature: Nature,
}

/// The shop's instances. `price` has three versions, `stock` is slow, one `shipping` fails now and then.
pub(crate) const INSTANCES: &[Instance] = &[
    Instance {
        service: "storefront",
        name: "storefront",
        version: "v1",
        nature: Nature::Calls(&["catalog", "price", "stock", "shipping"]),
    },
    Instance { service: "catalog", name: "catalog", version: "v1", nature: Nature::Prompt },
    Instance { service: "price", name: "price-v1", version: "v1", nature: Nature::Prompt },
    Instance { service: "price", name: "price-v2", version: "v2", nature: Nature::Prompt },
    Instance { service: "price", name: "price-v3", version: "v3", nature: Nature::Prompt },
    Instance {
        service: "stock",
        name: "stock",
        version: "v1",
        nature: Nature::Slow(Duration::from_millis(15)),
    },
    Instance { service: "shipping", name: "shipping-a", version: "v1", nature: Nature::Prompt },
    Instance { service: "shipping", name: "shipping-b", version: "v1", nature: Nature::Fails { every: 3 } },
];

/// A running instance. Dropping it closes its port.
pub(crate) struct Running {
    pub(crate) instance: Instance,
    pub(crate) address: SocketAddr,
    failing: Arc<AtomicBool>,
    proxy: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells the instance where its outbound proxy listens, as `http_proxy` would.
    pub(crate) fn use_proxy(&self, proxy: SocketAddr) {
        self.proxy.send_replace(Some(proxy));
    }

    /// Switches the instance's fault on or off.
    pub(crate) fn fail(&self, on: bool) {
        self.failing.store(on, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    instance: Instance,
    journal: Arc<Journal>,
    failing: Arc<AtomicBool>,
    requests: AtomicU64,
    proxy: watch::Receiver<Option<SocketAddr>>,
}

/// Opens the instance on a free loopback port.
///
/// # Errors
/// When no port can be bound.
pub(crate) async fn open(instance: Instance, journal: Arc<Journal>) -> std::io::Result<Running> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let failing = Arc::new(AtomicBool::new(false));
    let (proxy, told) = watch::channel(None);
    let service = Arc::new(Service {
        instance,
        journal,
        failing: failing.clone(),
        requests: AtomicU64::new(0),
        proxy: told,
    });
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.answer(request).await) }
                });
                // A caller that goes away ends its connection; there is nobody to tell.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    Ok(Running { instance, address, failing, proxy, task })
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let user = request
            .headers()
            .get("end-user")
            .and_then(|v| v.to_str().ok())
            .map(ToOwned::to_owned)
            .unwrap_or_default();
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let (status, body) = match self.instance.nature {
            Nature::Prompt => (StatusCode::OK, self.greeting()),
            Nature::Slow(time) => {
                tokio::time::sleep(time).await;
                (StatusCode::OK, self.greeting())
            }
            Nature::Fails { every }
                if self.failing.load(Ordering::Relaxed) && count.is_multiple_of(every) =>
            {
                (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({"error": "out of boxes"}))
            }
            Nature::Fails { .. } => (StatusCode::OK, self.greeting()),
            Nature::Calls(services) => self.gather(services, &user).await,
        };
        self.journal.write(Served {
            service: self.instance.service,
            instance: self.instance.name,
            version: self.instance.version,
            user,
            status: status.as_u16(),
        });
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }

    fn greeting(&self) -> serde_json::Value {
        serde_json::json!({"service": self.instance.service, "version": self.instance.version})
    }

    /// Calls each service through the proxy. One that fails makes the whole answer a 502 that names it.
    async fn gather(&self, services: &[&str], user: &str) -> (StatusCode, serde_json::Value) {
        let Some(proxy) = *self.proxy.borrow() else {
            return (StatusCode::BAD_GATEWAY, serde_json::json!({"error": "no proxy yet"}));
        };
        let mut page = serde_json::Map::new();
        let mut status = StatusCode::OK;
        for service in services {
            let answer = call(proxy, service, "/", user).await;
            if !matches!(answer, Ok((200, _))) {
                status = StatusCode::BAD_GATEWAY;
            }
            let shown = match answer {
                Ok((status, body)) => serde_json::json!({"status": status, "body": body}),
                Err(error) => serde_json::json!({"error": error}),
            };
            page.insert((*service).to_owned(), shown);
        }
        (status, serde_json::Value::Object(page))
    }
}

/// One GET to `host` by way of `proxy`; `Err` says what broke.
pub(crate) async fn call(
    proxy: SocketAddr,
    host: &str,
    path: &str,
    user: &str,
) -> Result<(u16, String), String> {
    let deadline = Duration::from_secs(15);
    let exchange = async {
        let stream = TcpStream::connect(proxy).await.map_err(|e| format!("connect to {proxy}: {e}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("handshake with {proxy}: {e}"))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::get(path).header("host", host);
        if !user.is_empty() {
            request = request.header("end-user", user);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
        let response =
            sender.send_request(request).await.map_err(|e| format!("{host} through {proxy}: {e}"))?;
        let status = response.status().as_u16();
        let body =
            response.into_body().collect().await.map_err(|e| format!("body from {host}: {e}"))?.to_bytes();
        driver.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("{host} through {proxy}: no answer within {deadline:?}")))
}
