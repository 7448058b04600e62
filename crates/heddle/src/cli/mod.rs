//! Every command and flag, defined once: the parser, `--help`, the completions and docs/commands.md follow from here.

mod role;
mod tool;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use role::*;
pub(crate) use tool::*;

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
