//! Where a drill takes place: a mesh with a store on disk, a proxy that carries the load, and instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use heddle_tests::{
    client::Answer,
    mesh::{Mesh, binary},
};
use tokio::process::{Child, Command};

use crate::{
    instance::Instance,
    load::{Ask, Asked, Judge, Load, MANY},
    plane::{Kind, Plane},
};

/// The service that every drill has.
pub(crate) const SHOP: &str = "shop";
pub(crate) const CLUSTER: &str = "outbound|80||shop.default.svc.cluster.local";
/// Any instance may answer.
pub(crate) const ANY: Ask = Ask { host: SHOP, path: "/", headers: &[] };

/// What the instances are spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// With prior knowledge: many requests share a connection, and die with it.
    Http2,
}

impl Protocol {
    /// Name of the service's port, from which the protocol is read.
    fn port(self) -> &'static str {
        match self {
            Self::Http1 => "http",
            Self::Http2 => "http2",
        }
    }
}

fn service(protocol: Protocol) -> String {
    let port = protocol.port();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: shop}}
spec: {{selector: {{app: shop}}, ports: [{{name: {port}, port: 80}}]}}
"
    )
}

pub(crate) struct Ground {
    pub(crate) mesh: Mesh,
    pub(crate) plane: Plane,
    pub(crate) members: Arc<Members>,
    protocol: Protocol,
    started: usize,
}

impl Ground {
    /// With one instance of `shop` per version, all of them known to the proxy.
    pub(crate) async fn prepare(kind: Kind, versions: &[&str]) -> (Self, Vec<Instance>) {
        Self::with(kind, versions, Protocol::Http1).await
    }

    /// Without an instance.
    pub(crate) fn bare(kind: Kind, protocol: Protocol) -> Self {
        let mut mesh = Mesh::durable();
        // Workers have nothing in common but the configuration: what one learns, the other has to learn.
        mesh.workers = 2;
        mesh.apply(&service(protocol));
        let plane = Plane::start(kind, &mesh, "client");
        Self { mesh, plane, members: Arc::default(), protocol, started: 0 }
    }

    pub(crate) async fn with(kind: Kind, versions: &[&str], protocol: Protocol) -> (Self, Vec<Instance>) {
        let mut ground = Self::bare(kind, protocol);
        let mut instances = Vec::new();
        for version in versions {
            instances.push(ground.add(version, &[]).await);
        }
        ground.sends_to(&instances).await;
        ground.plane.carries(None).await;
        (ground, instances)
    }

    /// Starts an instance without telling anybody.
    pub(crate) async fn start(&mut self, version: &str) -> Instance {
        self.started += 1;
        let instance = Instance::start(SHOP, version, self.started).await;
        self.members.joins(&instance.name);
        instance
    }

    /// Starts an instance and registers it, with more flags for `heddle register`.
    pub(crate) async fn add(&mut self, version: &str, flags: &[&str]) -> Instance {
        let instance = self.start(version).await;
        let (address, labels) = (instance.address.to_string(), format!("app=shop,version={version}"));
        let mut args = vec!["register", "--service", SHOP, "--address", &address, "--labels", &labels];
        args.extend(flags);
        let (code, out, err) = self.mesh.heddle(&args);
        assert_eq!(code, 0, "register {}: {out}{err}", instance.name);
        instance
    }

    /// Starts an instance that the control plane checks often.
    pub(crate) async fn add_checked(&mut self, version: &str) -> Instance {
        let instance = self.start(version).await;
        let (name, address) = (&instance.name, instance.address);
        self.mesh.apply(&format!(
            "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {name}
  annotations:
    heddle.dev/health: http:/healthy
    heddle.dev/health-interval: 200ms
    heddle.dev/health-unhealthy-threshold: '2'
spec: {{address: {}, ports: {{{}: {}}}, labels: {{app: shop, version: {version}}}}}
",
            address.ip(),
            self.protocol.port(),
            address.port()
        ));
        instance
    }

    /// Registers an instance for as long as the process that is returned renews its lease.
    pub(crate) fn register_with_lease(&self, instance: &Instance, ttl: &str) -> Child {
        let (address, version) = (instance.address.to_string(), &instance.version);
        Command::new(binary())
            .args(["register", "--service", SHOP, "--address", &address, "--ttl", ttl])
            .args(["--labels", &format!("app=shop,version={version}")])
            .env("HEDDLE_SERVER", self.mesh.api())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("register {}: {e}", instance.name))
    }

    pub(crate) fn deregister(&self, instance: &Instance) {
        let address = instance.address.to_string();
        let (code, out, err) = self.mesh.heddle(&["deregister", "--service", SHOP, "--address", &address]);
        assert_eq!(code, 0, "deregister {}: {out}{err}", instance.name);
    }

    /// Waits until the proxy sends to exactly these instances; from then on no other may answer.
    pub(crate) async fn sends_to(&self, instances: impl IntoIterator<Item = &Instance>) {
        let instances: Vec<&Instance> = instances.into_iter().collect();
        let addresses: BTreeSet<SocketAddr> = instances.iter().map(|instance| instance.address).collect();
        self.plane.sends_to(CLUSTER, &addresses).await;
        self.members.are(instances.iter().map(|instance| instance.name.as_str()));
    }

    /// Load through the proxy.
    pub(crate) fn load(&self) -> Load {
        Load::start(self.plane.outbound, MANY, &[ANY], self.members.clone())
    }
}

/// Who may answer for the shop: everybody who joined, until nobody may send there any more.
#[derive(Default)]
pub(crate) struct Members {
    /// When the proxy stopped sending to an instance.
    left: Mutex<BTreeMap<String, Option<Instant>>>,
}

/// How long after its admin interface has stopped naming an endpoint a worker of Envoy may still pick it.
const HANDED_ON: Duration = Duration::from_millis(250);

impl Members {
    fn joins(&self, name: &str) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), None);
    }

    /// Nobody but these is sent anything from now on.
    fn are<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let names: BTreeSet<&str> = names.collect();
        let now = Instant::now();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, when) in left.iter_mut().filter(|(name, _)| !names.contains(name.as_str())) {
            when.get_or_insert(now);
        }
    }
}

impl Judge for Members {
    fn judge(&self, asked: &Asked<'_>, answer: &Answer) -> Result<(), String> {
        let name = answer.backend();
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.get(&name) {
            None => Err(format!("`{name}` is no instance of {SHOP}")),
            Some(Some(when)) if *when + HANDED_ON < asked.at => {
                Err(format!("{name} had left before the request was sent"))
            }
            Some(_) => Ok(()),
        }
    }
}
