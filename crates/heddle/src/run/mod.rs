//! `heddle run`: a program as an instance of a service, with a sidecar.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use heddle_api::client::Client;
use heddle_proxy::{Interception, Proxy, ProxyConfig};
use heddle_runtime::Drain;
use tokio::process::{Child, Command};

use crate::{
    capture::Namespace,
    cli::{Capture, RunArgs},
    command::register::Instance,
    output,
    settings::{self},
};

/// How long the registration lives without a heartbeat.
const TTL: Duration = Duration::from_secs(15);
/// How long CMD is held back for the sidecar's first configuration.
const CONFIGURED: Duration = Duration::from_secs(10);

/// Runs CMD until it ends or this process is told to stop; yields CMD's exit code.
///
/// # Errors
/// When the mesh cannot be reached, or CMD cannot be started.
pub(crate) async fn run(args: &RunArgs) -> Result<u8, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    // From here on a signal is not missed, and does not end this process before it has put things in order.
    let mut stopped = Box::pin(crate::role::stopped());
    let _ = futures_util::poll!(&mut stopped);
    let scratch = tempfile::Builder::new().prefix("heddle-run-").tempdir().map_err(|e| e.to_string())?;
    let mut labels = settings::labels(&args.labels)?;
    labels.insert("app".to_owned(), args.service.clone());
    labels.extend(args.version.clone().map(|v| ("version".to_owned(), v)));
    let name = format!("{}-{}-{}", args.service, args.port, std::process::id());
    let network = network(args, scratch.path())?;
    let proxy = Proxy::start(ProxyConfig {
        xds: settings::xds(args.xds.as_deref()),
        name: name.clone(),
        namespace: args.namespace.clone(),
        labels: labels.clone(),
        advertise: Some(args.advertise),
        give_back: Some(crate::sys::give_back),
        inbound: vec![(Some(args.port), SocketAddr::new(args.advertise, 0))],
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        data_dir: Some(scratch.path().to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..facing(network.as_ref())
    })
    .await
    .map_err(|e| e.to_string())?;
    let bound = proxy.bound();
    let (_, outbound) = *bound.outbound.first().ok_or("the sidecar has no outbound address")?;
    let (_, inbound) = *bound.inbound.first().ok_or("the sidecar has no inbound address")?;

    tokio::select! {
        () = configured(&proxy) => {}
        () = &mut stopped => return Ok(0),
    }
    let mut child = start(args, network.as_deref(), outbound)?;
    let instance = Instance {
        name,
        namespace: &args.namespace,
        service: &args.service,
        address: inbound,
        port_name: None,
        service_port: Some(args.service_port.unwrap_or(args.port)),
        protocol: &args.protocol,
        labels,
        weight: None,
        health: Some(&args.health),
        ttl: Some(TTL),
    };
    instance.register(&client).await?;
    output::note(&format!("{}/{} at {inbound}; outbound {outbound}", args.namespace, args.service));

    let code = attend(&mut child, &instance, &client, stopped).await;
    if let Err(error) = instance.deregister(&client).await {
        output::warning(&format!("could not deregister, the lease will lapse in {TTL:?}: {error}"));
    }
    // Told once more, what is open is cut.
    tokio::select! {
        () = proxy.drain(Some(Drain::DEFAULT)) => {}
        () = crate::role::stopped() => {}
    }
    end(&mut child).await;
    proxy.stop().await;
    code
}

/// The network that CMD gets, if it gets one of its own.
///
/// # Errors
/// When it must have one and cannot.
fn network(args: &RunArgs, scratch: &Path) -> Result<Option<Arc<Namespace>>, String> {
    if args.capture == Capture::Explicit {
        return Ok(None);
    }
    match Namespace::open(scratch, &args.namespace, &ProxyConfig::default().cluster_domain) {
        Ok(network) => {
            output::note("capture: redirect; CMD has a network of its own, its localhost included");
            Ok(Some(Arc::new(network)))
        }
        Err(refusal) if args.capture == Capture::Auto => {
            output::note(&format!("capture: explicit (http_proxy), as redirect is not possible: {refusal}"));
            Ok(None)
        }
        Err(refusal) => Err(format!("--capture redirect: {refusal}; or use --capture explicit")),
    }
}

/// Waits until the sidecar can carry what CMD sends: what CMD does first would fail otherwise.
async fn configured(proxy: &Proxy) {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    let ready = async {
        while !proxy.waiting_for().is_empty() {
            poll.tick().await;
        }
    };
    if tokio::time::timeout(CONFIGURED, ready).await.is_err() {
        let missing = proxy.waiting_for().join(", ");
        output::warning(&format!("starting CMD before the sidecar is ready; it waits for: {missing}"));
    }
}

/// Where the sidecar meets CMD.
fn facing(network: Option<&Arc<Namespace>>) -> ProxyConfig {
    let chosen = SocketAddr::from(([127, 0, 0, 1], 0));
    match network.cloned() {
        Some(network) => ProxyConfig {
            outbound: network.outbound(),
            dns: Some(Namespace::dns()),
            interception: Interception::Redirect,
            workload: Some(network),
            ..ProxyConfig::default()
        },
        None => ProxyConfig { outbound: vec![(None, chosen)], dns: Some(chosen), ..ProxyConfig::default() },
    }
}

/// Starts CMD in its network, or with the sidecar as its HTTP proxy.
fn start(args: &RunArgs, network: Option<&Namespace>, outbound: SocketAddr) -> Result<Child, String> {
    let (program, arguments) = args.command.split_first().ok_or("name a command to run after --")?;
    let mut command = match network {
        Some(network) => Command::from(network.command(&args.command)),
        None => {
            let mut command = Command::new(program);
            command.args(arguments);
            let proxy = format!("http://{outbound}");
            for name in ["http_proxy", "HTTP_PROXY", "grpc_proxy"] {
                command.env(name, &proxy);
            }
            for name in ["no_proxy", "NO_PROXY"] {
                command.env(name, "localhost,127.0.0.1,::1");
            }
            command
        }
    };
    command.stdin(Stdio::inherit()).kill_on_drop(true);
    command.spawn().map_err(|e| format!("cannot run {program}: {e}; is it on the path?"))
}

/// Renews the registration until CMD ends or this process is told to stop.
async fn attend(
    child: &mut Child,
    instance: &Instance<'_>,
    client: &Client,
    mut stopped: impl Future<Output = ()> + Unpin,
) -> Result<u8, String> {
    let mut heartbeat = tokio::time::interval(TTL / 3);
    loop {
        tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|e| format!("waiting for the command: {e}"))?;
                use std::os::unix::process::ExitStatusExt as _;
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            _ = heartbeat.tick() => {
                if let Err(error) = instance.renew(client, TTL).await {
                    output::warning(&format!("could not renew the registration, trying again: {error}"));
                }
            }
            () = &mut stopped => return Ok(0),
        }
    }
}

/// Ends CMD politely, and after ten seconds not.
async fn end(child: &mut Child) {
    let Some(id) = child.id() else { return };
    if let Some(pid) = rustix::process::Pid::from_raw(id.cast_signed()) {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
