//! Arguments of what asks and changes: the commands that talk to a running mesh, or read files.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Output, Server, duration};

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
    /// One object; without, all of the kind.
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
    /// A kind by any of its names.
    pub(crate) kind: String,
    /// The object.
    pub(crate) name: String,
    /// Its namespace.
    #[arg(long, short, default_value = "default", env = "HEDDLE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// A kind by any of its names.
    pub(crate) kind: Option<String>,
    /// The objects.
    pub(crate) names: Vec<String>,
    /// Files or directories that name the objects instead.
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
    /// GET, POST, ...
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// As a client would say it: http://HOST[:PORT]/PATH, or https:// for a gateway.
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
    #[value(aliases = ["secrets", "s"])]
    Secret,
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
