//! Names of STRICT_DNS and LOGICAL_DNS clusters, looked up again and again beside the request path.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::snapshot::{BuildNameHasher, DnsCluster, DnsFamily, EndpointSet, Name};

/// The pause after a look-up that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The look-ups under way.
#[derive(Debug)]
pub(crate) struct Resolver {
    tasks: HashMap<Name, (Arc<DnsCluster>, JoinHandle<()>), BuildNameHasher>,
    sender: mpsc::Sender<(Name, EndpointSet)>,
    receiver: mpsc::Receiver<(Name, EndpointSet)>,
}

impl Default for Resolver {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(64);
        Self { tasks: HashMap::default(), sender, receiver }
    }
}

impl Resolver {
    /// Looks up these clusters' names, and no others.
    pub(crate) fn follow(&mut self, clusters: &[(Name, Arc<DnsCluster>)]) {
        self.tasks.retain(|name, (cluster, task)| {
            let keep = clusters.iter().any(|(other, wanted)| other == name && *wanted == *cluster);
            if !keep {
                task.abort();
            }
            keep
        });
        for (name, cluster) in clusters {
            if !self.tasks.contains_key(name) {
                let task = tokio::spawn(refresh(name.clone(), cluster.clone(), self.sender.clone()));
                self.tasks.insert(name.clone(), (cluster.clone(), task));
            }
        }
    }

    /// The next answer. Pends for ever when nothing is looked up.
    pub(crate) async fn next(&mut self) -> Option<(Name, EndpointSet)> {
        self.receiver.recv().await
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        for (_, task) in self.tasks.values() {
            task.abort();
        }
    }
}

async fn refresh(name: Name, cluster: Arc<DnsCluster>, sender: mpsc::Sender<(Name, EndpointSet)>) {
    let mut last: Option<Vec<Vec<IpAddr>>> = None;
    loop {
        let mut found = Vec::with_capacity(cluster.hosts.len());
        let mut failed = false;
        for host in &cluster.hosts {
            match look_up(&host.name, host.port, cluster.family, cluster.logical).await {
                Ok(addresses) => found.push(addresses),
                Err(error) => {
                    tracing::debug!(cluster = %name, host = %host.name, %error, "name not found");
                    failed = true;
                    found.push(Vec::new());
                }
            }
        }
        // What was found before is better than nothing (Envoy keeps it too).
        let keep = failed && last.is_some();
        if !keep && last.as_ref() != Some(&found) {
            let set = cluster.endpoints(|host| {
                let at = cluster.hosts.iter().position(|known| *known.name == *host);
                at.and_then(|at| found.get(at).cloned()).unwrap_or_default()
            });
            last = Some(found);
            if sender.send((name.clone(), set)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(if failed { AGAIN } else { cluster.refresh.max(AGAIN) }).await;
    }
}

async fn look_up(host: &str, port: u16, family: DnsFamily, logical: bool) -> std::io::Result<Vec<IpAddr>> {
    let found: Vec<IpAddr> =
        tokio::net::lookup_host((host, port)).await?.map(|address| address.ip()).collect();
    let of = |v4: bool| found.iter().copied().filter(|address| address.is_ipv4() == v4).collect::<Vec<_>>();
    let (v4, v6) = (of(true), of(false));
    let mut chosen = match family {
        DnsFamily::V4 => v4,
        DnsFamily::V6 => v6,
        DnsFamily::Auto if !v6.is_empty() => v6,
        DnsFamily::Auto => v4,
        DnsFamily::V4Preferred if !v4.is_empty() => v4,
        DnsFamily::V4Preferred => v6,
        DnsFamily::All => [v4, v6].concat(),
    };
    if logical {
        chosen.truncate(1);
    } else {
        chosen.sort_unstable();
        chosen.dedup();
    }
    Ok(chosen)
}
