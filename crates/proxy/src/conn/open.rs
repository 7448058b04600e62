//! From an accepted socket to the filter chain that serves it.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::detect::{Detect, Spoken};
use super::proxy_protocol::{self, Ends, Header};
use super::registry::{Control, Registered, Wish};
use super::serving::Serving;
use super::sniff::{self, Sniff};
use super::wire::Wire;
use crate::decide::Downstream;
use crate::decide::chain::{self, match_filter_chain};
use crate::http::h2;
use crate::http::head::Scheme;
use crate::http::serve::Connection;
use crate::snapshot::{
    Address, Codec, FilterChain, HttpConnectionManager, Inspect, Listener, NetworkFilter, ProxyProtocol,
};
use crate::tcp::{Dialled, Relay};
use crate::worker::Worker;

/// Serves one accepted connection until it ends. Where nothing has to be read to know how, it rests at once.
pub(crate) fn open(
    worker: Rc<Worker>,
    bound: Arc<Listener>,
    stream: TcpStream,
    peer: Address,
    registered: Registered,
) -> Serving {
    let Some((opening, wire)) = Opening::new(worker, bound, stream, peer) else { return Serving::Over };
    match opening.at_once() {
        Some((downstream, undecided)) => {
            opening.stand(&downstream, registered.control());
            Serving::Resting(Connection::new(opening.worker, downstream, wire, registered, undecided))
        }
        None => Serving::Busy(Box::pin(begin(opening, wire, registered))),
    }
}

/// Finds out what a connection speaks, and serves it unless that is HTTP/1.1.
async fn begin(opening: Opening, wire: Wire, registered: Registered) -> Option<Box<Connection>> {
    let (worker, control) = (opening.worker.clone(), registered.control().clone());
    let Opened { wire, downstream, dialled, protocol } = Box::pin(opening.begin(wire, &control)).await?;
    match &downstream.chain.filter {
        NetworkFilter::Http(http) => match codec(http, protocol) {
            Codec::Http2 => Box::pin(h2::serve::serve(worker, downstream, wire, control)).await,
            codec => {
                return Some(Connection::new(worker, downstream, wire, registered, codec == Codec::Auto));
            }
        },
        NetworkFilter::Tcp(proxy) => {
            Box::pin(Relay::new(&worker, &downstream, proxy, control).run(wire, dialled)).await;
        }
        NetworkFilter::Close => {}
    }
    None
}

/// What is spoken, as far as it is configured or was agreed on.
fn codec(http: &HttpConnectionManager, protocol: Option<Codec>) -> Codec {
    match (http.codec, protocol) {
        (Codec::Auto, Some(codec)) => codec,
        (codec, _) => codec,
    }
}

/// What is known while a filter chain is looked for.
struct Opening {
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    /// The client.
    peer: Address,
    /// The other end of the socket.
    direct: Address,
    local: Address,
    original_dst: Option<SocketAddr>,
}

/// A connection that is ready to be served.
struct Opened {
    wire: Wire,
    downstream: Rc<Downstream>,
    dialled: Option<Dialled>,
    /// What ALPN agreed on.
    protocol: Option<Codec>,
}

/// What a connection is served by.
struct Chosen {
    chain: Arc<FilterChain>,
    /// The connection to an endpoint if one was needed to find out.
    dialled: Option<Dialled>,
    /// SNI.
    server_name: Option<Box<str>>,
}

impl Opening {
    fn new(
        worker: Rc<Worker>,
        bound: Arc<Listener>,
        stream: TcpStream,
        peer: Address,
    ) -> Option<(Self, Wire)> {
        let (local, asked) = match peer {
            Address::Ip(_) => {
                let local = stream.local_addr().ok()?;
                (
                    Address::Ip(local),
                    Some(local).filter(|_| bound.use_original_dst || bound.inspect.original_dst),
                )
            }
            // Nobody redirects to a Unix socket.
            Address::Pipe(_) => (peer, None),
        };
        let original_dst = match asked {
            Some(local) if bound.transparent => handed_over(&bound, local),
            Some(local) => original_dst(&stream).filter(|destination| *destination != local),
            None => None,
        };
        let listener = match original_dst {
            Some(destination) if bound.use_original_dst => worker.listener_for(destination).unwrap_or(bound),
            _ => bound,
        };
        let wire = Wire::new(stream, worker.buffers.clone());
        Some((Self { worker, listener, peer, direct: peer, local, original_dst }, wire))
    }

    /// What serves the connection, if it is HTTP/1.1, or may be, and nothing has to be read to know that; and whether it may
    /// be HTTP/2, too.
    fn at_once(&self) -> Option<(Rc<Downstream>, bool)> {
        let Inspect { tls: None, http: false, proxy_protocol: None, .. } = self.listener.inspect else {
            return None;
        };
        let chain = self.chain("raw_buffer", "", &[])?;
        let NetworkFilter::Http(http) = &chain.filter else { return None };
        if chain.tls.is_some() || http.codec == Codec::Http2 {
            return None;
        }
        let undecided = http.codec == Codec::Auto;
        Some((self.downstream(chain, Scheme::Http, None, None), undecided))
    }

    /// All that is known of the connection from now on.
    fn downstream(
        &self,
        chain: Arc<FilterChain>,
        scheme: Scheme,
        server_name: Option<Box<str>>,
        client_cert: Option<Box<[u8]>>,
    ) -> Rc<Downstream> {
        Rc::new(Downstream {
            listener: self.listener.clone(),
            chain,
            peer: self.peer,
            passed_on_by: (self.direct != self.peer).then(|| Box::new(self.direct)),
            local: self.local,
            original_dst: self.original_dst.map(Box::new),
            machine: self.worker.machine,
            scheme,
            server_name,
            client_cert,
            connection_id: self.worker.connections.opened(),
        })
    }

    /// Lets the registry know what serves the connection.
    fn stand(&self, downstream: &Downstream, control: &Control) {
        let snapshot = self.worker.snapshot();
        control.stand_on(&self.listener, &downstream.chain, snapshot.listeners.get(&self.listener.name));
    }

    /// Chooses what serves the connection, and says all that is known of it from then on.
    async fn begin(mut self, mut wire: Wire, control: &Control) -> Option<Opened> {
        if let Some(rules) = self.listener.inspect.proxy_protocol {
            self.introduce(&mut wire, control, rules).await?;
        }
        let Chosen { chain, dialled, mut server_name } = self.choose(&mut wire, control).await?;
        let (mut scheme, mut protocol, mut client_cert) = (Scheme::Http, None, None);
        if let Some(tls) = &chain.tls {
            let agreed =
                super::terminate::terminate(&self.worker, wire, &chain, tls, server_name, control).await?;
            wire = agreed.wire;
            server_name = agreed.server_name;
            scheme = Scheme::Https;
            client_cert = agreed.client_cert;
            protocol = match agreed.protocol.as_deref() {
                Some(b"h2") => Some(Codec::Http2),
                Some(b"http/1.1" | b"http/1.0") => Some(Codec::Http1),
                _ => None,
            };
        }
        let downstream = self.downstream(chain, scheme, server_name, client_cert);
        self.stand(&downstream, control);
        Some(Opened { wire, downstream, dialled, protocol })
    }

    /// Reads the header of the PROXY protocol, which says who is at the other end.
    async fn introduce(&mut self, wire: &mut Wire, control: &Control, rules: ProxyProtocol) -> Option<()> {
        let deadline = self.listener.inspect_timeout.map(|most| Instant::now() + most);
        let mut alarm = Alarm::default();
        let header = poll_fn(|cx| {
            loop {
                match proxy_protocol::read(wire.data(), rules.v1, rules.v2) {
                    Header::More => {}
                    header => return Poll::Ready(header),
                }
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(len)) if len > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Header::Malformed),
                    Poll::Pending => break,
                }
            }
            control.register(cx.waker());
            if control.wish() == Wish::Cut {
                return Poll::Ready(Header::Malformed);
            }
            alarm.poll(cx, deadline).map(|()| Header::Malformed)
        })
        .await;
        match header {
            Header::Whole { len, ends, .. } => {
                wire.consume(len);
                if let Some(ends) = ends {
                    self.peer = ends.source.into();
                    self.original_dst = Some(ends.destination).filter(|end| self.local != *end);
                }
                Some(())
            }
            Header::Absent if rules.optional => Some(()),
            Header::Absent | Header::Malformed | Header::More => None,
        }
    }

    fn chain(&self, transport: &str, server_name: &str, protocols: &[&str]) -> Option<Arc<FilterChain>> {
        let connection = chain::Connection {
            destination: self.original_dst.map_or(self.local, Address::Ip),
            source: self.peer,
            direct_source: self.direct.ip(),
            server_name,
            transport_protocol: transport,
            application_protocols: protocols,
        };
        match_filter_chain(&self.listener, &connection).cloned()
    }

    /// The filter chain.
    ///
    /// Where the protocol is to be detected, the endpoint is dialled at once and the side that speaks first decides: a
    /// server that greets its clients is not kept waiting.
    async fn choose(&self, wire: &mut Wire, control: &Control) -> Option<Chosen> {
        let Inspect { tls, http, .. } = self.listener.inspect;
        let plain = self.chain("raw_buffer", "", &[]);
        if tls.is_none() && !http {
            return Some(Chosen { chain: plain?, dialled: None, server_name: None });
        }
        let dial = async {
            // A server is not heard before its client's handshake.
            let clear = plain.as_ref().filter(|chain| chain.tls.is_none());
            match clear.map(|chain| &chain.filter) {
                Some(NetworkFilter::Tcp(proxy)) => {
                    let ends = Ends::of(self.peer, self.original_dst.map_or(self.local, Address::Ip));
                    Relay::dial(&self.worker, self.original_dst, proxy, ends).await.ok()
                }
                _ => None,
            }
        };
        let (spoken, dialled) = self.listen(wire, control, dial).await;
        let (chain, server_name) = match spoken {
            Spoken::Close => return None,
            Spoken::Plain(seen) => {
                (self.chain("raw_buffer", "", seen.application_protocol().as_slice())?, None)
            }
            Spoken::Tls(hello) => {
                let protocols: Vec<&str> = hello.protocols.iter().map(|name| &**name).collect();
                let name = hello.server_name.as_deref().unwrap_or_default();
                (self.chain("tls", name, &protocols)?, hello.server_name)
            }
        };
        let same = plain.as_ref().is_some_and(|plain| Arc::ptr_eq(plain, &chain));
        Some(Chosen { chain, dialled: dialled.filter(|_| same), server_name })
    }

    /// Reads until it is known what the client speaks, or the endpoint that is being dialled has spoken first.
    async fn listen(
        &self,
        wire: &mut Wire,
        control: &Control,
        dial: impl Future<Output = Option<Dialled>>,
    ) -> (Spoken, Option<Dialled>) {
        let deadline = self.listener.inspect_timeout.map(|most| Instant::now() + most);
        let mut dial = pin!(dial);
        let (mut dialling, mut dialled, mut alarm) = (true, None::<Dialled>, Alarm::default());
        let mut detect = Detect::new(self.listener.inspect);
        let spoken = poll_fn(|cx| {
            if dialling && let Poll::Ready(outcome) = dial.as_mut().poll(cx) {
                (dialling, dialled) = (false, outcome);
            }
            loop {
                if let Some(spoken) = detect.look(wire.data()) {
                    return Poll::Ready(spoken);
                }
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(len)) if len > 0 => {}
                    // A client that sends nothing and closes may still be a client of TCP.
                    Poll::Ready(Ok(_)) if wire.eof() => return Poll::Ready(detect.plain(Sniff::Other)),
                    Poll::Ready(_) => return Poll::Ready(Spoken::Close),
                    Poll::Pending => break,
                }
            }
            // Who has begun with TLS has spoken first.
            if let Some(dialled) = &mut dialled
                && wire.data().first() != Some(&sniff::HANDSHAKE)
                && dialled.poll_spoke(cx).is_ready()
            {
                return Poll::Ready(Spoken::Plain(Sniff::Other));
            }
            control.register(cx.waker());
            if control.wish() == Wish::Cut {
                return Poll::Ready(Spoken::Close);
            }
            alarm.poll(cx, deadline).map(|()| match self.listener.continue_on_timeout {
                true => detect.plain(Sniff::Other),
                false => Spoken::Close,
            })
        })
        .await;
        (spoken, dialled)
    }
}

/// Where a connection was going that the kernel handed over as it was (TPROXY): our end has that address. `None` when
/// the listener itself was dialled.
fn handed_over(listener: &Listener, local: SocketAddr) -> Option<SocketAddr> {
    let own =
        |own: SocketAddr| own.port() == local.port() && (own.ip() == local.ip() || own.ip().is_unspecified());
    (!listener.addresses.iter().filter_map(|address| address.socket()).any(own)).then_some(local)
}

/// Where a redirected connection was going (`SO_ORIGINAL_DST`).
fn original_dst(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let address =
        if stream.local_addr().ok()?.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    address.ok()?.as_socket()
}
