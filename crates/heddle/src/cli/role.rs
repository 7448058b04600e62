//! Arguments of what runs: a mesh, a control plane, a proxy, a program with a sidecar.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::Server;

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Run through the script once, check every step against the services' own logs, and exit 0 or 1.
    #[arg(long)]
    pub(crate) once: bool,
    /// How many requests each step of the script sends.
    #[arg(long, default_value_t = 600, value_name = "N")]
    pub(crate) requests: u32,
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Files or directories of resources, applied and watched.
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) control: ControlArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ControlArgs {
    /// Files or directories of resources, watched; read-only through the API. Repeatable.
    #[arg(long, env = "HEDDLE_CONFIG", value_name = "PATH", value_delimiter = ',')]
    pub(crate) config: Vec<PathBuf>,
    /// Where the state is kept [default: /var/lib/heddle for root, else $XDG_STATE_HOME/heddle].
    #[arg(long, env = "HEDDLE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The store: redb or memory.
    #[arg(long, env = "HEDDLE_STORE", default_value = "redb", value_name = "STORE")]
    pub(crate) store: String,
    /// Address of the xDS server.
    #[arg(long, env = "HEDDLE_XDS_LISTEN", default_value = "127.0.0.1:15010", value_name = "ADDR")]
    pub(crate) xds: SocketAddr,
    /// Address of the API, metrics and debug views.
    #[arg(long, env = "HEDDLE_API_LISTEN", default_value = "127.0.0.1:15014", value_name = "ADDR")]
    pub(crate) api: SocketAddr,
    /// Address at which names are answered for askers outside the mesh; off unless given.
    #[arg(long, env = "HEDDLE_DNS_LISTEN", value_name = "ADDR")]
    pub(crate) dns: Option<SocketAddr>,
    /// The GatewayClasses whose Gateways are ours.
    #[arg(long, default_value = "heddle,istio", value_delimiter = ',', value_name = "NAMES")]
    pub(crate) gateway_classes: Vec<String>,
    /// The domain of service names.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: String,
    /// The trust domain of SPIFFE ids.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) trust_domain: String,
    /// Host names, beside loopback, under which the API may be addressed.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) allowed_hosts: Vec<String>,
    /// Allow xDS and the API to listen off loopback without TLS.
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) access_log: AccessLogArgs,
}

/// Istio's `accessLogFile`, `accessLogFormat` and `accessLogEncoding`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AccessLogArgs {
    /// Where every proxy of the mesh writes a line for each request: a file, or /dev/stdout; off unless given.
    #[arg(long = "access-log-file", env = "HEDDLE_ACCESS_LOG_FILE", value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// The line, with Envoy's command operators; a JSON object with --access-log-encoding json [default: Istio's].
    #[arg(
        long = "access-log-format",
        env = "HEDDLE_ACCESS_LOG_FORMAT",
        value_name = "FORMAT",
        requires = "file"
    )]
    pub(crate) format: Option<String>,
    /// How lines are encoded.
    #[arg(long = "access-log-encoding", env = "HEDDLE_ACCESS_LOG_ENCODING", default_value = "text")]
    pub(crate) encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Sidecar,
    Node,
    Gateway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interception {
    /// They do not.
    None,
    /// By address translation (REDIRECT); `--inbound` is then 0.0.0.0:15006 and [::]:15006 unless given.
    Redirect,
    /// As they are (TPROXY): the client keeps its address. Takes CAP_NET_ADMIN.
    Tproxy,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    /// The control plane's xDS server.
    #[arg(long, env = "HEDDLE_XDS", default_value = "http://127.0.0.1:15010", value_name = "URL")]
    pub(crate) xds: String,
    /// What this proxy stands for.
    #[arg(long, env = "HEDDLE_ROLE", default_value = "sidecar")]
    pub(crate) role: Role,
    /// Namespace of the workload.
    #[arg(long, env = "HEDDLE_NAMESPACE", default_value = "default", value_name = "NS")]
    pub(crate) namespace: String,
    /// Service account of the workload.
    #[arg(long, env = "HEDDLE_SERVICE_ACCOUNT", default_value = "default", value_name = "NAME")]
    pub(crate) service_account: String,
    /// Labels of the workload: app=reviews,version=v2
    #[arg(long, env = "HEDDLE_LABELS", value_delimiter = ',', value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// Name of the workload; with the namespace it finds the workload's WorkloadEntry.
    #[arg(long, env = "HEDDLE_WORKLOAD", value_name = "NAME")]
    pub(crate) workload: Option<String>,
    /// Takes redirected connections and, undirected, plain HTTP by its Host, absolute-form requests and CONNECT.
    /// For a node proxy `NS[/K=V;K=V]=ADDR` gives one namespace's workloads an address of their own; repeatable.
    #[arg(long, env = "HEDDLE_OUTBOUND", value_name = "[NS=]ADDR", value_delimiter = ',')]
    pub(crate) outbound: Vec<String>,
    /// Takes connections for the workload: [APPPORT=]ADDR, repeatable; a bare ADDR stands for the only port.
    #[arg(long, env = "HEDDLE_INBOUND", value_name = "[APPPORT=]ADDR", value_delimiter = ',')]
    pub(crate) inbound: Vec<String>,
    /// How connections come to this proxy that were not dialled to it, where rules of the kernel see to that: see
    /// docs/capture.md for such rules.
    #[arg(long, env = "HEDDLE_INTERCEPTION", default_value = "none", value_name = "MODE")]
    pub(crate) interception: Interception,
    /// The address at which others reach this workload.
    #[arg(long, env = "HEDDLE_ADVERTISE", value_name = "IP")]
    pub(crate) advertise: Option<IpAddr>,
    /// Where the mesh's names are answered.
    #[arg(long, env = "HEDDLE_DNS", default_value = "127.0.0.1:15053", value_name = "ADDR")]
    pub(crate) dns: SocketAddr,
    /// Serve this Gateway: [istio:|k8s:]NAMESPACE/NAME.
    #[arg(long, env = "HEDDLE_GATEWAY", value_name = "GATEWAY")]
    pub(crate) gateway: Option<String>,
    /// The address at which a gateway's ports are opened.
    #[arg(long, env = "HEDDLE_BIND", value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// The whole node id, instead of one made of role, address, name and namespace.
    #[arg(long, env = "HEDDLE_NODE_ID", value_name = "ID")]
    pub(crate) node_id: Option<String>,
    /// Address of the admin interface.
    #[arg(long, env = "HEDDLE_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Worker threads [default: the CPUs that affinity and cgroup quota allow, at most 2 for a sidecar].
    #[arg(long, env = "HEDDLE_WORKERS", value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Connections of clients at a time [default: the open files that the process may have, less 64 and less half of the
    /// rest, at most 4096, for endpoints].
    #[arg(long, env = "HEDDLE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// MiB of memory to stay below [default: the limit of the process's cgroup].
    #[arg(long, env = "HEDDLE_MAX_MEMORY", value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    pub(crate) max_memory: Option<u32>,
    /// Where the last good configuration is kept [default: as for `heddle control`, under proxy/].
    #[arg(long, env = "HEDDLE_PROXY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Allow admin and the explicit outbound proxy to listen off loopback.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Take over from the proxy that runs with the same --data-dir, if there is one: its sockets and its configuration.
    /// It serves what it has open, and ends. SIGUSR2 starts such a successor.
    #[arg(long)]
    pub(crate) replace: bool,
    /// How long what is open may go on after SIGTERM: 45s, or unlimited. A second SIGTERM ends it at once.
    #[arg(long, env = "HEDDLE_DRAIN_TIME", default_value = "45s", value_name = "TIME", value_parser = limit)]
    pub(crate) drain_time: Limit,
    /// How long what is open may go on after another process has taken over: 15m, or unlimited.
    #[arg(long, env = "HEDDLE_REPLACED_DRAIN_TIME", default_value = "unlimited", value_name = "TIME", value_parser = limit)]
    pub(crate) replaced_drain_time: Limit,
}

/// A time that may be unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" => Ok(Limit(None)),
        text => super::duration(text).map(|time| Limit(Some(time))).map_err(|e| format!("{e}, or unlimited")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Capture {
    /// Redirect where this machine allows it, else explicit. Says which, and why.
    Auto,
    /// CMD in a network namespace of its own: every TCP connection and every question for a name goes through the
    /// sidecar, and CMD needs no change. By root, or by anybody where the kernel allows user namespaces; needs nft.
    Redirect,
    /// `http_proxy` and its kin in CMD's environment.
    Explicit,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The service that CMD is an instance of.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: String,
    /// Where CMD listens.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: u16,
    /// The instance's `version` label.
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    /// How CMD's connections reach the sidecar.
    #[arg(long, default_value = "auto")]
    pub(crate) capture: Capture,
    /// More labels of the instance.
    #[arg(long, value_delimiter = ',', value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// How the control plane checks the instance: http:/PATH, tcp or grpc.
    #[arg(long, default_value = "tcp", value_name = "CHECK")]
    pub(crate) health: String,
    /// The address at which the instance is reachable from other machines.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) advertise: IpAddr,
    /// The protocol of the service port, for a service that does not exist yet.
    #[arg(long, default_value = "", value_name = "PROTOCOL")]
    pub(crate) protocol: String,
    /// The service's own port, for a service that does not exist yet [default: PORT].
    #[arg(long, value_name = "PORT")]
    pub(crate) service_port: Option<u16>,
    /// The control plane's xDS server [default: the running mesh of this user, or http://127.0.0.1:15010].
    #[arg(long, env = "HEDDLE_XDS", value_name = "URL")]
    pub(crate) xds: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct HoldArgs {
    /// What is put over /etc/resolv.conf.
    #[arg(long)]
    pub(crate) resolv_conf: PathBuf,
    /// Capture IPv6, too.
    #[arg(long)]
    pub(crate) ipv6: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EnterArgs {
    /// What is put over /etc/resolv.conf.
    #[arg(long)]
    pub(crate) resolv_conf: PathBuf,
    /// Process whose namespaces to enter.
    #[arg(long)]
    pub(crate) holder: u32,
    /// There is a user namespace to enter, too.
    #[arg(long)]
    pub(crate) user: bool,
    /// The process without which CMD is not to run.
    #[arg(long)]
    pub(crate) parent: u32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}
