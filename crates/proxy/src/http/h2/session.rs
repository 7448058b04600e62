//! One connection's side of HTTP/2, without I/O: bytes that came are given to [`Session::step`], and bytes to be sent
//! gather in [`Session::out`].

use std::collections::VecDeque;

use tokio::time::Instant;

use super::fields::Limits;
use super::frame::{self, Head};
use super::hpack::{Decoder, Encoder};
use super::meter::{Flood, Meter};
use super::reason::{Ended, Fault, Reason};
use super::settings::{Own, Peer};
use super::streams::Streams;
use crate::http::h1::parse::Malformed;
use crate::http::head::ResponseHead;
use crate::worker::Heads;

/// The table that headers are compressed with, at either side (RFC 9113, 6.5.2: the default).
const TABLE: usize = 4096;
/// Streams that we have reset and that the peer may still send to.
const BROKEN: usize = 128;
/// Memory for output that a connection at rest keeps.
const SMALL: usize = 512;
/// What the PING of a connection that is being left carries.
const LEAVING: [u8; 8] = *b"leaving.";

/// What a step found.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes are done with.
    Took(usize),
    /// So many bytes are done with, and a request has begun.
    Request(usize, Opened),
}

/// A request that has begun; its head is where the step was told to put it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(super) key: u32,
    /// Length of the body, when known.
    pub(crate) length: Option<u64>,
    /// Why it is to be refused.
    pub(crate) refused: Option<Malformed>,
}

/// A block of fields that is not complete.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) head: Head,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u32,
    /// The stream is told to depend on itself.
    pub(super) own_parent: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) own: Own,
    pub(super) peer: Peer,
    pub(super) streams: Streams,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    /// The stream and the place of the last frame with fields or data in `out`.
    pub(super) tail: (u32, usize),
    /// Streams that have something to send, in turn.
    pub(super) queue: VecDeque<u32>,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) block: Option<Box<Block>>,
    pub(super) meter: Meter,
    /// Bytes that we may send, of all streams.
    pub(super) credit: i64,
    /// Bytes that the peer may send, and those it may have back.
    pub(super) window: i64,
    pub(super) taken: u32,
    /// The last stream that the peer has opened, and the last numbers it has left out.
    pub(super) last: u32,
    pub(super) skipped: (u32, u32),
    /// The stream that we open next.
    pub(super) next: u32,
    pub(super) broken: VecDeque<u32>,
    pub(super) forgotten: u32,
    #[expect(clippy::vec_box, reason = "what is kept is the box: it goes to a stream and comes back")]
    pub(super) spare: Vec<Box<ResponseHead>>,
    /// The first SETTINGS have come.
    begun: bool,
    /// Ours were taken note of.
    pub(super) agreed: bool,
    /// We take no new streams: said for good.
    pub(super) left: bool,
    leaving: bool,
    /// The peer takes no new streams.
    pub(super) peer_left: bool,
    dead: Option<Fault>,
    pub(super) flood: Option<Flood>,
    /// PINGs of ours that were answered.
    pub(crate) pongs: u32,
}

impl Session {
    pub(crate) fn new(own: Own) -> Self {
        let mut out = Vec::with_capacity(256);
        own.write(&mut out);
        Self {
            own,
            peer: Peer::default(),
            streams: Streams::default(),
            out,
            tail: (0, 0),
            queue: VecDeque::new(),
            encoder: Encoder::new(),
            decoder: Decoder::new(TABLE),
            block: None,
            meter: Meter::default(),
            credit: frame::WINDOW.into(),
            window: own.connection_window.max(frame::WINDOW).into(),
            taken: 0,
            last: 0,
            skipped: (0, 0),
            next: 1,
            broken: VecDeque::new(),
            forgotten: 0,
            spare: Vec::new(),
            begun: false,
            agreed: false,
            left: false,
            leaving: false,
            peer_left: false,
            dead: None,
            flood: None,
            pongs: 0,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { bytes: self.own.head_bytes as usize, fields: self.own.head_fields as usize }
    }

    /// Whether the peer takes extended CONNECT (RFC 8441, 3); nothing before it has said.
    pub(super) fn takes_connect(&self) -> Option<bool> {
        self.begun.then_some(self.peer.connect)
    }

    /// Reads the frame at the front of `data`. A request's head goes to `heads`, which a server's caller has filled.
    /// After a fault nothing more is read; the peer is told.
    pub(crate) fn step(&mut self, data: &[u8], heads: &mut Option<Box<Heads>>) -> Step {
        if self.dead.is_some() {
            return Step::Took(data.len());
        }
        let Some(head) = Head::parse(data) else { return Step::More };
        let payload = match data.get(frame::HEAD..frame::HEAD + head.len) {
            _ if head.len > frame::MAX_FRAME => Err(Fault::SIZE),
            Some(payload) => Ok(payload),
            None => return Step::More,
        };
        let len = frame::HEAD + head.len;
        match payload.and_then(|payload| self.take(head, payload, heads)) {
            Ok(Some(opened)) => Step::Request(len, opened),
            Ok(None) => Step::Took(len),
            Err(Fault::Stream(reason)) => {
                self.break_stream(head.stream, reason);
                Step::Took(len)
            }
            Err(fault) => {
                self.fail(fault);
                Step::Took(data.len())
            }
        }
    }

    fn take(
        &mut self,
        head: Head,
        payload: &[u8],
        heads: &mut Option<Box<Heads>>,
    ) -> Result<Option<Opened>, Fault> {
        if !self.begun && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(Fault::PROTOCOL);
        }
        if let Some(block) = &self.block
            && (head.kind != frame::CONTINUATION || head.stream != block.head.stream)
        {
            return Err(Fault::PROTOCOL);
        }
        if let Some(flood) = self.meter.came(head, Instant::now) {
            self.flood = Some(flood);
            return Err(Fault::CALM);
        }
        match head.kind {
            frame::DATA => self.take_data(head, payload)?,
            frame::HEADERS => return self.take_headers(head, payload, heads),
            frame::CONTINUATION => return self.take_continuation(head, payload, heads),
            frame::PRIORITY => take_priority(head, payload)?,
            frame::RST_STREAM => self.take_reset(head, payload)?,
            frame::SETTINGS => self.take_settings(head, payload)?,
            // Only servers push, and ours were told not to.
            frame::PUSH_PROMISE => return Err(Fault::PROTOCOL),
            frame::PING => self.take_ping(head, payload)?,
            frame::GOAWAY => self.take_goaway(head, payload)?,
            frame::WINDOW_UPDATE => self.take_window_update(head, payload)?,
            _ => {}
        }
        Ok(None)
    }

    fn take_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::PROTOCOL);
        }
        if head.has(frame::ACK) {
            self.agreed = true;
            return if payload.is_empty() { Ok(()) } else { Err(Fault::SIZE) };
        }
        let before = i64::from(self.peer.window);
        self.peer.take(payload, !self.own.server)?;
        if !std::mem::replace(&mut self.begun, true) && self.peer.streams == Peer::default().streams {
            // Who names no limit has none.
            let named = payload.chunks_exact(6).any(|setting| setting[..2] == [0, 3]);
            self.peer.streams = if named { self.peer.streams } else { u32::MAX };
        }
        self.encoder.set_max_table_size(TABLE.min(self.peer.table as usize));
        let change = i64::from(self.peer.window) - before;
        if change != 0 {
            for key in self.streams.each_open() {
                self.add_credit(key, change)?;
            }
        }
        frame::head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(())
    }

    fn take_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match (head.stream, payload.len()) {
            (0, 8) => {}
            (0, _) => return Err(Fault::SIZE),
            _ => return Err(Fault::PROTOCOL),
        }
        if !head.has(frame::ACK) {
            frame::ping(&mut self.out, frame::ACK, payload);
        } else if payload == LEAVING {
            self.leave_for_good();
        } else {
            self.pongs = self.pongs.wrapping_add(1);
        }
        Ok(())
    }

    fn take_goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::PROTOCOL);
        }
        if payload.len() < 8 {
            return Err(Fault::SIZE);
        }
        self.peer_left = true;
        if !self.own.server {
            let last = frame::number(payload) & 0x7fff_ffff;
            for key in self.streams.each_open() {
                if self.streams.slot(key).id > last {
                    self.end_stream(key, Ended::Unprocessed);
                }
            }
        }
        Ok(())
    }

    fn take_window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::SIZE);
        }
        let by = i64::from(frame::number(payload) & 0x7fff_ffff);
        if head.stream == 0 {
            self.credit += by;
            return match by {
                0 => Err(Fault::PROTOCOL),
                _ if self.credit > frame::MAX_WINDOW => Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR)),
                _ => Ok(()),
            };
        }
        let Some(key) = self.streams.find(head.stream) else {
            return if self.is_idle(head.stream) { Err(Fault::PROTOCOL) } else { Ok(()) };
        };
        if by == 0 {
            return Err(Fault::MALFORMED);
        }
        self.add_credit(key, by).map_err(|_| Fault::Stream(Reason::FLOW_CONTROL_ERROR))
    }

    /// Ends the connection because of what the peer did; it is told.
    pub(crate) fn fail(&mut self, fault: Fault) {
        let (Fault::Connection(reason) | Fault::Stream(reason)) = fault;
        frame::goaway(&mut self.out, self.last, reason);
        self.dead = Some(fault);
        self.end_all(Ended::Broke(reason));
    }

    /// The connection has ended.
    pub(crate) fn lost(&mut self) {
        self.peer_left = true;
        self.end_all(Ended::Lost);
    }

    fn end_all(&mut self, ended: Ended) {
        for key in self.streams.each_open() {
            self.end_stream(key, ended);
        }
    }

    /// Begins to leave: the peer is asked to open no more streams, and those under way are still taken.
    pub(crate) fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) && self.dead.is_none() {
            frame::goaway(&mut self.out, frame::MAX_WINDOW as u32, Reason::NO_ERROR);
            frame::ping(&mut self.out, 0, &LEAVING);
        }
    }

    /// What was on its way when the peer was asked has come: from now on nothing new is taken.
    pub(crate) fn leave_for_good(&mut self) {
        if self.leaving && !std::mem::replace(&mut self.left, true) && self.dead.is_none() {
            frame::goaway(&mut self.out, self.last, Reason::NO_ERROR);
        }
    }

    /// Says that nothing more comes from us, when nobody takes part in anything.
    pub(crate) fn bye(&mut self) {
        if self.is_idle_now() && !self.left && self.dead.is_none() {
            self.left = true;
            frame::goaway(&mut self.out, self.last, Reason::NO_ERROR);
        }
    }

    /// The peer has broken a rule.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.dead
    }

    /// The flood that ended the connection.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Nobody takes part in any stream.
    pub(crate) fn is_idle_now(&self) -> bool {
        self.streams.len() == 0
    }

    /// One side has said that there is no more to come, and there is nothing left.
    pub(crate) fn is_done(&self) -> bool {
        (self.left || self.peer_left) && self.is_idle_now()
    }

    /// Gives back the memory that a connection at rest does not need.
    pub(crate) fn rest(&mut self) {
        self.streams.rest();
        self.spare.truncate(1);
        if self.out.is_empty() && self.out.capacity() > SMALL {
            self.out = Vec::new();
        }
    }

    /// A stream that was never opened.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.own.server {
            true => {
                let skipped = (self.skipped.0..=self.skipped.1).contains(&id);
                skipped || id > self.last || id.is_multiple_of(2)
            }
            false => id >= self.next || id.is_multiple_of(2),
        }
    }

    /// True for a closed stream that the peer could not know to be closed when it sent.
    pub(super) fn is_forgiven(&self, id: u32) -> bool {
        id <= self.forgotten || self.broken.contains(&id)
    }

    pub(super) fn forgive(&mut self, id: u32) {
        if self.broken.len() == BROKEN
            && let Some(oldest) = self.broken.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.broken.push_back(id);
    }
}

fn take_priority(head: Head, payload: &[u8]) -> Result<(), Fault> {
    match payload.len() {
        _ if head.stream == 0 => Err(Fault::PROTOCOL),
        5 if frame::number(payload) & 0x7fff_ffff == head.stream => Err(Fault::MALFORMED),
        5 => Ok(()),
        _ => Err(Fault::Stream(Reason::FRAME_SIZE_ERROR)),
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod session_test;
