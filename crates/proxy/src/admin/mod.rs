//! The admin server, with the paths and answers that Envoy's tools expect.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::run::Plane;

pub(crate) async fn serve(listener: TcpListener, plane: Arc<Plane>) {
    let _ = (listener, plane);
}
