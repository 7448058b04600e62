//! The record layer of an established session: one direction's keys, and records opened and sealed in place.
//!
//! The handshake is rustls's. What follows is done here, so that a record is decrypted where it was read, a head and its
//! body leave in one record, and a connection at rest holds two keys and no buffer.

use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

/// Type, version and length stand before each record.
pub(crate) const HEADER: usize = 5;
/// The most plain text of one record (RFC 8446, 5.1).
pub(crate) const MOST: usize = 16 * 1024;
/// The most that follows a header: RFC 8446, 5.2 allows 256 bytes more than the text, RFC 5246, 6.2.3 allows 2048.
const MOST_SEALED: usize = MOST + 256;
const MOST_SEALED_12: usize = MOST + 2048;
const TAG: usize = 16;

/// Content types (RFC 8446, appendix B.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// What is wrong with a record. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("a TLS record of an unknown or unexpected type")]
    Type,
    #[error("a TLS record is longer than allowed")]
    TooLong,
    #[error("a TLS record was damaged or forged")]
    Forged,
    #[error("the keys of this TLS session are worn out")]
    WornOut,
}

/// Bytes of the record that begins here, its header included; `None` when more is needed to tell, or to have it whole.
pub(crate) fn whole(data: &[u8]) -> Result<Option<usize>, BadRecord> {
    let Some(len) = announced(data)? else { return Ok(None) };
    Ok((data.len() >= len).then_some(len))
}

/// Bytes of the record that begins here, whether they have come or not.
pub(crate) fn announced(data: &[u8]) -> Result<Option<usize>, BadRecord> {
    let [kind, major, _, high, low, ..] = data else { return Ok(None) };
    if !(20..=24).contains(kind) || *major != 3 {
        return Err(BadRecord::Type);
    }
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > MOST_SEALED_12 {
        return Err(BadRecord::TooLong);
    }
    Ok(Some(HEADER + len))
}

/// The keys of one direction.
pub(crate) struct Cipher {
    key: LessSafeKey,
    iv: [u8; 12],
    seq: u64,
    /// TLS 1.3; else 1.2.
    newest: bool,
    /// AES-GCM in TLS 1.2 carries half of its nonce in the record.
    explicit: bool,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Cipher {
    /// Nothing when the suite is not one of those rustls has today.
    pub(crate) fn new(
        (seq, secrets): (u64, ConnectionTrafficSecrets),
        version: ProtocolVersion,
    ) -> Option<Self> {
        let (algorithm, key, iv, gcm) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, true),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, true),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv, false),
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        let iv = iv.as_ref().try_into().ok()?;
        let newest = version == ProtocolVersion::TLSv1_3;
        Some(Self { key, iv, seq, newest, explicit: gcm && !newest })
    }

    /// Bytes that a record has besides its text.
    pub(crate) fn overhead(&self) -> usize {
        HEADER + TAG + usize::from(self.newest) + 8 * usize::from(self.explicit)
    }

    /// Bytes before the text of a record.
    pub(crate) fn lead(&self) -> usize {
        HEADER + 8 * usize::from(self.explicit)
    }

    /// Records sealed or opened with this key.
    pub(crate) fn used(&self) -> u64 {
        self.seq
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, seq) in nonce[4..].iter_mut().zip(self.seq.to_be_bytes()) {
            *byte ^= seq;
        }
        nonce
    }

    /// What TLS 1.2 authenticates besides the text (RFC 5246, 6.2.3.3).
    fn older_aad(&self, head: [u8; 3], len: usize) -> [u8; 13] {
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&self.seq.to_be_bytes());
        aad[8..11].copy_from_slice(&head);
        aad[11..].copy_from_slice(&(len as u16).to_be_bytes());
        aad
    }

    fn advance(&mut self) -> Result<(), BadRecord> {
        self.seq = self.seq.checked_add(1).ok_or(BadRecord::WornOut)?;
        Ok(())
    }

    /// Decrypts one whole record where it stands. Returns its type, and where in it the text is.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), BadRecord> {
        let (header, sealed) = record.split_at_mut(HEADER);
        let header: [u8; HEADER] = (&*header).try_into().map_err(|_| BadRecord::Type)?;
        if self.newest {
            if header[0] != DATA {
                return Err(BadRecord::Type);
            }
            if sealed.len() > MOST_SEALED {
                return Err(BadRecord::TooLong);
            }
            let nonce = Nonce::assume_unique_for_key(self.nonce());
            let opened =
                self.key.open_in_place(nonce, Aad::from(header), sealed).map_err(|_| BadRecord::Forged)?;
            // Padding is zeros behind the real type.
            let at = opened.iter().rposition(|byte| *byte != 0).ok_or(BadRecord::Type)?;
            if at > MOST {
                return Err(BadRecord::TooLong);
            }
            let kind = opened[at];
            self.advance()?;
            return Ok((kind, HEADER..HEADER + at));
        }
        let lead = self.lead() - HEADER;
        let len = sealed.len().checked_sub(lead + TAG).ok_or(BadRecord::Forged)?;
        if len > MOST {
            return Err(BadRecord::TooLong);
        }
        let mut nonce = self.nonce();
        if self.explicit {
            nonce[4..].copy_from_slice(&sealed[..8]);
        }
        let aad = Aad::from(self.older_aad([header[0], header[1], header[2]], len));
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.open_in_place(nonce, aad, &mut sealed[lead..]).map_err(|_| BadRecord::Forged)?;
        self.advance()?;
        Ok((header[0], HEADER + lead..HEADER + lead + len))
    }

    /// Encrypts the text that stands at [`Cipher::lead`] of `record` for `len` bytes. Returns the record's length.
    pub(crate) fn seal(&mut self, kind: u8, record: &mut [u8], len: usize) -> Result<usize, BadRecord> {
        let (lead, total) = (self.lead(), len + self.overhead());
        let nonce = self.nonce();
        let outer = if self.newest { DATA } else { kind };
        record[..3].copy_from_slice(&[outer, 3, 3]);
        record[3..HEADER].copy_from_slice(&((total - HEADER) as u16).to_be_bytes());
        let header: [u8; HEADER] = [record[0], record[1], record[2], record[3], record[4]];
        if self.explicit {
            record[HEADER..lead].copy_from_slice(&nonce[4..]);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (text, tag) = record[lead..total].split_at_mut(len + usize::from(self.newest));
        let made = if self.newest {
            text[len] = kind;
            self.key.seal_in_place_separate_tag(nonce, Aad::from(header), text)
        } else {
            self.key.seal_in_place_separate_tag(nonce, Aad::from(self.older_aad([kind, 3, 3], len)), text)
        };
        tag.copy_from_slice(made.map_err(|_| BadRecord::WornOut)?.as_ref());
        self.advance()?;
        Ok(total)
    }
}

#[cfg(test)]
#[path = "record_test.rs"]
mod record_test;
