//! The streams of one connection.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;

use super::reason::Ended;
use crate::http::head::{Headers, ResponseHead};

/// Bytes that are gathered in one piece.
const PIECE: usize = 32 * 1024;
/// Memory of an unused buffer that is kept.
const KEPT: usize = 2048;
/// Streams at once beyond which their memory is not kept.
const FEW: usize = 16;

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    first: Vec<u8>,
    more: VecDeque<Vec<u8>>,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        let last = self.more.back_mut().unwrap_or(&mut self.first);
        if last.is_empty() || last.len() + data.len() <= PIECE {
            last.extend_from_slice(data);
        } else {
            self.more.push_back(data.to_vec());
        }
    }

    /// Puts the first piece in the place of `used`; false when there is none.
    pub(super) fn next(&mut self, used: &mut Vec<u8>) -> bool {
        if self.first.is_empty() {
            return false;
        }
        used.clear();
        std::mem::swap(&mut self.first, used);
        if let Some(next) = self.more.pop_front() {
            self.first = next;
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more.iter().map(Vec::len).sum::<usize>()
    }

    pub(super) fn clear(&mut self) {
        emptied(&mut self.first);
        self.more = VecDeque::new();
    }
}

fn emptied(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}

/// What is to follow the last byte that a stream sends.
#[derive(Debug, Default)]
pub(super) enum End {
    /// More bytes.
    #[default]
    Open,
    /// The end, behind what waits.
    Plain,
    /// Trailers, behind what waits.
    Trailers(Box<Headers>),
    /// It was sent.
    Sent,
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) id: u32,
    /// Somebody of ours takes part in it.
    pub(super) held: bool,
    /// Neither side has closed it, or one has.
    pub(super) open: bool,
    /// The peer may send more.
    pub(super) receiving: bool,
    /// The peer has sent everything.
    pub(super) complete: bool,
    pub(super) ended: Option<Ended>,
    /// Heads of responses that came, and how many there were.
    pub(super) heads: VecDeque<Box<ResponseHead>>,
    pub(super) heads_seen: u32,
    /// The final head has come.
    pub(super) answered: bool,
    /// The answer has no body, whatever length it names.
    pub(super) bodiless: bool,
    pub(super) inbox: Inbox,
    pub(super) trailers: Option<Box<Headers>>,
    /// Bytes of the body that the peer still owes, when it has said.
    pub(super) owed: Option<u64>,
    /// Bytes that the peer may send, and those it may have back.
    pub(super) window: i64,
    pub(super) taken: u32,
    /// Bytes that we may send.
    pub(super) credit: i64,
    /// What waits for a window or for room.
    pub(super) outbox: VecDeque<u8>,
    pub(super) end: End,
    /// It is in the queue of those that have something to send.
    pub(super) queued: bool,
    waker: Option<Waker>,
    waiting: bool,
}

impl Slot {
    /// The task that takes part is told of what happens next.
    pub(super) fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.waiting = true;
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.waiting)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn sent(&self) -> bool {
        matches!(self.end, End::Sent)
    }

    /// Nothing of a body is left to read.
    pub(super) fn read(&self) -> bool {
        self.complete && self.inbox.is_empty() && self.trailers.is_none()
    }
}

/// All of them, by place and by id.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Those that are not closed, by id.
    open: FxHashMap<u32, u32>,
}

impl Streams {
    /// Streams that are not closed.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Streams of which we remember anything.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.open.get(&id).copied()
    }

    pub(super) fn slot(&mut self, key: u32) -> &mut Slot {
        &mut self.slots[key as usize]
    }

    pub(super) fn look(&self, key: u32) -> &Slot {
        &self.slots[key as usize]
    }

    pub(super) fn add(&mut self, id: u32, window: i64, credit: i64) -> u32 {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = self.slot(key);
        (slot.id, slot.held, slot.open, slot.receiving) = (id, true, true, true);
        (slot.window, slot.credit) = (window, credit);
        self.open.insert(id, key);
        key
    }

    /// The stream is closed: its number means nothing any more.
    pub(super) fn close(&mut self, key: u32) {
        let slot = self.slot(key);
        slot.open = false;
        let id = slot.id;
        self.open.remove(&id);
    }

    /// Forgets a closed stream in which nobody takes part.
    pub(super) fn remove(&mut self, key: u32) {
        let slot = self.slot(key);
        let (mut inbox, mut outbox) = (std::mem::take(&mut slot.inbox), std::mem::take(&mut slot.outbox));
        let heads = std::mem::take(&mut slot.heads);
        inbox.clear();
        outbox.clear();
        if outbox.capacity() > KEPT {
            outbox = VecDeque::new();
        }
        debug_assert!(!slot.queued, "a stream in the queue is still known");
        *slot = Slot { inbox, outbox, heads, ..Slot::default() };
        slot.heads.clear();
        self.free.push(key);
    }

    /// Gives the memory of many streams back when there are none.
    pub(super) fn rest(&mut self) {
        if self.len() == 0 && self.slots.len() > FEW {
            *self = Self::default();
        }
    }

    /// Every task that takes part in a stream looks at it anew.
    pub(super) fn wake_all(&mut self) {
        for key in self.open.values() {
            self.slots[*key as usize].wake();
        }
    }

    /// Every stream that is not closed.
    pub(super) fn each_open(&self) -> Vec<u32> {
        self.open.values().copied().collect()
    }
}

#[cfg(test)]
#[path = "streams_test.rs"]
mod streams_test;
