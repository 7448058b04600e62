//! HTTP/2 (RFC 9113), either side.
//!
//! A connection is a [`Session`], which does no I/O, shared by the task that reads and writes ([`drive`]) and by the tasks
//! that take part in its streams ([`H2Stream`]). All of them run on one worker: what one does, the others see at once.

mod drive;
mod encode;
mod fields;
mod frame;
pub mod hpack;
pub(crate) mod meter;
pub mod probe;
mod reason;
mod receive;
mod send;
pub(crate) mod serve;
mod session;
pub(crate) mod settings;
mod streams;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) use self::drive::{Keepalive, drive};
use self::reason::Ended;
pub(crate) use self::reason::Reason;
use self::session::Session;
use super::head::{Headers, Method, RequestHead, ResponseHead};
use super::stream::{Broken, Got};

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    session: RefCell<Session>,
    /// The task that reads and writes.
    driver: RefCell<Option<Waker>>,
    /// It runs, or is about to.
    awake: Cell<bool>,
    /// Nobody opens streams any more.
    released: Cell<bool>,
    /// Tasks that wait until the peer takes another stream.
    waiting: RefCell<Vec<Waker>>,
}

impl Conn {
    pub(crate) fn new(own: settings::Own) -> Rc<Self> {
        Rc::new(Self {
            session: RefCell::new(Session::new(own)),
            driver: RefCell::default(),
            awake: Cell::new(true),
            released: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// There is something to write.
    fn poke(&self) {
        if !self.awake.replace(true)
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// Streams may be opened.
    pub(crate) fn is_open(&self) -> bool {
        let session = self.session.borrow();
        !session.peer_left && session.fault().is_none() && session.next < 1 << 31
    }

    /// How many streams the peer takes at once.
    pub(crate) fn most_streams(&self) -> usize {
        self.session.borrow().peer.streams as usize
    }

    /// No more streams are opened: it ends with the last one.
    pub(crate) fn release(&self) {
        self.released.set(true);
        self.poke();
    }

    /// Sends a request's head when the peer takes another stream. `upgrade`: it is to leave HTTP, by extended CONNECT if the
    /// peer's SETTINGS offer that, which are waited for. `end`: it has no body.
    pub(crate) fn poll_request(
        self: &Rc<Self>,
        cx: &Context<'_>,
        head: &RequestHead,
        upgrade: bool,
        end: bool,
    ) -> Poll<Result<H2Stream, Broken>> {
        if !self.is_open() {
            return Poll::Ready(Err(Broken::Truncated));
        }
        let mut session = self.session.borrow_mut();
        if upgrade && head.method != Method::Connect {
            match session.takes_connect() {
                Some(true) => {}
                Some(false) => return Poll::Ready(Err(Broken::NotOffered)),
                None => {
                    self.waiting.borrow_mut().push(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        if session.streams.open() >= session.peer.streams as usize {
            self.waiting.borrow_mut().push(cx.waker().clone());
            return Poll::Pending;
        }
        let key = session.request(head, upgrade, end);
        drop(session);
        if end {
            self.poke();
        }
        Poll::Ready(Ok(H2Stream::new(self, key)))
    }
}

/// One stream, either side.
#[derive(Debug)]
pub(crate) struct H2Stream {
    conn: Rc<Conn>,
    key: u32,
    /// What is at hand of the body, and how much of it was used.
    data: Vec<u8>,
    at: usize,
}

impl H2Stream {
    fn new(conn: &Rc<Conn>, key: u32) -> Self {
        Self { conn: conn.clone(), key, data: Vec::new(), at: 0 }
    }

    /// The next head of the response: true when it is the final one.
    pub(crate) fn poll_head(
        &mut self,
        cx: &Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<bool, Broken>> {
        let mut session = self.conn.session.borrow_mut();
        if session.next_head(self.key, head) {
            return Poll::Ready(Ok(!(100..200).contains(&head.status)));
        }
        let slot = session.streams.slot(self.key);
        match slot.ended {
            Some(ended) => Poll::Ready(Err(broken(ended))),
            None if slot.complete => Poll::Ready(Err(Broken::Truncated)),
            None => slot.wait(cx),
        }
    }

    pub(crate) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Result<Got, Broken>> {
        if self.at < self.data.len() {
            return Poll::Ready(Ok(Got::Data));
        }
        let mut session = self.conn.session.borrow_mut();
        let slot = session.streams.slot(self.key);
        if slot.inbox.next(&mut self.data) {
            self.at = 0;
            return Poll::Ready(Ok(Got::Data));
        }
        match slot.ended {
            _ if slot.complete => Poll::Ready(Ok(Got::End)),
            Some(ended) => Poll::Ready(Err(broken(ended))),
            None => slot.wait(cx),
        }
    }

    pub(crate) fn chunk(&self) -> &[u8] {
        &self.data[self.at..]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.at += len;
        if self.at == self.data.len() {
            let mut session = self.conn.session.borrow_mut();
            let before = session.out.len();
            session.took(self.key, self.data.len());
            self.data.clear();
            self.at = 0;
            if session.out.len() > before {
                drop(session);
                self.conn.poke();
            }
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Headers> {
        self.conn.session.borrow_mut().streams.slot(self.key).trailers.take().map(|trailers| *trailers)
    }

    /// Everything came and was taken.
    pub(crate) fn recv_done(&self) -> bool {
        self.at == self.data.len() && self.conn.session.borrow().streams.look(self.key).read()
    }

    pub(crate) fn poll_send(&mut self, cx: &Context<'_>, data: &[u8]) -> Poll<Result<usize, Broken>> {
        let mut session = self.conn.session.borrow_mut();
        if let Some(ended) = session.streams.slot(self.key).ended {
            return Poll::Ready(Err(broken(ended)));
        }
        let len = session.send(self.key, data);
        if len > 0 || data.is_empty() {
            return Poll::Ready(Ok(len));
        }
        let _: Poll<()> = session.streams.slot(self.key).wait(cx);
        drop(session);
        self.conn.poke();
        Poll::Pending
    }

    pub(crate) fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        let mut session = self.conn.session.borrow_mut();
        if let Some(ended) = session.streams.slot(self.key).ended {
            return Err(broken(ended));
        }
        session.finish(self.key, trailers);
        Ok(())
    }

    /// What was sent so far goes out with what others send in this turn.
    pub(crate) fn flush(&self) {
        if !self.conn.session.borrow().out.is_empty() {
            self.conn.poke();
        }
    }

    /// Sends a response's head, interim or final. `end`: it has no body.
    pub(crate) fn send_head(&mut self, head: &ResponseHead, end: bool) -> Result<(), Broken> {
        let mut session = self.conn.session.borrow_mut();
        if let Some(ended) = session.streams.slot(self.key).ended {
            return Err(broken(ended));
        }
        session.respond(self.key, head, end);
        Ok(())
    }

    /// Breaks the stream off, unless both sides have ended it.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.conn.session.borrow_mut().reset(self.key, reason, None);
        self.conn.poke();
    }

    /// Ready when the peer has broken the stream off.
    pub(crate) fn poll_reset(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut session = self.conn.session.borrow_mut();
        let slot = session.streams.slot(self.key);
        if slot.ended.is_some() { Poll::Ready(()) } else { slot.wait(cx) }
    }

    /// The same, but not while anything that the peer has sent to its end is still to be read.
    pub(crate) fn poll_left(&mut self, cx: &Context<'_>) -> Poll<()> {
        let at_hand = self.at < self.data.len();
        let mut session = self.conn.session.borrow_mut();
        let slot = session.streams.slot(self.key);
        let unread = slot.complete && (at_hand || !slot.read());
        if slot.ended.is_some() && !unread { Poll::Ready(()) } else { slot.wait(cx) }
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let unread = self.data.len();
        let mut session = self.conn.session.borrow_mut();
        session.leave_stream(self.key, unread);
        let news = !session.out.is_empty() || session.is_idle_now();
        drop(session);
        for waker in self.conn.waiting.take() {
            waker.wake();
        }
        if news {
            self.conn.poke();
        }
    }
}

fn broken(ended: Ended) -> Broken {
    match ended {
        Ended::Reset(reason) => Broken::Reset(reason),
        Ended::Broke(reason) => Broken::Protocol(reason),
        Ended::Unprocessed => Broken::Reset(Reason::REFUSED_STREAM),
        Ended::Lost => Broken::Truncated,
    }
}
