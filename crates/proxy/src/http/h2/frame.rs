//! Frames (RFC 9113, 4 and 6).

use super::reason::{Fault, Reason};

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// The largest frame that is taken: what every implementation must take, and the default of `SETTINGS_MAX_FRAME_SIZE`.
pub(super) const MAX_FRAME: usize = 16_384;
/// What a window holds before anything is said, and the most it may hold.
pub(super) const WINDOW: u32 = 65_535;
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// `None` when there are too few bytes.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *data.first_chunk::<HEAD>()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { len, kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]) })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without its padding (RFC 9113, 6.1).
    pub(super) fn unpadded<'p>(&self, payload: &'p [u8]) -> Result<&'p [u8], Fault> {
        if !self.has(PADDED) {
            return Ok(payload);
        }
        let (padding, rest) = payload.split_first().ok_or(Fault::SIZE)?;
        let len = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault::PROTOCOL)?;
        Ok(&rest[..len])
    }

    /// What is left of the payload of HEADERS, and whether the stream claims to depend on itself.
    pub(super) fn block<'p>(&self, payload: &'p [u8]) -> Result<(&'p [u8], bool), Fault> {
        let payload = self.unpadded(payload)?;
        if !self.has(PRIORITIZED) {
            return Ok((payload, false));
        }
        let (priority, block) = payload.split_at_checked(5).ok_or(Fault::SIZE)?;
        Ok((block, number(priority) & 0x7fff_ffff == self.stream))
    }
}

/// The first four bytes as a number; 0 where there are fewer.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

fn bytes(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

pub(super) fn head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&bytes(len, kind, flags, stream));
}

pub(super) fn reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    head(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&reason.0.to_be_bytes());
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

pub(super) fn goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    head(out, 8, GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&reason.0.to_be_bytes());
}

pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: &[u8]) {
    head(out, 8, PING, flags, 0);
    out.extend_from_slice(payload);
}

/// A block of fields that was written behind room for a frame's head at `at`: as one frame, or as many as it takes.
pub(super) fn close_block(out: &mut Vec<u8>, at: usize, flags: u8, stream: u32, most: usize) {
    let len = out.len() - at - HEAD;
    if len <= most {
        out[at..at + HEAD].copy_from_slice(&bytes(len, HEADERS, flags | END_HEADERS, stream));
        return;
    }
    let block = out.split_off(at + HEAD);
    out.truncate(at);
    let pieces = block.len().div_ceil(most);
    for (number, piece) in block.chunks(most).enumerate() {
        let end = if number + 1 == pieces { END_HEADERS } else { 0 };
        match number {
            0 => head(out, piece.len(), HEADERS, flags | end, stream),
            _ => head(out, piece.len(), CONTINUATION, end, stream),
        }
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
#[path = "frame_test.rs"]
mod frame_test;
