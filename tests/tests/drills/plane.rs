//! The data plane that carries the load: heddle's proxy or Envoy, each a process with an outbound address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use heddle_tests::{
    client::Connection,
    envoy::{Envoy, Join, free_address},
    eventually,
    mesh::{Mesh, Role},
    peer, say,
};
use serde_json::Value;

use crate::{
    ground::SHOP,
    load::{Load, Report},
};

/// Whose data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Heddle,
    /// By the delta variant of ADS.
    Envoy,
    /// By the state-of-the-world variant.
    EnvoySotw,
}

impl Kind {
    /// Whether it is on this machine.
    pub(crate) fn is_here(self) -> bool {
        self == Self::Heddle || peer::envoy().is_some()
    }
}

enum Process {
    Heddle(Role),
    Envoy(Envoy),
}

/// One proxy.
pub(crate) struct Plane {
    pub(crate) kind: Kind,
    pub(crate) outbound: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

impl Plane {
    pub(crate) fn start(kind: Kind, mesh: &Mesh, name: &str) -> Self {
        let envoy = if kind == Kind::Heddle { None } else { peer::envoy() };
        match envoy {
            Some(binary) => {
                let outbound = free_address([127, 0, 0, 1]);
                let join = Join {
                    api: if kind == Kind::EnvoySotw { "GRPC" } else { "DELTA_GRPC" },
                    xds: mesh.control.address("xds"),
                    role: "sidecar",
                    metadata: &format!("OUTBOUND: \"{outbound}\", INTERCEPTION_MODE: NONE"),
                    args: &["--drain-time-s", "2", "--drain-strategy", "immediate"],
                };
                let envoy = Envoy::start(name, &binary, &join, mesh.scratch.path());
                Self { kind, outbound, admin: envoy.admin, process: Process::Envoy(envoy) }
            }
            None => {
                let role = mesh.client(name, "default", &BTreeMap::from([("app", "client")]));
                Self {
                    kind,
                    outbound: role.outbound(),
                    admin: role.address("admin"),
                    process: Process::Heddle(role),
                }
            }
        }
    }

    /// Waits until it answers for the shop, with a header if one is given.
    pub(crate) async fn carries(&self, header: Option<(&str, &str)>) {
        eventually(&format!("{SHOP} through {:?}, with {header:?}", self.kind), || async {
            let mut connection = Connection::open(self.outbound).await?;
            let answer = connection.send("GET", SHOP, "/", &[], b"").await?;
            let complete = header
                .is_none_or(|(name, value)| answer.headers.get(name).is_some_and(|found| found == value));
            if answer.status == 200 && complete { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Ends the load that went here and says what came of it.
    pub(crate) async fn conclude(&self, drill: &str, load: Load) -> Conclusion {
        let report = load.finish().await;
        let disorder = match &self.process {
            Process::Heddle(_) => None,
            Process::Envoy(_) => Some(self.disorder().await),
        };
        let shown = disorder.as_ref().map(|disorder| format!("; {disorder:?}")).unwrap_or_default();
        say(&format!("{drill}, {:?}: {report}{shown}", self.kind));
        Conclusion { report, disorder, log: self.log() }
    }

    /// Tells the proxy to drain: by SIGTERM, after which heddle's proxy ends when nothing is open; Envoy, which SIGTERM
    /// ends at once, by its admin interface.
    pub(crate) async fn drain(&self) {
        match &self.process {
            Process::Heddle(role) => role.terminate(),
            Process::Envoy(_) => self.drain_listeners().await,
        }
    }

    /// Tells the proxy by its admin interface to ask its clients to go.
    pub(crate) async fn drain_listeners(&self) {
        let answer = self.admin("POST", "/drain_listeners?graceful&skip_exit").await;
        answer.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Waits until heddle's proxy has ended, well.
    pub(crate) async fn ends(&mut self) {
        if let Process::Heddle(role) = &mut self.process {
            let status = role.ended(Duration::from_secs(30)).await;
            assert!(status.success(), "the drained proxy ended with {status}: {}", role.log());
        }
    }

    async fn admin(&self, method: &str, path: &str) -> Result<Value, String> {
        let mut connection = Connection::open(self.admin).await?;
        let answer = connection.send(method, "localhost", path, &[], b"").await?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(format!("{path}: {answer:?}")) }
    }

    /// The addresses to which it sends requests of a cluster; empty when it does not know the cluster.
    async fn endpoints(&self, cluster: &str) -> Result<BTreeSet<SocketAddr>, String> {
        let page = self.admin("GET", "/clusters?format=json").await?;
        let clusters = page["cluster_statuses"].as_array().cloned().unwrap_or_default();
        let cluster = clusters.into_iter().find(|c| c["name"] == cluster).unwrap_or_default();
        let hosts = cluster["host_statuses"].as_array().cloned().unwrap_or_default();
        Ok(hosts.iter().filter(|host| healthy(host)).filter_map(address).collect())
    }

    /// Waits until requests of `cluster` go to exactly these.
    pub(crate) async fn sends_to(&self, cluster: &str, expected: &BTreeSet<SocketAddr>) {
        eventually(&format!("{cluster} goes to {expected:?}"), || async {
            let known = self.endpoints(cluster).await?;
            if known == *expected { Ok(()) } else { Err(format!("it goes to {known:?}")) }
        })
        .await;
    }

    /// Envoy's counters of requests for which its configuration had no route, no cluster, or no endpoint (NR, NC, UH).
    async fn disorder(&self) -> Disorder {
        let filter = "/stats?format=json&usedonly&filter=no_route$|no_cluster$|cx_none_healthy$";
        let page = self.admin("GET", filter).await.unwrap_or_else(|e| panic!("{e}"));
        let stats = page["stats"].as_array().cloned().unwrap_or_default();
        let sum = |end: &str| {
            let named = |stat: &&Value| stat["name"].as_str().is_some_and(|name| name.ends_with(end));
            stats.iter().filter(named).filter_map(|stat| stat["value"].as_u64()).sum()
        };
        Disorder {
            no_route: sum("no_route"),
            no_cluster: sum("no_cluster"),
            no_endpoint: sum("cx_none_healthy"),
        }
    }

    /// What it logged.
    fn log(&self) -> String {
        match &self.process {
            Process::Heddle(role) => role.log(),
            Process::Envoy(envoy) => envoy.log(),
        }
    }
}

/// What came of a drill.
pub(crate) struct Conclusion {
    report: Report,
    disorder: Option<Disorder>,
    log: String,
}

impl Conclusion {
    /// With heddle's proxy no GET has failed; with Envoy none for want of a route or a cluster. No answer was wrong with
    /// either.
    pub(crate) fn holds(&self) {
        let Self { report, disorder, log } = self;
        report.nothing_wrong();
        match disorder {
            None => report.no_get_failed(),
            Some(disorder) => {
                let ordered = (disorder.no_route, disorder.no_cluster) == (0, 0);
                let examples = report.gets.examples();
                assert!(ordered, "NR or NC: {disorder:?}: {report}\n{examples}\n{log}");
            }
        }
    }

    /// Nothing was killed, so no POST has failed either.
    pub(crate) fn no_post_failed(&self) {
        self.report.no_post_failed();
    }
}

/// Requests that failed since configuration came in the wrong order.
#[derive(Debug)]
struct Disorder {
    no_route: u64,
    no_cluster: u64,
    #[expect(dead_code, reason = "shown")]
    no_endpoint: u64,
}

/// Whether requests go to a host: both name the endpoints that configuration calls bad, too.
fn healthy(host: &Value) -> bool {
    let status = &host["health_status"]["eds_health_status"];
    status.as_str().is_none_or(|status| matches!(status, "HEALTHY" | "DEGRADED" | "UNKNOWN"))
}

fn address(host: &Value) -> Option<SocketAddr> {
    let socket = &host["address"]["socket_address"];
    format!("{}:{}", socket["address"].as_str()?, socket["port_value"]).parse().ok()
}
