//! `heddle proxy`: the data plane.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use heddle_proxy::{Bound, Interception, ProxyConfig};

use crate::{
    cli::{self, ProxyArgs, Role},
    output,
    settings::{self, Ports},
};

/// Runs a proxy until it is told to stop, and drains it.
///
/// # Errors
/// With what could not be opened or understood.
pub(crate) fn run(args: &ProxyArgs) -> Result<bool, String> {
    let config = config(args)?;
    let dir = config.data_dir.clone().unwrap_or_else(|| settings::default_data_dir().join("proxy"));
    settings::open_data_dir(&dir)?;
    // One thread: what is managed here must not take a worker's core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    let ended = runtime.block_on(async {
        let told = super::told().map_err(|e| format!("cannot handle signals: {e}"))?;
        tokio::spawn(super::successor::on_signal());
        let ready = |bound: &Bound| {
            announce(bound, &dir);
            super::notify::ready();
        };
        heddle_proxy::run(config, ready, told).await.map_err(|e| e.to_string())
    });
    Ports::remove_own(&dir);
    ended.map(|()| true)
}

/// Says where the proxy listens, in `ports.json` and, where a port was chosen, on stderr.
fn announce(bound: &Bound, dir: &std::path::Path) {
    let ports = Ports {
        pid: Some(std::process::id()),
        outbound: bound.outbound.iter().map(|(_, address)| *address).collect(),
        inbound: bound.inbound.iter().map(|(app, address)| (app.unwrap_or(0), *address)).collect(),
        admin: bound.admin,
        dns: bound.dns,
        ..Ports::default()
    };
    if let Err(error) = ports.write(dir) {
        output::warning(&format!("{}: cannot write ports.json: {error}", dir.display()));
    }
    for address in &ports.outbound {
        output::note(&format!("outbound {address}"));
    }
    for (port, address) in &ports.inbound {
        output::note(&format!("inbound  {address} for port {port}"));
    }
    if let Some(admin) = ports.admin {
        output::note(&format!("admin    http://{admin}"));
    }
}

fn config(args: &ProxyArgs) -> Result<ProxyConfig, String> {
    if !args.xds.starts_with("http://") {
        return Err(format!("--xds {}: expected http://HOST:PORT (TLS there is not built yet)", args.xds));
    }
    let labels: BTreeMap<String, String> = settings::labels(&args.labels)?;
    let inbound = args.inbound.iter().map(|text| inbound(text)).collect::<Result<Vec<_>, _>>()?;
    let outbound = args.outbound.iter().map(|text| outbound(text)).collect::<Result<Vec<_>, _>>()?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| settings::default_data_dir().join("proxy"));
    Ok(ProxyConfig {
        xds: args.xds.clone(),
        role: match args.role {
            Role::Sidecar => heddle_proxy::Role::Sidecar,
            Role::Node => heddle_proxy::Role::Node,
            Role::Gateway => heddle_proxy::Role::Gateway,
        },
        name: args.workload.clone().unwrap_or_default(),
        namespace: args.namespace.clone(),
        service_account: args.service_account.clone(),
        labels,
        node_id: args.node_id.clone(),
        advertise: args.advertise,
        outbound: with_default(outbound, args.role),
        inbound,
        interception: match args.interception {
            cli::Interception::None => Interception::None,
            cli::Interception::Redirect => Interception::Redirect,
            cli::Interception::Tproxy => Interception::Tproxy,
        },
        gateway: args.gateway.clone(),
        bind: args.bind,
        dns: Some(args.dns),
        admin: Some(args.admin),
        workers: args.workers,
        max_connections: args.max_connections.map(|most| most as usize),
        max_memory: args.max_memory.map(|mib| u64::from(mib) << 20),
        give_back: Some(crate::sys::give_back),
        data_dir: Some(PathBuf::from(&data_dir)),
        insecure: args.insecure,
        drain_time: args.drain_time.0,
        replaced_drain_time: args.replaced_drain_time.0,
        replace: args.replace,
        replaceable: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ProxyConfig::default()
    })
}

/// A sidecar takes outbound connections at 127.0.0.1:15001 unless told otherwise; a gateway takes none.
fn with_default(
    outbound: Vec<(Option<String>, SocketAddr)>,
    role: Role,
) -> Vec<(Option<String>, SocketAddr)> {
    if outbound.is_empty() && role != Role::Gateway {
        return vec![(None, SocketAddr::from(([127, 0, 0, 1], 15001)))];
    }
    outbound
}

/// `[NS[/K=V,...]=]ADDR`
fn outbound(text: &str) -> Result<(Option<String>, SocketAddr), String> {
    let (of, address) = match text.rsplit_once('=') {
        Some((of, address)) => (Some(of.replace(';', ",")), address),
        None => (None, text),
    };
    let address = address.parse().map_err(|_| format!("--outbound {text}: expected [NAMESPACE=]IP:PORT"))?;
    Ok((of, address))
}

/// `[APPPORT=]ADDR`
fn inbound(text: &str) -> Result<(Option<u16>, SocketAddr), String> {
    let wrong = || format!("--inbound {text}: expected [APPPORT=]IP:PORT");
    let (port, address) = match text.split_once('=') {
        Some((port, address)) => (Some(port.parse().map_err(|_| wrong())?), address),
        None => (None, text),
    };
    Ok((port, address.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn addresses_are_read_as_documented() {
        assert_eq!(inbound("9080=127.0.0.1:0").unwrap(), (Some(9080), "127.0.0.1:0".parse().unwrap()));
        assert_eq!(inbound("0.0.0.0:15006").unwrap().0, None);
        assert!(inbound("web=127.0.0.1:1").unwrap_err().contains("APPPORT"));
        let (of, address) = outbound("team/app=web;tier=x=127.0.0.1:9").unwrap();
        assert_eq!((of.as_deref(), address.port()), (Some("team/app=web,tier=x"), 9));
    }
}
