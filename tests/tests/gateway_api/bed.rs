//! What the cases run on: a store, a control plane, a proxy per Gateway, and stand-ins for Deployments.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use heddle_control::{Control, ControlConfig};
use heddle_proxy::{ProxyConfig, Role};
use heddle_resource::{Admission, AdmitOptions, Key, Kind, Object, admit_json, kind, parse_documents};
use heddle_store::{MemoryStore, Precondition, Store};
use heddle_tests::peer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use super::{
    backend::{self, Log, Pod, Speaks},
    certificates,
    client::Outcome,
    envoy,
};

const CLASS: &str = "heddle";

/// Who carries the traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DataPlane {
    Heddle,
    Envoy,
}

/// A Deployment that is stood in for.
struct Deployment {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    pods: Vec<(String, Ipv4Addr)>,
    _tasks: JoinSet<()>,
}

struct Proxy {
    address: Ipv4Addr,
    _running: Running,
}

/// A data plane; ends when dropped.
enum Running {
    /// Ours, in this process.
    Inside {
        _until: oneshot::Sender<()>,
    },
    Process(Child),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) struct Bed {
    store: Arc<dyn Store>,
    /// Ends with the bed.
    _control: Control,
    xds: SocketAddr,
    data_plane: DataPlane,
    scratch: TempDir,
    deployments: Mutex<Vec<Deployment>>,
    proxies: Mutex<HashMap<(String, String), Proxy>>,
    /// Sidecars by client, for mesh cases: where they take requests.
    clients: Mutex<HashMap<String, (SocketAddr, Proxy)>>,
    next: AtomicU32,
    /// What came to the pods.
    pub(crate) log: Log,
    _tasks: JoinSet<()>,
}

impl Bed {
    pub(crate) async fn start(data_plane: DataPlane) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let control =
            Control::start(ControlConfig { stores: vec![store.clone()], ..ControlConfig::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let xds = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        let source = Arc::new(control.clone());
        tasks.spawn(async move {
            heddle_xds::serve(listener, source, std::future::pending()).await.expect("serving xDS");
        });
        Self {
            store,
            _control: control,
            xds,
            data_plane,
            scratch: tempfile::tempdir().expect("a folder"),
            deployments: Mutex::default(),
            proxies: Mutex::default(),
            clients: Mutex::default(),
            // Two beds of one process have addresses apart.
            next: AtomicU32::new(if data_plane == DataPlane::Heddle { 1 } else { 10_000 }),
            log: Log::default(),
            _tasks: tasks,
        }
    }

    /// The stored object as the API would serve it.
    pub(crate) async fn get(&self, kind: &str, namespace: &str, name: &str) -> Outcome<Value> {
        let kind = find(kind).ok_or_else(|| format!("no kind {kind}"))?;
        let found = self.store.get(&Key::new(kind, namespace, name)).await.map_err(|e| e.to_string())?;
        found
            .map(|object| (*object.json).clone())
            .ok_or_else(|| format!("no {} {namespace}/{name}", kind.kind))
    }

    /// Applies a manifest. Returns what was created, and the kinds that are none of ours.
    pub(crate) async fn apply(&self, yaml: &str) -> Outcome<(Vec<Key>, HashSet<String>)> {
        let (mut created, mut foreign) = (Vec::new(), HashSet::new());
        for document in parse_documents(&yaml.replace("{GATEWAY_CLASS_NAME}", CLASS), "manifest") {
            let value = document.map_err(|e| e.to_string())?.value;
            if value["kind"] == "Deployment" {
                self.deploy(&value).await?;
                continue;
            }
            match self.write(value.clone()).await? {
                Some(key) => created.push(key),
                None => {
                    foreign.insert(value["kind"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        self.endpoints().await?;
        for key in created.iter().filter(|key| *key.kind == kind::GATEWAY) {
            self.serve(key).await?;
        }
        Ok((created, foreign))
    }

    /// Creates or replaces an object, with the metadata that an API server would give it.
    pub(crate) async fn write(&self, value: Value) -> Outcome<Option<Key>> {
        let options = AdmitOptions::default();
        let mut object = match admit_json(value, &options) {
            Admission::Admitted { object, .. } => object,
            Admission::NotOurs(_) => return Ok(None),
            Admission::Refused(errors) => {
                return Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            }
        };
        let key = object.key();
        let old = self.store.get(&key).await.map_err(|e| e.to_string())?;
        let mut json = (*object.json).clone();
        let generation = match &old {
            None => 1,
            Some(old) => old.meta.generation + i64::from(old.json["spec"] != json["spec"]),
        };
        // One second apart, so that age decides where the suite wants it to.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let created = match &old {
            None => format!("2026-01-01T{:02}:{:02}:{:02}Z", number / 3600, number / 60 % 60, number % 60),
            Some(old) => old.meta.creation_timestamp.clone(),
        };
        json["metadata"]["generation"] = generation.into();
        json["metadata"]["creationTimestamp"] = created.clone().into();
        json["metadata"]["uid"] = format!("uid-{number}").into();
        if let Some(status) = old.as_ref().and_then(|old| old.json.get("status")) {
            json["status"] = status.clone();
        }
        object.meta.generation = generation;
        object.meta.creation_timestamp = created;
        object.meta.uid = format!("uid-{number}");
        object.json = Arc::new(json);
        self.store.put(object, Precondition::Any).await.map_err(|e| format!("{key}: {e}"))?;
        Ok(Some(key))
    }

    pub(crate) async fn delete(&self, key: &Key) {
        self.proxies.lock().unwrap().remove(&(key.namespace.to_string(), key.name.to_string()));
        let _ = self.store.delete(key, Precondition::Any).await;
    }

    pub(crate) fn key(kind: &str, namespace: &str, name: &str) -> Key {
        Key::new(find(kind).expect("a kind"), namespace, name)
    }

    /// Where the proxy of a Gateway listens.
    pub(crate) fn address(&self, namespace: &str, name: &str) -> Option<Ipv4Addr> {
        let proxies = self.proxies.lock().unwrap();
        proxies.get(&(namespace.to_owned(), name.to_owned())).map(|proxy| proxy.address)
    }

    /// Where a sidecar of that client takes requests (mesh cases); started on first use.
    pub(crate) async fn client(&self, workload: &str, namespace: &str) -> Outcome<SocketAddr> {
        if let Some((address, _)) = self.clients.lock().unwrap().get(workload) {
            return Ok(*address);
        }
        let address = SocketAddr::from((self.fresh_address(2), 15001));
        let running = match self.data_plane {
            DataPlane::Heddle => {
                let config = ProxyConfig {
                    name: workload.to_owned(),
                    namespace: namespace.to_owned(),
                    outbound: vec![(None, address)],
                    ..ProxyConfig::default()
                };
                self.heddle(config).await
            }
            DataPlane::Envoy => {
                let id =
                    format!("sidecar~{}~{workload}.{namespace}~{namespace}.svc.cluster.local", address.ip());
                self.envoy(workload, &id, &json!({"OUTBOUND": address.to_string(), "NAMESPACE": namespace}))
            }
        };
        let running = running.map_err(|e| format!("starting the sidecar of {workload}: {e}"))?;
        let proxy = Proxy { address: Ipv4Addr::LOCALHOST, _running: running };
        self.clients.lock().unwrap().insert(workload.to_owned(), (address, proxy));
        Ok(address)
    }

    /// A local address of its own for everything that is started.
    /// Of other networks than those of another run on this machine, most likely.
    fn fresh_address(&self, net: u8) -> Ipv4Addr {
        let net = 32 + u8::try_from(std::process::id() % 70).unwrap() * 3 + net;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::new(127, net, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap())
    }

    async fn deploy(&self, value: &Value) -> Outcome<()> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let known = |d: &Deployment| d.name == name && d.namespace == namespace;
        if self.deployments.lock().unwrap().iter().any(known) {
            return Ok(());
        }
        let template = &value["spec"]["template"];
        let labels = serde_json::from_value(template["metadata"]["labels"].clone()).unwrap_or_default();
        let ports = backend::ports(&template["spec"]["containers"][0]);
        let secured = ports.iter().any(|(_, speaks)| *speaks == Speaks::Https);
        let tls = if secured {
            certificates::server(self, &namespace, &template["spec"]["volumes"]).await?
        } else {
            None
        };
        let mut tasks = JoinSet::new();
        let mut pods = Vec::new();
        for replica in 0..value["spec"]["replicas"].as_u64().unwrap_or(1) {
            let (ip, pod) = (self.fresh_address(0), format!("{name}-{replica}"));
            let own = Pod { name: pod.clone(), namespace: namespace.clone(), service: name.clone() };
            backend::serve(&mut tasks, own, self.log.clone(), ip, &ports, tls.clone())
                .await
                .map_err(|e| format!("{pod} at {ip}: {e}"))?;
            pods.push((pod, ip));
        }
        let deployment = Deployment { namespace, name, labels, pods, _tasks: tasks };
        self.deployments.lock().unwrap().push(deployment);
        Ok(())
    }

    /// Writes the EndpointSlices of every Service that selects a Deployment.
    async fn endpoints(&self) -> Outcome<()> {
        let (services, _) = self.store.list(&kind::SERVICE, None).await.map_err(|e| e.to_string())?;
        for service in services {
            if let Some(slice) = self.slice(&service) {
                self.write(slice).await?;
            }
        }
        Ok(())
    }

    fn slice(&self, service: &Object) -> Option<Value> {
        let spec = &service.json["spec"];
        let selector: BTreeMap<String, String> = serde_json::from_value(spec["selector"].clone()).ok()?;
        let deployments = self.deployments.lock().unwrap();
        let selected = deployments.iter().filter(|d| {
            d.namespace == *service.meta.namespace && selector.iter().all(|(k, v)| d.labels.get(k) == Some(v))
        });
        let pods: Vec<_> = selected.flat_map(|d| &d.pods).collect();
        if selector.is_empty() || pods.is_empty() {
            return None;
        }
        let ports = spec["ports"].as_array()?.iter().map(|port| {
            let number = port["targetPort"].as_u64().or_else(|| port["port"].as_u64());
            json!({"name": port["name"].as_str().unwrap_or_default(), "port": number, "protocol": "TCP"})
        });
        let endpoints = pods.iter().map(|(name, ip)| {
            json!({"addresses": [ip.to_string()], "conditions": {"ready": true},
                   "targetRef": {"kind": "Pod", "name": name, "namespace": service.meta.namespace}})
        });
        Some(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": format!("{}-1", service.meta.name), "namespace": service.meta.namespace,
                         "labels": {"kubernetes.io/service-name": service.meta.name}},
            "addressType": "IPv4",
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": endpoints.collect::<Vec<_>>(),
        }))
    }

    /// Starts a proxy for a Gateway that has something that can be served.
    async fn serve(&self, key: &Key) -> Outcome<()> {
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        let gateway = self.get("Gateway", &namespace, &name).await?;
        let listeners = gateway["spec"]["listeners"].as_array().cloned().unwrap_or_default();
        let plain = |listener: &Value| {
            matches!(listener["protocol"].as_str(), Some("HTTP" | "TCP" | "HTTPS" | "TLS"))
        };
        let id = (namespace.clone(), name.clone());
        if !listeners.iter().any(plain) || self.proxies.lock().unwrap().contains_key(&id) {
            return Ok(());
        }
        let address = self.fresh_address(1);
        let (reference, bind) = (format!("k8s:{namespace}/{name}"), address.to_string());
        let running = match self.data_plane {
            DataPlane::Heddle => {
                let config = ProxyConfig {
                    role: Role::Gateway,
                    name: name.clone(),
                    namespace: namespace.clone(),
                    gateway: Some(reference),
                    bind: Some(address.into()),
                    ..ProxyConfig::default()
                };
                self.heddle(config).await
            }
            DataPlane::Envoy => {
                let node = format!("router~{address}~{name}.{namespace}~{namespace}.svc.cluster.local");
                let metadata = json!({"GATEWAY": reference, "BIND": bind, "NAMESPACE": namespace});
                self.envoy(&name, &node, &metadata)
            }
        };
        let running = running.map_err(|e| format!("starting the proxy of {namespace}/{name}: {e}"))?;
        self.proxies.lock().unwrap().insert(id, Proxy { address, _running: running });
        Ok(())
    }

    fn log(&self, name: &str) -> std::io::Result<Stdio> {
        Ok(std::fs::File::create(self.scratch.path().join(format!("{name}.log")))?.into())
    }

    async fn heddle(&self, config: ProxyConfig) -> std::io::Result<Running> {
        let config = ProxyConfig { xds: format!("http://{}", self.xds), workers: Some(1), ..config };
        let (until, ended) = oneshot::channel::<()>();
        let (started, up) = oneshot::channel();
        let (tell, told) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            drop(ended.await);
            let _ = tell.send(()).await;
        });
        tokio::spawn(async move {
            let on_bound = |_: &heddle_proxy::Bound| {
                let _ = started.send(());
            };
            if let Err(error) = heddle_proxy::run(config, on_bound, told).await {
                heddle_tests::say(&format!("a proxy ended: {error}"));
            }
        });
        up.await.map_err(|_| std::io::Error::other("it did not start"))?;
        Ok(Running::Inside { _until: until })
    }

    fn envoy(&self, name: &str, id: &str, metadata: &Value) -> std::io::Result<Running> {
        let binary = peer::envoy().ok_or_else(|| std::io::Error::other("no Envoy"))?;
        let bootstrap = envoy::bootstrap(self.xds, name, id, metadata);
        let path = self.scratch.path().join(format!("{name}.json"));
        std::fs::write(&path, bootstrap.to_string())?;
        // Envoy dies with its starter's session otherwise.
        Command::new("setsid")
            .arg(binary)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "-c"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log(name)?)
            .spawn()
            .map(Running::Process)
    }

    /// The end of each proxy's log, for a failure's reader.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.scratch.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<_> =
                    log.lines().filter(|line| !line.contains("[warning]")).rev().take(5).collect();
                for line in lines.into_iter().rev() {
                    text.push_str(&format!("{}: {line}\n", entry.file_name().display()));
                }
            }
        }
        text
    }
}

fn find(kind: &str) -> Option<&'static Kind> {
    ["", "gateway.networking.k8s.io", "discovery.k8s.io"].iter().find_map(|group| Kind::find(group, kind))
}
