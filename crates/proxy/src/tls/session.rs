//! An established session: what its records say, without I/O.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, Error, ExtractedSecrets, ProtocolVersion};

use super::record::{ALERT, BadRecord, Cipher, DATA, HANDSHAKE, MOST};

/// Records under one key before it is changed: well below the bound of AES-GCM (RFC 8446, 5.5).
const KEY_LIFE: u64 = 1 << 23;
/// Records under a key that cannot be changed (TLS 1.2).
const KEY_END: u64 = 1 << 40;
/// Changes of keys, and empty records, that the peer may have us read between two that carry data.
const IDLE_TALK: u8 = 32;
/// The most that a message of the handshake may take once the handshake is over: a ticket.
const MOST_MESSAGE: usize = 64 * 1024;

const KEY_UPDATE: u8 = 24;
const NEW_SESSION_TICKET: u8 = 4;

/// What breaks an established session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error("the peer ended the TLS session with alert {0}")]
    Alert(u8),
    #[error("an unexpected TLS message")]
    Unexpected,
    #[error("a TLS message that cannot be read")]
    Malformed,
    #[error("{0}")]
    Tls(#[from] Error),
}

impl Broken {
    /// What the peer is told (RFC 8446, 6.2); nothing when it was the peer that ended the session.
    pub(crate) fn alert(&self) -> Option<u8> {
        Some(match self {
            Self::Alert(_) => return None,
            Self::Unexpected | Self::Record(BadRecord::Type) => 10, // unexpected_message
            Self::Record(BadRecord::Forged) => 20,                  // bad_record_mac
            Self::Record(BadRecord::TooLong) => 22,                 // record_overflow
            Self::Malformed | Self::Tls(Error::InvalidMessage(_)) => 50, // decode_error
            Self::Record(BadRecord::WornOut) | Self::Tls(_) => 80,  // internal_error
        })
    }
}

/// The part of rustls that outlives the handshake: it changes keys and keeps tickets.
pub(crate) enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Kernel {
    fn next_key(&mut self, receiving: bool) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match (self, receiving) {
            (Self::Server(kernel), true) => kernel.update_rx_secret(),
            (Self::Server(kernel), false) => kernel.update_tx_secret(),
            (Self::Client(kernel), true) => kernel.update_rx_secret(),
            (Self::Client(kernel), false) => kernel.update_tx_secret(),
        }
    }
}

/// What a record was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Text, at this place of the record.
    Text(std::ops::Range<usize>),
    /// Something for the session itself.
    Control,
    /// The peer sends no more (close_notify).
    End,
}

/// The keys of both directions.
pub(crate) struct Session {
    opening: Cipher,
    sealing: Cipher,
    /// Absent in TLS 1.2, whose keys do not change.
    kernel: Option<Kernel>,
    /// The beginning of a message whose rest is in records to come.
    partial: Vec<u8>,
    idle_talk: u8,
    /// The peer asked for new keys: it gets them before the next data.
    owes_update: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("opening", &self.opening)
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Nothing when the suite has no keys that are known here.
    pub(crate) fn new(secrets: ExtractedSecrets, kernel: Kernel, version: ProtocolVersion) -> Option<Self> {
        Some(Self {
            opening: Cipher::new(secrets.rx, version)?,
            sealing: Cipher::new(secrets.tx, version)?,
            kernel: (version == ProtocolVersion::TLSv1_3).then_some(kernel),
            partial: Vec::new(),
            idle_talk: 0,
            owes_update: false,
        })
    }

    fn newest(&self) -> bool {
        self.kernel.is_some()
    }

    /// Reads one whole record, in place.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Opened, Broken> {
        let (kind, text) = self.opening.open(record)?;
        if kind != HANDSHAKE && !self.partial.is_empty() {
            return Err(Broken::Unexpected);
        }
        match kind {
            DATA if text.is_empty() => self.talk().map(|()| Opened::Control),
            DATA => {
                self.idle_talk = 0;
                Ok(Opened::Text(text))
            }
            ALERT => match record[text] {
                [_, 0] => Ok(Opened::End),
                // A warning of TLS 1.2 that ends nothing, as user_canceled in 1.3.
                [1, _] if !self.newest() => self.talk().map(|()| Opened::Control),
                [_, 90] => self.talk().map(|()| Opened::Control),
                [_, alert] => Err(Broken::Alert(alert)),
                _ => Err(Broken::Malformed),
            },
            HANDSHAKE if self.newest() && !text.is_empty() => {
                self.messages(&record[text])?;
                Ok(Opened::Control)
            }
            _ => Err(Broken::Unexpected),
        }
    }

    fn talk(&mut self) -> Result<(), Broken> {
        self.idle_talk += 1;
        if self.idle_talk > IDLE_TALK { Err(Broken::Unexpected) } else { Ok(()) }
    }

    fn messages(&mut self, text: &[u8]) -> Result<(), Broken> {
        let mut held = std::mem::take(&mut self.partial);
        held.extend_from_slice(text);
        let mut rest = &held[..];
        while let [kind, a, b, c, after @ ..] = rest {
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if len > MOST_MESSAGE {
                return Err(Broken::Malformed);
            }
            let Some((message, next)) = after.split_at_checked(len) else { break };
            self.message(*kind, message, next.is_empty())?;
            rest = next;
        }
        if !rest.is_empty() {
            // Each piece has all before it copied: a message comes in few.
            self.talk()?;
            self.partial = rest.to_vec();
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, message: &[u8], last: bool) -> Result<(), Broken> {
        self.talk()?;
        match (kind, &mut self.kernel) {
            (NEW_SESSION_TICKET, Some(Kernel::Client(kernel))) => {
                Ok(kernel.handle_new_session_ticket(message)?)
            }
            // What follows is under the next key, so nothing may follow in this record.
            (KEY_UPDATE, Some(kernel)) if last => {
                let [request @ 0..=1] = message else { return Err(Broken::Malformed) };
                let secrets = kernel.next_key(true)?;
                self.opening = Cipher::new(secrets, ProtocolVersion::TLSv1_3).ok_or(Broken::Unexpected)?;
                self.owes_update |= *request == 1;
                Ok(())
            }
            _ => Err(Broken::Unexpected),
        }
    }

    /// Bytes that a record has besides its text, a change of keys before it included.
    pub(crate) fn overhead(&self) -> usize {
        let one = self.sealing.overhead();
        if self.newest() { 2 * one + 5 } else { one }
    }

    /// Seals as much of `head` and then of `body` as one record and `out` take. Returns the bytes written to `out` and those
    /// taken from both.
    pub(crate) fn seal(
        &mut self,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, usize), Broken> {
        let mut at = 0;
        if self.owes_update || (self.newest() && self.sealing.used() >= KEY_LIFE) {
            at = self.update(out)?;
        }
        if self.sealing.used() >= KEY_END {
            return Err(BadRecord::WornOut.into());
        }
        let space = (out.len() - at).saturating_sub(self.sealing.overhead()).min(MOST);
        let first = head.len().min(space);
        let second = body.len().min(space - first);
        let record = &mut out[at..];
        let lead = self.sealing.lead();
        record[lead..lead + first].copy_from_slice(&head[..first]);
        record[lead + first..lead + first + second].copy_from_slice(&body[..second]);
        at += self.sealing.seal(DATA, record, first + second)?;
        Ok((at, first + second))
    }

    /// Says to the peer that the next record is under the next key.
    fn update(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        let Some(kernel) = &mut self.kernel else { return Ok(0) };
        let lead = self.sealing.lead();
        out[lead..lead + 5].copy_from_slice(&[KEY_UPDATE, 0, 0, 1, 0]);
        let len = self.sealing.seal(HANDSHAKE, out, 5)?;
        self.sealing =
            Cipher::new(kernel.next_key(false)?, ProtocolVersion::TLSv1_3).ok_or(Broken::Unexpected)?;
        self.owes_update = false;
        Ok(len)
    }

    /// Seals a record of any kind.
    pub(super) fn seal_any(&mut self, kind: u8, text: &[u8], out: &mut [u8]) -> Result<usize, Broken> {
        let lead = self.sealing.lead();
        out[lead..lead + text.len()].copy_from_slice(text);
        Ok(self.sealing.seal(kind, out, text.len())?)
    }

    /// Says to the peer that no more comes (close_notify). Returns the bytes written to `out`.
    pub(crate) fn seal_end(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        self.seal_any(ALERT, &[1, 0], out)
    }

    /// Says to the peer why the session is over. Returns the bytes written to `out`.
    pub(crate) fn seal_alert(&mut self, alert: u8, out: &mut [u8]) -> Result<usize, Broken> {
        self.seal_any(ALERT, &[2, alert], out)
    }
}
