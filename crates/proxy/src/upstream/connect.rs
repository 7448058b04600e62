//! Opening connections to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::limits::Counted;
use super::{Member, count};
use crate::conn::proxy_protocol::{self, Ends};
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
    /// A breaker is open: too many requests under way or waiting.
    #[error("overflow")]
    Overflow,
    /// HTTP/2 could not be begun.
    #[error("{0}")]
    Handshake(h2::Error),
}

/// Connects to a member; `counted` is what [`super::limits::Room`] allowed. `client` is whom the connection is for, which
/// the endpoint of a cluster with the PROXY protocol is told.
pub(crate) async fn connect(
    cluster: &Cluster,
    member: &Member,
    counted: Counted,
    client: Option<Ends>,
) -> Result<(TcpStream, Counted), ConnectError> {
    let attempt = async {
        let mut stream = open(member, cluster.bind).await?;
        if let Some(version) = cluster.proxy_protocol {
            let mut header = Vec::new();
            proxy_protocol::write(&mut header, version, client);
            stream.write_all(&header).await?;
        }
        Ok::<_, io::Error>(stream)
    };
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

async fn open(member: &Member, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let address = member.address;
    if let Some(network) = &member.network {
        let socket = network.stream(address).await?;
        return TcpSocket::from_std_stream(socket.into()).connect(address).await;
    }
    let Some(bind) = bind.filter(|bind| bind.is_ipv4() == address.is_ipv4()) else {
        return TcpStream::connect(address).await;
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(bind, 0))?;
    socket.connect(address).await
}

#[cfg(test)]
#[path = "connect_test.rs"]
mod connect_test;
