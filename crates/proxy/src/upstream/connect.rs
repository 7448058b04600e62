//! Opening connections to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::limits::Counted;
use super::transport::{Speaks, Transport};
use super::{ClusterState, Member, count};
use crate::conn::buffers::Buffers;
use crate::conn::proxy_protocol::{self, Ends};
use crate::conn::wire::Wire;
use crate::http::stream::Broken;
use crate::snapshot::{Address, Cluster};
use crate::tls::handshake::Failure;

/// How long one waits for a Unix socket whose queue is full before it is asked again.
const FULL: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_millis(50);

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
    /// No TLS session.
    #[error("TLS: {0}")]
    Tls(#[from] Failure),
    /// TLS is asked for, and what it takes has not come.
    #[error("TLS to the endpoint is not ready: a secret has not come")]
    NotReady,
    /// An upgrade is asked for, and the endpoint speaks HTTP/2 and does not take one there.
    #[error(
        "the endpoint speaks HTTP/2 and its SETTINGS have no ENABLE_CONNECT_PROTOCOL, which an upgrade takes (RFC 8441)"
    )]
    NoUpgrade,
    /// HTTP/2 could not be begun.
    #[error("{0}")]
    Handshake(Broken),
}

/// A connection to an endpoint on which nothing was sent yet.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) wire: Wire,
    pub(crate) counted: Counted,
    /// What ALPN agreed on.
    pub(crate) protocol: Option<Box<[u8]>>,
}

/// Connects to a member over a transport, all within `connect_timeout`.
pub(crate) async fn connect_over(
    buffers: &Rc<Buffers>,
    cluster: &Cluster,
    (state, member): (&ClusterState, &Member),
    counted: Counted,
    client: Option<Ends>,
    (transport, speaks): (&Transport, Speaks),
) -> Result<Connected, ConnectError> {
    let started = Instant::now();
    let (stream, counted) = connect(cluster, member, counted, client).await?;
    count(&state.stats.upstream_cx_total);
    let wire = Wire::new(stream, buffers.clone());
    if matches!(transport, Transport::Plain) {
        return Ok(Connected { wire, counted, protocol: None });
    }
    let until = started + cluster.connect_timeout;
    let outcome = tokio::time::timeout_at(until, transport.secure(wire, speaks)).await;
    match outcome.unwrap_or(Err(Failure::Late)) {
        Ok((wire, protocol)) => {
            count(&state.stats.ssl_handshake);
            Ok(Connected { wire, counted, protocol })
        }
        Err(failure) => {
            count(&state.stats.ssl_connection_error);
            count(&member.connect_failures);
            member.reach.lost(Instant::now());
            tracing::debug!(cluster = %cluster.name, address = %member.address, %failure, "no TLS session with the endpoint");
            Err(failure.into())
        }
    }
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
    if matches!(member.address, Address::Pipe(_)) {
        return Ok((stream, counted));
    }
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
    let address = match member.address {
        Address::Ip(address) => address,
        pipe => return open_pipe(member, pipe).await,
    };
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

/// Connects to a Unix socket. The system says at once that a queue is full, and nothing when there is room again: it is asked
/// until the time to connect is over.
async fn open_pipe(member: &Member, address: Address) -> io::Result<TcpStream> {
    let Some(at) = address.unix() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let at = at?;
    if member.network.is_some() && at.abstract_name().is_some() {
        return Err(io::Error::other(
            "names of abstract sockets in another network namespace are not built: give a path",
        ));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut pause = FULL.start;
    while let Err(error) = rustix::net::connect(&socket, &at) {
        if error != rustix::io::Errno::AGAIN {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(FULL.end);
    }
    // To the runtime all streams are alike.
    TcpStream::from_std(socket.into())
}

#[cfg(test)]
#[path = "connect_test.rs"]
mod connect_test;
