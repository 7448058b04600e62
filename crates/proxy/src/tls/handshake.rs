//! The handshake: rustls's state machine, fed one record at a time.
//!
//! It is never given a record beyond the last one it needs: what follows the handshake is opened by the session.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ExtractedSecrets, ProtocolVersion, ServerConfig};

use super::record;
use super::session::{Kernel, Session};
use crate::conn::hello::{Progress, Reader};
use crate::conn::wire::Wire;

/// The longest ClientHello.
const HELLO: usize = 16 * 1024;
/// The most bytes of session tickets that are kept back: they carry the client's certificates.
const TICKETS: usize = 4096;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What rustls says; the peer was told by an alert.
    #[error("{0}")]
    Tls(#[from] Error),
    #[error("{0}")]
    Record(#[from] record::BadRecord),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The peer has gone, or sent more than a handshake takes.
    #[error("the connection ended within the TLS handshake")]
    Ended,
    #[error("the TLS handshake sent more than a handshake takes")]
    TooLong,
    #[error("the TLS handshake was not done in time")]
    Late,
    /// ALPN agreed on something that is not to be spoken here.
    #[error("the server does not agree to the protocol that is to be spoken (ALPN)")]
    Protocol,
}

/// What a handshake agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) wire: Wire,
    /// SNI, as the client sent it.
    pub(crate) server_name: Option<Box<str>>,
    /// ALPN.
    pub(crate) protocol: Option<Box<[u8]>>,
    /// The client's certificate and those that vouch for it.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// One side of rustls.
pub(super) trait Machine {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn handshaking(&self) -> bool;
    /// It has something to send, as an alert.
    fn wants_write(&self) -> bool;
    fn version(&self) -> Option<ProtocolVersion>;
    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error>;
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn handshaking(&self) -> bool {
        self.is_handshaking()
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
    fn version(&self) -> Option<ProtocolVersion> {
        self.protocol_version()
    }
    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Server(kernel)))
    }
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn handshaking(&self) -> bool {
        self.is_handshaking()
    }
    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }
    fn version(&self) -> Option<ProtocolVersion> {
        self.protocol_version()
    }
    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Client(kernel)))
    }
}

/// The server's side. What was read already may be the beginning of the client's hello; `server_name` is what it was found
/// to ask for.
pub(crate) async fn accept(
    mut wire: Wire,
    config: Arc<ServerConfig>,
    server_name: Option<Box<str>>,
) -> Result<Agreed, Failure> {
    let server_name = match server_name {
        Some(name) => Some(name),
        None => asked_for(&mut wire).await?,
    };
    let mut machine = Box::new(UnbufferedServerConnection::new(config)?);
    drive(&mut wire, &mut *machine).await?;
    // Tickets wait for the first text; all else that is left, the client waits for.
    if machine.version() != Some(ProtocolVersion::TLSv1_3) || wire.output().len() > TICKETS {
        poll_fn(|cx| wire.poll_flush(cx)).await?;
    }
    let protocol = machine.alpn_protocol().map(Into::into);
    let certificates = machine.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    Ok(Agreed { wire: establish(wire, *machine)?, server_name, protocol, certificates })
}

/// The name that the client asks for; what is no hello is left to rustls to refuse.
async fn asked_for(wire: &mut Wire) -> Result<Option<Box<str>>, Failure> {
    let mut reader = Reader::new(HELLO);
    poll_fn(|cx| {
        loop {
            match reader.read(wire.data()) {
                Progress::More => {}
                Progress::Whole(hello) => return Poll::Ready(Ok(hello.server_name)),
                Progress::Malformed => return Poll::Ready(Ok(None)),
                Progress::TooLarge => return Poll::Ready(Err(Failure::TooLong)),
            }
            match ready!(wire.poll_fill(cx))? {
                0 if wire.eof() => return Poll::Ready(Err(Failure::Ended)),
                0 => return Poll::Ready(Err(Failure::TooLong)),
                _ => {}
            }
        }
    })
    .await
}

/// The client's side; `protocols` are offered by ALPN.
pub(crate) async fn connect(
    mut wire: Wire,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    protocols: Vec<Vec<u8>>,
) -> Result<Agreed, Failure> {
    let mut machine = Box::new(UnbufferedClientConnection::new_with_alpn(config, name, protocols)?);
    drive(&mut wire, &mut *machine).await?;
    poll_fn(|cx| wire.poll_flush(cx)).await?;
    let protocol = machine.alpn_protocol().map(Into::into);
    let wire = establish(wire, *machine)?;
    Ok(Agreed { wire, server_name: None, protocol, certificates: Vec::new() })
}

fn establish(wire: Wire, machine: impl Machine) -> Result<Wire, Failure> {
    Ok(wire.secured(session(machine)?))
}

/// The keys of a handshake that is done.
pub(super) fn session(machine: impl Machine) -> Result<Session, Failure> {
    let version = machine.version().ok_or(Error::HandshakeNotComplete)?;
    let (secrets, kernel) = machine.finish()?;
    let unknown = || Error::General("the cipher suite has no keys that are known here".into());
    Ok(Session::new(secrets, kernel, version).ok_or_else(unknown)?)
}

/// What rustls wants next.
pub(super) enum Next {
    Again,
    Read,
    Done,
    Fail(Error),
    Ended,
}

/// Makes the handshake. What is left to be sent is in the output.
async fn drive(wire: &mut Wire, machine: &mut impl Machine) -> Result<(), Failure> {
    // Bytes at the front of what was read that rustls may see: whole records.
    let mut offered = 0;
    loop {
        let (input, output) = wire.halves();
        let (discard, next) = step(machine, &mut input[..offered], output);
        wire.consume(discard);
        offered -= discard;
        match next {
            Next::Again => {}
            Next::Done if offered == 0 && !machine.handshaking() => return Ok(()),
            Next::Read | Next::Done => offered += next_record(wire, offered).await?,
            Next::Ended => return Err(Failure::Ended),
            Next::Fail(error) => {
                // A peer that does not read why is not waited for.
                alert(machine, wire.output());
                poll_fn(|cx| {
                    let _ = wire.poll_shutdown(cx);
                    Poll::Ready(())
                })
                .await;
                return Err(error.into());
            }
        }
    }
}

/// Lets rustls look at whole records. Returns how many bytes of them it is done with.
pub(super) fn step(machine: &mut impl Machine, input: &mut [u8], output: &mut Vec<u8>) -> (usize, Next) {
    let UnbufferedStatus { discard, state } = machine.process(input);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let at = output.len();
            if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                output.resize(at + size.required_size, 0);
                let _ = data.encode(&mut output[at..]);
            }
            Next::Again
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Next::Again
        }
        Ok(ConnectionState::BlockedHandshake) => Next::Read,
        Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
        Ok(_) => Next::Ended,
        Err(error) => Next::Fail(error),
    };
    (discard, next)
}

/// Puts the alert that says why a handshake failed behind the output. No more may be asked for: broken input must not be
/// looked at again.
pub(super) fn alert(machine: &mut impl Machine, output: &mut Vec<u8>) {
    while machine.wants_write() {
        step(machine, &mut [], output);
    }
}

/// Waits for the record behind those that were `offered`. Returns its length.
async fn next_record(wire: &mut Wire, offered: usize) -> Result<usize, Failure> {
    let outcome = poll_fn(|cx| {
        // What is to be sent goes first: the peer may wait for it.
        ready!(wire.poll_flush(cx))?;
        loop {
            match record::whole(&wire.data()[offered..]) {
                Ok(Some(len)) => return Poll::Ready(Ok(len)),
                Ok(None) => {}
                Err(bad) => return Poll::Ready(Err(Failure::Record(bad))),
            }
            match ready!(wire.poll_fill(cx))? {
                0 if wire.eof() => return Poll::Ready(Err(Failure::Ended)),
                0 => return Poll::Ready(Err(Failure::TooLong)),
                _ => {}
            }
        }
    });
    outcome.await
}
