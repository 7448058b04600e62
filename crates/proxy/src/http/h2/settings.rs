//! What the two sides tell each other of themselves (RFC 9113, 6.5).

use super::frame::{self, MAX_FRAME, MAX_WINDOW, WINDOW};
use super::reason::{Fault, Reason};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
/// RFC 8441, 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// Streams that a peer takes before it has said how many.
const STREAMS: u32 = 100;

/// What we say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// We are the server.
    pub(crate) server: bool,
    /// Bytes that a stream may send before it is told to go on (`initial_stream_window_size`).
    pub(crate) stream_window: u32,
    /// The same of the whole connection (`initial_connection_window_size`); at least 65,535.
    pub(crate) connection_window: u32,
    /// Streams that the peer may have open.
    pub(crate) streams: u32,
    /// Bytes of a head's fields, each counted as its name, its value and 32.
    pub(crate) head_bytes: u32,
    /// Fields of a head.
    pub(crate) head_fields: u32,
    /// Extended CONNECT is taken (RFC 8441).
    pub(crate) connect: bool,
}

impl Own {
    /// SETTINGS, and the connection's window as far as it is larger than what it begins with.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if !self.server {
            out.extend_from_slice(frame::PREFACE);
        }
        let at = out.len();
        frame::head(out, 0, frame::SETTINGS, 0, 0);
        let mut one = |name: u16, value: u32| {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        };
        one(INITIAL_WINDOW_SIZE, self.stream_window);
        one(MAX_HEADER_LIST_SIZE, self.head_bytes);
        if self.server {
            one(MAX_CONCURRENT_STREAMS, self.streams);
            if self.connect {
                one(ENABLE_CONNECT_PROTOCOL, 1);
            }
        } else {
            one(ENABLE_PUSH, 0);
        }
        let len = out.len() - at - frame::HEAD;
        out[at + 2] = len as u8;
        if let Some(more) = self.connection_window.checked_sub(WINDOW).filter(|more| *more > 0) {
            frame::window_update(out, 0, more);
        }
    }
}

/// What the peer has said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) table: u32,
    pub(super) streams: u32,
    pub(super) window: u32,
    pub(super) frame: usize,
    pub(super) connect: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Self { table: 4096, streams: STREAMS, window: WINDOW, frame: MAX_FRAME, connect: false }
    }
}

impl Peer {
    /// Takes over a SETTINGS frame. `server`: it is a server's.
    pub(super) fn take(&mut self, payload: &[u8], server: bool) -> Result<(), Fault> {
        if !payload.len().is_multiple_of(6) {
            return Err(Fault::SIZE);
        }
        for setting in payload.chunks_exact(6) {
            let value = frame::number(&setting[2..]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                HEADER_TABLE_SIZE => self.table = value,
                ENABLE_PUSH if value > 1 || (server && value != 0) => return Err(Fault::PROTOCOL),
                MAX_CONCURRENT_STREAMS => self.streams = value,
                INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => {
                    return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
                }
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => return Err(Fault::PROTOCOL),
                MAX_FRAME_SIZE => self.frame = value as usize,
                // What was allowed stays allowed (RFC 8441, 3).
                ENABLE_CONNECT_PROTOCOL if value > 1 || (self.connect && value == 0) => {
                    return Err(Fault::PROTOCOL);
                }
                ENABLE_CONNECT_PROTOCOL => self.connect = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}
