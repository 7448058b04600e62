//! What a connection to an endpoint is made over: the socket as it is, or TLS.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::Member;
use super::connect::ConnectError;
use crate::conn::wire::Wire;
use crate::snapshot::{Address, Cluster, Snapshot, UpstreamTls};
use crate::tls::handshake::{self, Agreed, Failure};
use crate::tls::originate::Connector;

/// What two connections must have in common for one to stand in for the other.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Plain,
    Tls(Arc<Secured>),
}

/// How TLS is spoken with an endpoint.
#[derive(Debug)]
pub(crate) struct Secured {
    connector: Arc<Connector>,
    /// What `name` was made of; nothing where it is the address.
    asked: Option<Box<str>>,
    name: ServerName<'static>,
    tls: Arc<UpstreamTls>,
}

/// What is to be spoken, as ALPN offers it where the context names no protocols of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// Whatever the endpoint prefers.
    Either,
    /// Not HTTP.
    Other,
}

impl Transport {
    /// How a member is to be reached now. `host` is what the request asks for.
    pub(crate) fn of(
        snapshot: &Snapshot,
        cluster: &Cluster,
        member: &Member,
        host: &[u8],
    ) -> Result<Self, ConnectError> {
        let Some(tls) = cluster.transport(member.socket_match.as_deref().map(|described| &**described))
        else {
            return Ok(Self::Plain);
        };
        // Nothing is ever sent in the clear instead.
        let connector = snapshot.connectors.get(&tls.key).ok_or(ConnectError::NotReady)?;
        let asked = match tls.auto_sni {
            true => std::str::from_utf8(crate::decide::domains::without_port(host)).ok(),
            false => None,
        };
        let asked =
            asked.or_else(|| member.hostname.as_deref().filter(|_| tls.auto_host_sni)).or(tls.sni.as_deref());
        let mut known = member.secured.borrow_mut();
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.connector, connector)
            && known.asked.as_deref() == asked
        {
            return Ok(Self::Tls(known.clone()));
        }
        let name = asked
            .and_then(|name| ServerName::try_from(name.to_owned()).ok())
            // No name is asked for: an address is not sent.
            .unwrap_or_else(|| unnamed(member.address));
        let (connector, asked) = (connector.clone(), asked.map(Box::from));
        let made = Arc::new(Secured { connector, asked, name, tls: tls.clone() });
        *known = Some(made.clone());
        Ok(Self::Tls(made))
    }

    /// A connection made over the other serves as well.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) => true,
            (Self::Tls(one), Self::Tls(other)) => {
                Arc::ptr_eq(one, other)
                    || (Arc::ptr_eq(&one.connector, &other.connector) && one.name == other.name)
            }
            _ => false,
        }
    }

    /// Makes the handshake, if there is one. Returns what the endpoint agreed to speak.
    pub(crate) async fn secure(
        &self,
        wire: Wire,
        speaks: Speaks,
    ) -> Result<(Wire, Option<Box<[u8]>>), Failure> {
        let Self::Tls(secured) = self else { return Ok((wire, None)) };
        let own: &[&[u8]] = match speaks {
            Speaks::Http1 => &[b"http/1.1"],
            Speaks::Http2 => &[b"h2"],
            Speaks::Either => &[b"h2", b"http/1.1"],
            Speaks::Other => &[],
        };
        let protocols: Vec<Vec<u8>> = match secured.tls.common.protocols.is_empty() {
            true => own.iter().map(|name| name.to_vec()).collect(),
            false => secured.tls.common.protocols.iter().map(|name| name.to_vec()).collect(),
        };
        let config = secured.connector.config.clone();
        let Agreed { wire, protocol, .. } =
            Box::pin(handshake::connect(wire, config, secured.name.clone(), protocols)).await?;
        let fits = match (speaks, protocol.as_deref()) {
            (Speaks::Http2, Some(name)) => !name.starts_with(b"http/1"),
            // Where it was offered by us, it has to be agreed on.
            (Speaks::Http2, None) => !secured.tls.common.protocols.is_empty(),
            (Speaks::Http1, Some(name)) => name != b"h2",
            _ => true,
        };
        if !fits {
            return Err(Failure::Protocol);
        }
        Ok((wire, protocol))
    }
}

/// A name that is not sent: sessions are kept by it. For a Unix socket, one of the discard prefix (RFC 6666) by its path.
fn unnamed(address: Address) -> ServerName<'static> {
    let ip: IpAddr = match address {
        Address::Ip(at) => at.ip(),
        Address::Pipe(path) => {
            let hash = xxhash_rust::xxh3::xxh3_64(path.as_bytes());
            Ipv6Addr::from_bits(0x0100_u128 << 112 | u128::from(hash)).into()
        }
    };
    ServerName::IpAddress(ip.into())
}
