//! Opening connections to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{Member, count};
use crate::snapshot::Cluster;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The system's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing within `connect_timeout`.
    #[error("connection timeout")]
    Timeout,
    /// `max_connections` is reached.
    #[error("overflow")]
    Overflow,
    /// HTTP/2 could not be begun.
    #[error("{0}")]
    Handshake(h2::Error),
}

/// An open connection counted for its cluster.
#[derive(Debug)]
pub(crate) struct Counted(Rc<std::cell::Cell<u32>>);

impl Counted {
    pub(crate) fn new(member: &Member) -> Self {
        member.connections.set(member.connections.get() + 1);
        Self(member.connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Connects to a member within the cluster's limits.
pub(crate) async fn connect(
    cluster: &Cluster,
    member: &Member,
) -> Result<(TcpStream, Counted), ConnectError> {
    let limit = cluster.breakers[0].max_connections;
    // One connection is always allowed: a limit shared among workers must not leave one of them without any.
    if limit.is_some_and(|limit| member.connections.get() >= limit.max(1)) {
        return Err(ConnectError::Overflow);
    }
    let counted = Counted::new(member);
    let attempt = open(member.address, cluster.bind);
    let outcome = tokio::time::timeout(cluster.connect_timeout, attempt).await;
    let stream = match outcome {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            count(&member.connect_failures);
            member.reach.lost(Instant::now());
            return Err(error.into());
        }
        Err(_) => {
            count(&member.connect_failures);
            member.reach.lost(Instant::now());
            return Err(ConnectError::Timeout);
        }
    };
    member.reach.found();
    // Neither matters enough to refuse a connection that works.
    let _ = stream.set_nodelay(true);
    if let Some(keepalive) = &cluster.tcp_keepalive {
        let mut settings = TcpKeepalive::new();
        if let Some(time) = keepalive.time {
            settings = settings.with_time(Duration::from_secs(time.into()));
        }
        if let Some(interval) = keepalive.interval {
            settings = settings.with_interval(Duration::from_secs(interval.into()));
        }
        if let Some(probes) = keepalive.probes {
            settings = settings.with_retries(probes);
        }
        let _ = SockRef::from(&stream).set_tcp_keepalive(&settings);
    }
    Ok((stream, counted))
}

async fn open(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(bind) = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()) else {
        return TcpStream::connect(address).await;
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(bind, 0))?;
    socket.connect(address).await
}
