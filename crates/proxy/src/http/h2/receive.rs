//! What streams receive.

use super::fields::{Ignored, Request, Response, Trailers, Verdict};
use super::frame::{self, Head};
use super::hpack;
use super::reason::{Ended, Fault, Reason};
use super::session::{Block, Opened, Session};
use crate::worker::Heads;

/// Frames that one block of fields may come in.
const FRAMES: u32 = 64;
/// Streams that have ended for the peer and not yet for us, beyond the limit of those that are open.
const SLACK: usize = 128;
/// Interim responses to one request that wait for it: as many as are passed on at all.
const INTERIM: u32 = 101;
/// Unused heads of responses that are kept.
const SPARE: usize = 8;

impl Session {
    pub(super) fn take_data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let body = head.unpadded(payload)?;
        self.window -= head.len as i64;
        if self.window < 0 {
            return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
        }
        let Some(key) = self.streams.find(head.stream) else {
            if head.stream == 0 || self.is_idle(head.stream) {
                return Err(Fault::PROTOCOL);
            }
            self.give_back(head.len);
            return if self.is_forgiven(head.stream) {
                Ok(())
            } else {
                Err(Fault::Connection(Reason::STREAM_CLOSED))
            };
        };
        let server = self.own.server;
        let slot = self.streams.slot(key);
        slot.window -= head.len as i64;
        let fault = if !slot.receiving {
            Some(Reason::STREAM_CLOSED)
        } else if slot.window < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !slot.owes(body.len(), head.has(frame::END_STREAM)) || !(server || slot.answered) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = fault {
            self.give_back(head.len);
            return Err(Fault::Stream(reason));
        }
        if slot.held {
            slot.inbox.push(body);
        }
        slot.wake();
        let unread = if slot.held { head.len - body.len() } else { head.len };
        self.took(key, unread);
        self.give_back(0);
        if head.has(frame::END_STREAM) {
            self.complete(key);
        }
        Ok(())
    }

    pub(super) fn take_headers(
        &mut self,
        head: Head,
        payload: &[u8],
        heads: &mut Option<Box<Heads>>,
    ) -> Result<Option<Opened>, Fault> {
        if head.stream == 0 || (self.own.server && head.stream.is_multiple_of(2)) {
            return Err(Fault::PROTOCOL);
        }
        let (block, own_parent) = head.block(payload)?;
        if !head.has(frame::END_HEADERS) {
            self.block = Some(Box::new(Block { head, bytes: block.to_vec(), frames: 1, own_parent }));
            return Ok(None);
        }
        self.take_block(head, block, own_parent, heads)
    }

    pub(super) fn take_continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        heads: &mut Option<Box<Heads>>,
    ) -> Result<Option<Opened>, Fault> {
        let most = self.limits().bytes.saturating_mul(2) + frame::MAX_FRAME;
        let mut block = self.block.take().ok_or(Fault::PROTOCOL)?;
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        if block.frames > FRAMES || block.bytes.len() > most {
            return Err(Fault::CALM);
        }
        if head.has(frame::END_HEADERS) {
            return self.take_block(block.head, &block.bytes, block.own_parent, heads);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A whole block. It is always read, as those behind it depend on it.
    fn take_block(
        &mut self,
        head: Head,
        block: &[u8],
        own_parent: bool,
        heads: &mut Option<Box<Heads>>,
    ) -> Result<Option<Opened>, Fault> {
        let end = head.has(frame::END_STREAM);
        let Some(key) = self.streams.find(head.stream) else {
            if self.own.server && head.stream > self.last {
                return self.open_request(head, block, own_parent, heads);
            }
            self.ignore(block)?;
            if self.is_idle(head.stream) {
                return Err(Fault::PROTOCOL);
            }
            return if self.is_forgiven(head.stream) {
                Ok(None)
            } else {
                Err(Fault::Connection(Reason::STREAM_CLOSED))
            };
        };
        let slot = self.streams.slot(key);
        if !slot.receiving || own_parent {
            let reason = if slot.receiving { Reason::PROTOCOL_ERROR } else { Reason::STREAM_CLOSED };
            self.ignore(block)?;
            return Err(Fault::Stream(reason));
        }
        slot.wake();
        if self.own.server || slot.answered {
            self.take_trailers(key, block, end)?;
        } else {
            self.take_response(key, block, end)?;
        }
        Ok(None)
    }

    /// A new stream of the peer.
    fn open_request(
        &mut self,
        head: Head,
        block: &[u8],
        own_parent: bool,
        heads: &mut Option<Box<Heads>>,
    ) -> Result<Option<Opened>, Fault> {
        if head.stream > self.last + 2 {
            self.skipped = (self.last + 1, head.stream - 1);
        }
        self.last = head.stream;
        let most = self.own.streams as usize;
        let full = self.streams.open() >= most || self.streams.len() >= most.saturating_add(SLACK);
        let heads = match heads {
            Some(heads) if !self.left && !full && !own_parent => heads,
            _ => {
                self.ignore(block)?;
                let reason = if own_parent { Reason::PROTOCOL_ERROR } else { Reason::REFUSED_STREAM };
                return Err(Fault::Stream(reason));
            }
        };
        let mut request = Request::new(&mut heads.request, self.limits(), self.own.connect);
        self.decoder.decode(block, |name, value, never| request.field(name, value, never)).map_err(fault)?;
        let end = head.has(frame::END_STREAM);
        let (length, refused) = match request.finish() {
            Verdict::Malformed => return Err(Fault::MALFORMED),
            Verdict::Good(Some(length)) if end && length > 0 => return Err(Fault::MALFORMED),
            Verdict::Good(length) => (length, None),
            Verdict::Refused(why) => (None, Some(why)),
        };
        let window = self.first_window();
        let key = self.streams.add(head.stream, window, self.peer.window.into());
        self.streams.slot(key).owed = length;
        if end {
            self.complete(key);
        }
        Ok(Some(Opened { key, length: if end { Some(0) } else { length }, refused }))
    }

    fn take_response(&mut self, key: u32, block: &[u8], end: bool) -> Result<(), Fault> {
        let mut head = self.spare.pop().unwrap_or_default();
        let mut response = Response::new(&mut head, self.limits());
        self.decoder.decode(block, |name, value, never| response.field(name, value, never)).map_err(fault)?;
        let verdict = response.finish();
        let status = head.status;
        let slot = self.streams.slot(key);
        slot.heads_seen += 1;
        let interim = (100..200).contains(&status);
        let Verdict::Good(length) = verdict else { return Err(Fault::MALFORMED) };
        if interim && (end || slot.heads_seen > INTERIM) {
            return Err(Fault::MALFORMED);
        }
        if !interim {
            slot.bodiless |= matches!(status, 204 | 304);
            slot.owed = if slot.bodiless { Some(0) } else { length };
            if !slot.owes(0, end) {
                return Err(Fault::MALFORMED);
            }
            slot.answered = true;
        }
        slot.heads.push_back(head);
        if end {
            self.complete(key);
        }
        Ok(())
    }

    fn take_trailers(&mut self, key: u32, block: &[u8], end: bool) -> Result<(), Fault> {
        let mut trailers = Trailers::new(self.limits());
        self.decoder.decode(block, |name, value, never| trailers.field(name, value, never)).map_err(fault)?;
        let slot = self.streams.slot(key);
        if !end || !trailers.good() || !slot.owes(0, true) {
            return Err(Fault::MALFORMED);
        }
        if slot.held && !trailers.headers.is_empty() {
            slot.trailers = Some(Box::new(trailers.headers));
        }
        self.complete(key);
        Ok(())
    }

    /// Reads a block that nobody wants.
    fn ignore(&mut self, block: &[u8]) -> Result<(), Fault> {
        let mut ignored = Ignored::new(self.limits());
        self.decoder.decode(block, |name, value, _| ignored.field(name, value)).map_err(fault)
    }

    pub(super) fn take_reset(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::SIZE);
        }
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Fault::PROTOCOL);
        }
        if let Some(key) = self.streams.find(head.stream) {
            self.end_stream(key, Ended::Reset(Reason(frame::number(payload))));
        }
        Ok(())
    }

    /// The peer has sent everything on this stream.
    fn complete(&mut self, key: u32) {
        let slot = self.streams.slot(key);
        (slot.receiving, slot.complete) = (false, true);
        self.settle(key);
    }

    /// What the peer may send on a stream before it hears of any window.
    pub(super) fn first_window(&self) -> i64 {
        let window = self.own.stream_window;
        // Until it has seen our settings it goes by the default.
        if self.agreed { window.into() } else { window.max(frame::WINDOW).into() }
    }

    /// So many bytes of a stream were used: the peer may send as many more.
    pub(super) fn took(&mut self, key: u32, len: usize) {
        if len == 0 {
            return;
        }
        let half = (self.own.stream_window / 2).max(1);
        let slot = self.streams.slot(key);
        slot.taken += len as u32;
        if slot.receiving && slot.taken >= half {
            let by = std::mem::take(&mut slot.taken);
            slot.window += i64::from(by);
            frame::window_update(&mut self.out, slot.id, by);
        }
        self.give_back(len);
    }

    /// The same for the connection. What streams that nobody reads hold may be most of its window: then the others live on
    /// what is left, and get it back as soon as it is as much as the peer has left.
    pub(super) fn give_back(&mut self, len: usize) {
        self.taken += len as u32;
        let half = self.own.connection_window.max(frame::WINDOW) / 2;
        let due = self.taken >= half || i64::from(self.taken) >= self.window;
        if due && self.taken > 0 && self.fault().is_none() {
            let by = std::mem::take(&mut self.taken);
            self.window += i64::from(by);
            frame::window_update(&mut self.out, 0, by);
        }
    }

    /// Takes the next head of a response that came.
    pub(super) fn next_head(&mut self, key: u32, into: &mut crate::http::head::ResponseHead) -> bool {
        let Some(mut head) = self.streams.slot(key).heads.pop_front() else { return false };
        std::mem::swap(&mut *head, into);
        if self.spare.len() < SPARE {
            head.clear();
            self.spare.push(head);
        }
        true
    }
}

impl super::streams::Slot {
    /// Takes `len` bytes off what the peer has announced; false when it does not fit.
    fn owes(&mut self, len: usize, end: bool) -> bool {
        let Some(owed) = self.owed else { return true };
        let left = owed.checked_sub(len as u64);
        self.owed = left.or(self.owed);
        left.is_some_and(|left| left == 0 || !end)
    }
}

fn fault<E>(error: hpack::Error<E>) -> Fault {
    match error {
        hpack::Error::Field(_) => Fault::CALM,
        _ => Fault::Connection(Reason::COMPRESSION_ERROR),
    }
}
