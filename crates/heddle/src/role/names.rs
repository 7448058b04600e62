//! The mesh's names for askers outside of it: `heddle control --dns`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use heddle_control::{World, public_names};
use heddle_dns::{Names, Server, ServerConfig};
use tokio::sync::watch;

/// Changes within this time are answered together.
const PACE: Duration = Duration::from_secs(1);

pub(crate) async fn bind(address: SocketAddr) -> Result<Server, String> {
    Server::bind(address).await.map_err(|e| heddle_runtime::cannot_listen(address, "--dns", &e))
}

/// Answers until `ended`. What is no name of the mesh is refused: whoever asks has resolvers of its own.
pub(crate) async fn serve(
    server: Server,
    mut worlds: watch::Receiver<Arc<World>>,
    cluster_domain: String,
    ended: impl Future<Output = ()>,
) {
    let (sender, names) = watch::channel(Arc::new(Names::default()));
    let follow = async {
        loop {
            let world = worlds.borrow_and_update().clone();
            if let Ok(names) = tokio::task::spawn_blocking(move || Names::new(&public_names(&world)).0).await
            {
                sender.send_replace(Arc::new(names));
            }
            tokio::time::sleep(PACE).await;
            if worlds.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let config = ServerConfig { cluster_domain, ..ServerConfig::default() };
    tokio::select! {
        () = heddle_dns::serve(server, names, config, ended) => {}
        () = follow => {}
    }
}
