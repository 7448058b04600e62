//! `heddle control` and `heddle up`: stores, control plane, xDS server and API.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use heddle_api::ApiConfig;
use heddle_control::{
    AccessLogConfig, AccessLogFormat, Control, ControlConfig, MeshConfig,
    registry::{Registry, RegistryConfig},
};
use heddle_store::{FileOptions, FileStore, MemoryStore, RedbStore, Store};
use tokio::{net::TcpListener, sync::watch};

use super::names;
use crate::{
    cli::{AccessLogArgs, ControlArgs, Encoding, UpArgs},
    mesh_view::Mesh,
    output,
    settings::{self, Ports},
};

/// A mesh on one machine: the control plane, with the given paths as sources.
///
/// # Errors
/// As [`run`].
pub(crate) async fn up(args: UpArgs) -> Result<bool, String> {
    let mut control = args.control;
    control.config.extend(args.paths);
    run(control).await
}

/// Runs a control plane until it is told to stop.
///
/// # Errors
/// With what could not be opened: an address, a directory, the store.
pub(crate) async fn run(args: ControlArgs) -> Result<bool, String> {
    let dir = args.data_dir.clone().unwrap_or_else(settings::default_data_dir);
    settings::open_data_dir(&dir)?;
    let xds = listen(args.xds, "--xds", args.insecure).await?;
    let api = listen(args.api, "--api", args.insecure).await?;
    let dns = match args.dns {
        Some(address) => Some(names::bind(address).await?),
        None => None,
    };

    let primary = open_store(&args.store, &dir)?;
    let mut stores = vec![primary];
    if !args.config.is_empty() {
        stores.push(Arc::new(open_files(&args.config).await?));
    }
    let mesh = MeshConfig {
        cluster_domain: args.cluster_domain.as_str().into(),
        gateway_classes: args.gateway_classes.iter().map(|c| c.as_str().into()).collect(),
        access_log: access_log(&args.access_log)?,
        ..MeshConfig::default()
    };
    let control = Control::start(ControlConfig { stores: stores.clone(), mesh, ..ControlConfig::default() });
    // Checks instances and ends lapsed leases until it is dropped.
    let _registry = Registry::start(RegistryConfig::new(stores.clone()));

    let ports = Ports {
        pid: Some(std::process::id()),
        api: api.local_addr().ok(),
        xds: xds.local_addr().ok(),
        dns: dns.as_ref().and_then(|server| server.local_addr().ok()),
        ..Ports::default()
    };
    let (stop, stopping) = watch::channel(false);
    let ended = |mut stopping: watch::Receiver<bool>| async move {
        // The sender lives until the end of this function; an error is a stop too.
        let _ = stopping.wait_for(|stop| *stop).await.is_ok();
    };
    if let Some(server) = dns {
        tokio::spawn(names::serve(
            server,
            control.worlds(),
            args.cluster_domain.clone(),
            ended(stopping.clone()),
        ));
    }
    let source = Arc::new(control.clone());
    let serve_xds = tokio::spawn(heddle_xds::serve(xds, source, ended(stopping.clone())));
    let mut config = ApiConfig::new(api, stores, Arc::new(Mesh::new(control.clone())));
    config.allowed_hosts = args.allowed_hosts.clone();
    let serve_api = tokio::spawn(heddle_api::serve(config, ended(stopping)));

    control.wait_ready().await;
    ports.write(&dir).map_err(|e| format!("{}: cannot write ports.json: {e}", dir.display()))?;
    announce(&ports);
    super::stopped().await;
    Ports::remove(&dir);
    stop.send_replace(true);
    for server in [serve_xds, serve_api] {
        match server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => output::warning(&format!("a server ended badly: {error}")),
            Err(error) => output::warning(&format!("a server ended badly: {error}")),
        }
    }
    Ok(true)
}

/// Opens an address. Off loopback it takes `--insecure`, since neither door has TLS yet.
async fn listen(address: SocketAddr, flag: &str, insecure: bool) -> Result<TcpListener, String> {
    if !address.ip().is_loopback() && !insecure {
        return Err(format!(
            "{flag} {address} is not loopback, and would be open to the network without TLS; pass --insecure if that is meant"
        ));
    }
    TcpListener::bind(address).await.map_err(|e| heddle_runtime::cannot_listen(address, flag, &e))
}

/// The mesh's access log. What no proxy of ours could write is refused here, before any of them is told.
fn access_log(args: &AccessLogArgs) -> Result<Option<AccessLogConfig>, String> {
    let Some(file) = &args.file else { return Ok(None) };
    if file.is_empty() {
        return Ok(None);
    }
    let given = args.format.as_deref().filter(|format| !format.is_empty());
    let refuse = |reason: String| format!("--access-log-format: {reason}");
    let format = match (args.encoding, given) {
        (Encoding::Text, given) => AccessLogFormat::Text(given.map(Into::into)),
        (Encoding::Json, None) => AccessLogFormat::Json(None),
        (Encoding::Json, Some(given)) => {
            let members = serde_json::from_str(given).map_err(|error| {
                refuse(format!("no JSON object, as --access-log-encoding json asks: {error}"))
            })?;
            AccessLogFormat::Json(Some(Arc::new(members)))
        }
    };
    // The operators are the same in both encodings.
    given.map_or(Ok(()), heddle_proxy::check_log_format).map_err(refuse)?;
    Ok(Some(AccessLogConfig { file: file.as_str().into(), format }))
}

fn open_store(name: &str, dir: &std::path::Path) -> Result<Arc<dyn Store>, String> {
    match name {
        "memory" => Ok(Arc::new(MemoryStore::new())),
        "redb" => {
            let store = RedbStore::open(dir.join("store"), Instant::now()).map_err(|e| e.to_string())?;
            store.faults().iter().for_each(|fault| output::warning(fault));
            Ok(Arc::new(store))
        }
        other if other.starts_with("etcd://") || other == "kubernetes" => {
            Err(format!("--store {other}: not built yet; use redb or memory"))
        }
        other => Err(format!("--store {other}: expected redb or memory")),
    }
}

async fn open_files(paths: &[PathBuf]) -> Result<FileStore, String> {
    let files = FileStore::open(paths.to_vec(), FileOptions::default()).await.map_err(|e| e.to_string())?;
    let mut findings = files.diagnostics();
    tokio::spawn(async move {
        loop {
            let now = findings.borrow_and_update().clone();
            now.iter().for_each(|finding| output::warning(&finding.to_string()));
            if findings.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(files)
}

fn announce(ports: &Ports) {
    if let Some(api) = ports.api {
        output::note(&format!("API   http://{api}   (kubectl --server http://{api})"));
    }
    if let Some(xds) = ports.xds {
        output::note(&format!("xDS   http://{xds}"));
    }
    if let Some(dns) = ports.dns {
        output::note(&format!("DNS   {dns}   (full names, for askers outside the mesh)"));
    }
}
