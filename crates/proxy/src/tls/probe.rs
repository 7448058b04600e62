//! TLS from outside, for fuzzers: whatever bytes come before, at and after the handshake, nothing may panic.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;

use super::accept::{Acceptor, Material};
use super::certificate::{Certificate, certificates, sha256};
use super::handshake::{Machine, Next, alert, session, step};
use super::originate::Connector;
use super::record;
use super::session::{Opened, Session};
use super::verify::Validation;
use crate::snapshot::{CommonTls, DownstreamTls, Name, Resumption, UpstreamTls};

/// Both sides, with one certificate that each trusts.
#[derive(Debug)]
pub struct Probe {
    acceptor: Acceptor,
    connector: Connector,
}

fn common() -> CommonTls {
    CommonTls {
        versions: [true, true],
        suites: Box::default(),
        groups: Box::default(),
        certificates: Box::default(),
        validation: Box::default(),
        protocols: Box::default(),
    }
}

impl Probe {
    /// `chain` and `key` are PEM; the certificate has signed itself.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn new(chain: &str, key: &str) -> Result<Self, String> {
        let certificate = Arc::new(Certificate::from_pem(chain.as_bytes(), key.as_bytes(), None)?);
        let roots = certificates(chain.as_bytes())?;
        let anchors =
            roots.iter().filter_map(|root| Some(webpki::anchor_from_trusted_cert(root).ok()?.to_owned()));
        let validation = Arc::new(Validation {
            anchors: anchors.collect(),
            trusted: roots.iter().map(|root| sha256(root)).collect(),
            ..Validation::default()
        });
        let material =
            || Material { certificates: vec![certificate.clone()], validation: vec![validation.clone()] };
        let downstream = DownstreamTls {
            key: Name::new("probe"),
            common: common(),
            require_client_certificate: true,
            require_sni: false,
            prefer_client_ciphers: false,
            resumption: Resumption::Tickets,
            session_timeout: Duration::from_secs(60),
        };
        let upstream = UpstreamTls {
            key: Name::new("probe"),
            common: common(),
            sni: None,
            auto_host_sni: false,
            auto_sni: false,
            own_name: false,
            max_sessions: 1,
        };
        Ok(Self {
            acceptor: Acceptor::new(&downstream, material(), None)?,
            connector: Connector::new(&upstream, material())?,
        })
    }

    fn client(&self) -> Option<UnbufferedClientConnection> {
        let name = ServerName::try_from("probe.example.com").ok()?;
        UnbufferedClientConnection::new(self.connector.config.clone(), name).ok()
    }

    fn server(&self) -> Option<UnbufferedServerConnection> {
        UnbufferedServerConnection::new(self.acceptor.config.clone()).ok()
    }

    /// The first byte chooses the side, and whether the rest stands alone or changes what a good peer sends. True when the
    /// side had something to say to it.
    pub fn handshake(&self, data: &[u8]) -> bool {
        let [choice, data @ ..] = data else { return false };
        let (Some(mut client), Some(mut server)) = (self.client(), self.server()) else { return false };
        let hello = feed(&mut client, Vec::new()).1;
        match choice % 4 {
            0 => feed(&mut server, data.to_vec()).0,
            1 => feed(&mut server, changed(hello, data)).0,
            2 => feed(&mut client, data.to_vec()).0,
            _ => {
                let flight = feed(&mut server, hello).1;
                feed(&mut client, changed(flight, data)).0
            }
        }
    }

    /// Records of any kind and content, sealed with the right keys: the first byte chooses the side that gets them, then each
    /// is a type, a length and that many bytes. True when one was accepted.
    pub fn established(&self, data: &[u8]) -> bool {
        let [choice, data @ ..] = data else { return false };
        let Some((client, server)) = self.pair() else { return false };
        let (mut from, mut to) = if choice % 2 == 0 { (client, server) } else { (server, client) };
        let (mut rest, mut good) = (data, false);
        while let [kind, len, after @ ..] = rest {
            let (text, next) = after.split_at(after.len().min((*len).into()));
            rest = next;
            let mut buffer = vec![0; text.len() + from.overhead()];
            let Ok(len) = from.seal_any(*kind, text, &mut buffer) else { return good };
            match to.open(&mut buffer[..len]) {
                // A type of 0 is padding, and what stands before it the type.
                Ok(Opened::Text(at)) if *kind == record::DATA => assert_eq!(&buffer[at], text),
                Ok(Opened::Text(_)) => {}
                Ok(Opened::Control) => {}
                Ok(Opened::End) | Err(_) => return good,
            }
            good = true;
            // What it owes goes out with its next data.
            let mut buffer = vec![0; 64 + to.overhead()];
            let Ok((_, 1)) = to.seal(b"x", b"", &mut buffer) else { panic!("one byte fits") };
        }
        good
    }

    fn pair(&self) -> Option<(Session, Session)> {
        let (mut client, mut server) = (self.client()?, self.server()?);
        let (mut to_server, mut to_client) = (feed(&mut client, Vec::new()).1, Vec::new());
        for _ in 0..4 {
            to_client.append(&mut feed(&mut server, std::mem::take(&mut to_server)).1);
            to_server = feed(&mut client, std::mem::take(&mut to_client)).1;
        }
        Some((session(client).ok()?, session(server).ok()?))
    }
}

/// Changes bytes: each pair of `data` is a place and what is put there by XOR.
fn changed(mut good: Vec<u8>, data: &[u8]) -> Vec<u8> {
    for three in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([three[0], three[1]])) % good.len().max(1);
        if let Some(byte) = good.get_mut(at) {
            *byte ^= three[2];
        }
    }
    good
}

/// Gives all of `data` to a side. Returns whether it answered, and with what.
fn feed(machine: &mut impl Machine, mut data: Vec<u8>) -> (bool, Vec<u8>) {
    let (mut at, mut offered, mut output) = (0, 0, Vec::new());
    loop {
        let (discard, next) = step(machine, &mut data[at..at + offered], &mut output);
        at += discard;
        offered -= discard;
        match next {
            Next::Again => {}
            Next::Done | Next::Read => match record::whole(&data[at + offered..]) {
                Ok(Some(len)) => offered += len,
                _ => return (!output.is_empty(), output),
            },
            Next::Ended => return (!output.is_empty(), output),
            Next::Fail(_) => {
                alert(machine, &mut output);
                return (!output.is_empty(), output);
            }
        }
    }
}

#[cfg(test)]
mod probe_test {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::tls::record::HANDSHAKE;

    #[test]
    fn a_message_in_very_many_pieces_ends_the_session() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["probe.example.com".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let probe = Probe::new(&certificate.pem(), &key.serialize_pem()).unwrap();
        let (mut from, mut to) = probe.pair().unwrap();
        // It announces 60,000 bytes, and comes byte by byte.
        let announced = [4, 0, 0xea, 0x60].into_iter().chain(std::iter::repeat_n(0, 1000));
        let taken = announced.take_while(|byte| {
            let mut record = [0; 64];
            let len = from.seal_any(HANDSHAKE, &[*byte], &mut record).unwrap();
            to.open(&mut record[..len]).is_ok()
        });
        assert_eq!(taken.count(), 32);
    }
}
