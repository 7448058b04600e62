//! Every command and flag, defined once: the parser, `--help`, the completions and docs/commands.md follow from here.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A service mesh in one binary: control plane, proxy, DNS, API and command line.
#[derive(Parser, Debug)]
#[command(name = "heddle", version, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter such as `heddle_proxy=debug`.
    #[arg(long, global = true, env = "HEDDLE_LOG", default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a whole mesh with sample services and live traffic on this machine; no root, no configuration.
    #[command(
        after_help = "Example:\n  heddle demo          watch the traffic move until you press Ctrl-C\n  heddle demo --once   run the script, check every step, exit 0 or 1"
    )]
    Demo(DemoArgs),
    /// Run a mesh on one machine: control plane with embedded store, API and the YAML in PATH, watched.
    #[command(after_help = "Example:\n  heddle up ./mesh.yaml")]
    Up(UpArgs),
    /// Run a control plane.
    #[command(after_help = "Example:\n  heddle control --config ./resources --data-dir ./state")]
    Control(ControlArgs),
    /// Run a data plane proxy: sidecar, node or gateway.
    #[command(
        after_help = "Example:\n  heddle proxy --role gateway --gateway default/shop-gateway --bind 127.0.0.1"
    )]
    Proxy(ProxyArgs),
    /// Register CMD as an instance of a service and run it with a sidecar.
    #[command(
        after_help = "Example:\n  heddle run --service hello --port 8000 -- python3 -m http.server 8000"
    )]
    Run(RunArgs),
    /// Add an instance to a service by hand.
    #[command(
        after_help = "Example:\n  heddle register --service hello --address 127.0.0.1:8000 --labels version=v1 --health http:/"
    )]
    Register(RegisterArgs),
    /// Remove an instance that was registered by hand.
    #[command(after_help = "Example:\n  heddle deregister --service hello --address 127.0.0.1:8000")]
    Deregister(DeregisterArgs),
    /// Create or change resources from files.
    #[command(after_help = "Example:\n  heddle apply -f routes.yaml --wait")]
    Apply(ApplyArgs),
    /// List resources.
    #[command(after_help = "Example:\n  heddle get virtualservices -A -o yaml")]
    Get(GetArgs),
    /// Show one resource: what it says, what the mesh made of it, and its conditions.
    #[command(after_help = "Example:\n  heddle describe virtualservice reviews -n default")]
    Describe(DescribeArgs),
    /// Delete resources by name or from files.
    #[command(
        after_help = "Example:\n  heddle delete virtualservice reviews\n  heddle delete -f routes.yaml"
    )]
    Delete(DeleteArgs),
    /// Open a resource in $EDITOR and apply what was changed.
    #[command(after_help = "Example:\n  heddle edit virtualservice reviews")]
    Edit(DescribeArgs),
    /// Find every problem in files or in the live mesh.
    #[command(after_help = "Example:\n  heddle analyze -f ./resources")]
    Analyze(AnalyzeArgs),
    /// Tell where a request would go and why, rule by rule, without sending it.
    #[command(
        after_help = "Example:\n  heddle explain GET http://reviews:9080/ -H 'end-user: jason' --from default/productpage -f ./resources"
    )]
    Explain(ExplainArgs),
    /// Show the control plane, its proxies and how far each has caught up.
    #[command(after_help = "Example:\n  heddle status")]
    Status(StatusArgs),
    /// Show what a proxy was told: clusters, endpoints, listeners, routes.
    #[command(
        after_help = "Example:\n  heddle proxy-config routes --admin 127.0.0.1:15000",
        visible_alias = "pc"
    )]
    ProxyConfig(ProxyConfigArgs),
    /// Show the versions of this binary and of the control plane.
    #[command(after_help = "Example:\n  heddle version -o json")]
    Version(VersionArgs),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  heddle completions bash > ~/.local/share/bash-completion/completions/heddle"
    )]
    Completions { shell: clap_complete::Shell },
    /// Print docs/commands.md.
    #[command(hide = true)]
    #[command(name = "command-reference")]
    Reference,
    /// A part of `heddle run`: makes a network namespace, and sockets in it.
    #[command(hide = true)]
    NamespaceHold(HoldArgs),
    /// A part of `heddle run`: becomes CMD in that namespace.
    #[command(hide = true)]
    NamespaceEnter(EnterArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

/// How to reach the control plane's API.
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// The API: this flag, $HEDDLE_SERVER, the running mesh of this user, or http://127.0.0.1:15014.
    #[arg(long, env = "HEDDLE_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
}

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Sidecar,
    Node,
    Gateway,
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
    /// Where the last good configuration is kept [default: as for `heddle control`, under proxy/].
    #[arg(long, env = "HEDDLE_PROXY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Allow admin and the explicit outbound proxy to listen off loopback.
    #[arg(long)]
    pub(crate) insecure: bool,
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

#[derive(Args, Debug)]
pub(crate) struct RegisterArgs {
    #[arg(long, value_name = "NAME")]
    pub(crate) service: String,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    /// Where the instance listens: IP:PORT.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) address: SocketAddr,
    /// Which of the service's ports this is; optional where there is one.
    #[arg(long, value_name = "NAME")]
    pub(crate) port_name: Option<String>,
    /// The service's own port, for a service that does not exist yet [default: the instance's port].
    #[arg(long, value_name = "PORT")]
    pub(crate) service_port: Option<u16>,
    /// The protocol, for a service that does not exist yet: http, http2, grpc, tcp ... [default: detect].
    #[arg(long, default_value = "", value_name = "PROTOCOL")]
    pub(crate) protocol: String,
    #[arg(long, value_delimiter = ',', value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// Share of the traffic, relative to the other instances.
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u32>,
    /// Keep the instance only while this command runs and renews it; 30s, 1m.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(crate) ttl: Option<Duration>,
    /// How the control plane checks the instance: http:/PATH, tcp or grpc.
    #[arg(long, value_name = "CHECK")]
    pub(crate) health: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct DeregisterArgs {
    #[arg(long, value_name = "NAME")]
    pub(crate) service: String,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) address: SocketAddr,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    /// Files, directories, or `-` for standard input.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE|DIR|-")]
    pub(crate) files: Vec<PathBuf>,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    /// Return when every connected proxy concerned serves the change.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub(crate) timeout: Duration,
    /// Check everything, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// A kind by any of its names: vs, virtualservice, httproutes ...
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    /// In every namespace.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Only objects with these labels.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct DescribeArgs {
    pub(crate) kind: String,
    pub(crate) name: String,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    pub(crate) kind: Option<String>,
    pub(crate) names: Vec<String>,
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", conflicts_with = "kind")]
    pub(crate) files: Vec<PathBuf>,
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct AnalyzeArgs {
    /// Files or directories; without, the live mesh.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// A request header: 'name: value'. Repeatable.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// The workload that asks.
    #[arg(long, default_value = "default/client", value_name = "NS/WORKLOAD")]
    pub(crate) from: String,
    /// Labels of the workload that asks, when it is not registered.
    #[arg(long, value_delimiter = ',', value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// Enter through this gateway instead: [istio:|k8s:]NAMESPACE/NAME.
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) gateway: Option<String>,
    /// Explain over these files instead of the live mesh.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Send the request through this proxy's outbound address and show what happened.
    #[arg(long, value_name = "ADDR")]
    pub(crate) send: Option<SocketAddr>,
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigPart {
    #[value(aliases = ["cluster", "c"])]
    Clusters,
    #[value(aliases = ["endpoint", "ep", "e"])]
    Endpoints,
    #[value(aliases = ["listener", "l"])]
    Listeners,
    #[value(aliases = ["route", "r"])]
    Routes,
    All,
}

#[derive(Args, Debug)]
pub(crate) struct ProxyConfigArgs {
    pub(crate) part: ConfigPart,
    /// The proxy's admin address.
    #[arg(long, default_value = "127.0.0.1:15000", env = "HEDDLE_ADMIN", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
pub(crate) struct VersionArgs {
    #[arg(long, short, default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `30s`, `5m`, `1h`, `250ms`, or bare seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is no duration: write 30s, 5m or 250ms"))?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1000.0,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time: use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("`{text}`: {e}"))
}
