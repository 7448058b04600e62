//! What streams send, and how they end.

use super::encode;
use super::frame;
use super::hpack::Encoder;
use super::reason::{Ended, Fault, Reason};
use super::session::Session;
use super::streams::End;
use crate::conn::buffers::LARGE;
use crate::http::head::{Headers, Method, RequestHead, ResponseHead};

/// Bytes that wait to be written before streams have to wait.
const ROOM: usize = 32 * 1024;
/// Bytes that one stream may leave behind while it waits for a window.
const OUTBOX: usize = 32 * 1024;
/// The most data in one frame: whoever is next need not wait long.
const MOST: usize = 16_384;

impl Session {
    /// Opens a stream for a request. `end`: it has no body.
    pub(super) fn request(&mut self, head: &RequestHead, upgrade: bool, end: bool) -> u32 {
        let id = self.next;
        self.next += 2;
        let window = self.first_window();
        let key = self.streams.add(id, window, self.peer.window.into());
        self.streams.slot(key).bodiless = head.method == Method::Head;
        self.headers(key, end, |encoder, out| encode::request(encoder, out, head, upgrade));
        key
    }

    /// Sends a response's head. `end`: it has no body.
    pub(super) fn respond(&mut self, key: u32, head: &ResponseHead, end: bool) {
        self.headers(key, end, |encoder, out| encode::response(encoder, out, head));
    }

    fn headers(&mut self, key: u32, end: bool, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let (at, id) = (self.out.len(), self.streams.slot(key).id);
        self.out.extend_from_slice(&[0; frame::HEAD]);
        encode(&mut self.encoder, &mut self.out);
        let flags = if end { frame::END_STREAM } else { 0 };
        frame::close_block(&mut self.out, at, flags, id, self.peer.frame);
        self.tail = (id, at);
        self.meter.sent();
        if end {
            self.streams.slot(key).end = End::Sent;
            self.settle(key);
        }
    }

    /// Sends of `data` as much as may be sent or kept now.
    pub(super) fn send(&mut self, key: u32, data: &[u8]) -> usize {
        let slot = self.streams.slot(key);
        if !matches!(slot.end, End::Open) {
            return data.len();
        }
        let direct = slot.outbox.is_empty() && self.queue.is_empty();
        let mut done = 0;
        while direct && done < data.len() {
            match self.send_piece(key, &data[done..], &[]) {
                0 => break,
                len => done += len,
            }
        }
        let (slot, rest) = (self.streams.slot(key), &data[done..]);
        let kept = rest.len().min(OUTBOX.saturating_sub(slot.outbox.len()));
        slot.outbox.extend(&rest[..kept]);
        self.enqueue(key);
        done + kept
    }

    /// Writes one frame of what is in `first` and `second`, if there is room and a window.
    fn send_piece(&mut self, key: u32, first: &[u8], second: &[u8]) -> usize {
        let slot = self.streams.slot(key);
        let window = usize::try_from(slot.credit.min(self.credit)).unwrap_or(0);
        let len = (first.len() + second.len()).min(MOST).min(self.peer.frame).min(window);
        if len == 0 || self.out.len() >= ROOM {
            return 0;
        }
        slot.credit -= len as i64;
        self.credit -= len as i64;
        let need = self.out.len() + frame::HEAD + len;
        if len > 1024 && need > self.out.capacity() {
            self.out.reserve_exact(LARGE.max(need) - self.out.len());
        }
        self.tail = (slot.id, self.out.len());
        frame::head(&mut self.out, len, frame::DATA, 0, slot.id);
        let of_first = len.min(first.len());
        self.out.extend_from_slice(&first[..of_first]);
        self.out.extend_from_slice(&second[..len - of_first]);
        self.meter.sent();
        len
    }

    /// Ends what a stream sends, behind what waits.
    pub(super) fn finish(&mut self, key: u32, trailers: Option<&Headers>) {
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        let slot = self.streams.slot(key);
        if !matches!(slot.end, End::Open) {
            return;
        }
        if slot.outbox.is_empty() {
            return self.send_end(key, trailers);
        }
        slot.end = trailers.map_or(End::Plain, |trailers| End::Trailers(Box::new(trailers.clone())));
    }

    fn send_end(&mut self, key: u32, trailers: Option<&Headers>) {
        if let Some(trailers) = trailers {
            return self.headers(key, true, |encoder, out| encode::trailers(encoder, out, trailers));
        }
        let slot = self.streams.slot(key);
        slot.end = End::Sent;
        match self.tail {
            // The last frame is still here: it can say so itself.
            (id, at) if id == slot.id => self.out[at + 4] |= frame::END_STREAM,
            _ => frame::head(&mut self.out, 0, frame::DATA, frame::END_STREAM, slot.id),
        }
        self.settle(key);
    }

    fn enqueue(&mut self, key: u32) {
        let slot = self.streams.slot(key);
        if !slot.outbox.is_empty() && slot.credit > 0 && !slot.queued {
            slot.queued = true;
            self.queue.push_back(key);
        }
    }

    /// Lets the streams that wait send in turn, as far as there is room.
    pub(crate) fn drain(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            let slot = self.streams.slot(key);
            slot.queued = false;
            if slot.outbox.is_empty() {
                self.tidy(key);
                continue;
            }
            let mut outbox = std::mem::take(&mut slot.outbox);
            let (first, second) = outbox.as_slices();
            let len = self.send_piece(key, first, second);
            outbox.drain(..len);
            let (slot, empty) = (self.streams.slot(key), outbox.is_empty());
            slot.outbox = outbox;
            if len == 0 {
                if slot.credit > 0 {
                    // Nobody else can send either.
                    slot.queued = true;
                    self.queue.push_front(key);
                    return;
                }
                continue;
            }
            if slot.outbox.len() <= OUTBOX / 2 {
                slot.wake();
            }
            if empty {
                match std::mem::take(&mut slot.end) {
                    End::Open | End::Sent => {}
                    End::Plain => self.send_end(key, None),
                    End::Trailers(trailers) => self.send_end(key, Some(&trailers)),
                }
            } else {
                self.enqueue(key);
            }
        }
    }

    /// The peer has changed what a stream may send.
    pub(super) fn add_credit(&mut self, key: u32, by: i64) -> Result<(), Fault> {
        let slot = self.streams.slot(key);
        slot.credit += by;
        if slot.credit > frame::MAX_WINDOW {
            return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
        }
        self.enqueue(key);
        Ok(())
    }

    /// Closes a stream that both sides have ended.
    pub(super) fn settle(&mut self, key: u32) {
        let server = self.own.server;
        let slot = self.streams.slot(key);
        if slot.open && slot.sent() {
            if !slot.receiving {
                self.streams.close(key);
            } else if server && !slot.held {
                // The response is complete, and nobody reads the rest of the request (RFC 9113, 8.1).
                self.reset(key, Reason::NO_ERROR, None);
            }
        }
        self.tidy(key);
    }

    /// Forgets what nobody needs any more.
    fn tidy(&mut self, key: u32) {
        let slot = self.streams.slot(key);
        if !slot.open && !slot.held && !slot.queued && slot.id != 0 {
            self.streams.remove(key);
        }
    }

    /// Resets a stream. `ended`: what its task is told.
    pub(super) fn reset(&mut self, key: u32, reason: Reason, ended: Option<Ended>) {
        let slot = self.streams.slot(key);
        if !slot.open {
            return;
        }
        let id = slot.id;
        frame::reset(&mut self.out, id, reason);
        self.forgive(id);
        self.end_stream(key, ended.unwrap_or(Ended::Reset(reason)));
    }

    /// Resets a stream that broke a rule, known or not.
    pub(super) fn break_stream(&mut self, id: u32, reason: Reason) {
        match self.streams.find(id) {
            Some(key) => self.reset(key, reason, Some(Ended::Broke(reason))),
            None if self.is_idle(id) => self.fail(Fault::Connection(reason)),
            None => {
                frame::reset(&mut self.out, id, reason);
                self.forgive(id);
            }
        }
    }

    /// A stream is over for both sides.
    pub(super) fn end_stream(&mut self, key: u32, ended: Ended) {
        let slot = self.streams.slot(key);
        (slot.receiving, slot.ended, slot.end) = (false, Some(ended), End::Sent);
        slot.outbox.clear();
        slot.wake();
        self.streams.close(key);
        self.tidy(key);
    }

    /// Nobody takes part in the stream any more; `unread` bytes of it were taken out and not used.
    pub(super) fn leave_stream(&mut self, key: u32, unread: usize) {
        let server = self.own.server;
        let slot = self.streams.slot(key);
        slot.held = false;
        let unread = unread + slot.inbox.len();
        slot.inbox.clear();
        if slot.open {
            match slot.end {
                End::Sent if server => self.reset(key, Reason::NO_ERROR, None),
                End::Plain | End::Trailers(_) if server => {}
                _ => self.reset(key, Reason::CANCEL, None),
            }
        } else {
            self.tidy(key);
        }
        self.give_back(unread);
    }
}
