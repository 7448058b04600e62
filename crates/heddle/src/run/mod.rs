//! `heddle run`: a program as an instance of a service, with a sidecar.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use heddle_api::client::Client;
use heddle_proxy::{Proxy, ProxyConfig};
use heddle_runtime::Drain;
use tokio::process::{Child, Command};

use crate::{
    cli::{Capture, RunArgs},
    command::register::Instance,
    output,
    settings::{self},
};

/// How long the registration lives without a heartbeat.
const TTL: Duration = Duration::from_secs(15);

/// Runs CMD until it ends or this process is told to stop; yields CMD's exit code.
///
/// # Errors
/// When the mesh cannot be reached, or CMD cannot be started.
pub(crate) async fn run(args: &RunArgs) -> Result<u8, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    match args.capture {
        Capture::Redirect => {
            return Err("--capture redirect is not built yet; use --capture explicit".to_owned());
        }
        Capture::Auto => output::note("capture: explicit (http_proxy); redirect is not built yet"),
        Capture::Explicit => {}
    }
    let scratch = tempfile::Builder::new().prefix("heddle-run-").tempdir().map_err(|e| e.to_string())?;
    let mut labels = settings::labels(&args.labels)?;
    labels.insert("app".to_owned(), args.service.clone());
    labels.extend(args.version.clone().map(|v| ("version".to_owned(), v)));
    let name = format!("{}-{}-{}", args.service, args.port, std::process::id());
    let proxy = Proxy::start(ProxyConfig {
        xds: settings::xds(args.xds.as_deref()),
        name: name.clone(),
        namespace: args.namespace.clone(),
        labels: labels.clone(),
        advertise: Some(args.advertise),
        outbound: vec![(None, SocketAddr::from(([127, 0, 0, 1], 0)))],
        inbound: vec![(Some(args.port), SocketAddr::new(args.advertise, 0))],
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        dns: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        data_dir: Some(scratch.path().to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ProxyConfig::default()
    })
    .await
    .map_err(|e| e.to_string())?;
    let bound = proxy.bound();
    let (_, outbound) = *bound.outbound.first().ok_or("the sidecar has no outbound address")?;
    let (_, inbound) = *bound.inbound.first().ok_or("the sidecar has no inbound address")?;

    let mut child = start(args, outbound)?;
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
    };
    instance.register(&client).await?;
    output::note(&format!("{}/{} at {inbound}; outbound {outbound}", args.namespace, args.service));

    let code = attend(&mut child, &instance, &client).await;
    if let Err(error) = instance.deregister(&client).await {
        output::warning(&format!("could not deregister, the lease will lapse in {TTL:?}: {error}"));
    }
    proxy.drain(Drain::DEFAULT).await;
    end(&mut child).await;
    proxy.stop().await;
    code
}

/// Starts CMD with the sidecar as its HTTP proxy.
fn start(args: &RunArgs, outbound: SocketAddr) -> Result<Child, String> {
    let (program, arguments) = args.command.split_first().ok_or("name a command to run after --")?;
    let proxy = format!("http://{outbound}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::inherit()).kill_on_drop(true);
    for name in ["http_proxy", "HTTP_PROXY", "grpc_proxy"] {
        command.env(name, &proxy);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        command.env(name, "localhost,127.0.0.1,::1");
    }
    command.spawn().map_err(|e| format!("cannot run {program}: {e}; is it on the path?"))
}

/// Renews the registration until CMD ends or this process is told to stop.
async fn attend(child: &mut Child, instance: &Instance<'_>, client: &Client) -> Result<u8, String> {
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
            () = crate::role::stopped() => return Ok(0),
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
