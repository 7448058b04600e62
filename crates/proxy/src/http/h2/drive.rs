//! The task of a connection: it alone reads and writes.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::Conn;
use super::frame::{CONTINUATION, HEADERS};
use super::session::{Opened, Step};
use crate::conn::alarm::Alarm;
use crate::conn::wire::Wire;
use crate::worker::Heads;

/// Bytes that wait to be written before nothing more is read.
const FULL: usize = 128 * 1024;

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the peer, or because both had nothing more to say.
    Closed,
    /// It broke a rule, and was told.
    Fault,
    /// It was to end at once.
    Cut,
}

/// PINGs that tell whether anybody is there (`connection_keepalive`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Conn {
    /// Reads and writes what there is. `heads` fills the place of a request's head, which `opened` then takes.
    pub(super) fn poll_io(
        &self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        mut heads: impl FnMut() -> Option<Box<Heads>>,
        mut opened: impl FnMut(Opened, Box<Heads>),
    ) -> Poll<End> {
        self.awake.set(true);
        let mut place = None;
        loop {
            let mut blocked = false;
            loop {
                let mut session = self.session.borrow_mut();
                if session.out.len() + wire.waiting() >= FULL {
                    blocked = true;
                    break;
                }
                if place.is_none() && matches!(wire.data().get(3), Some(&(HEADERS | CONTINUATION))) {
                    place = heads();
                }
                match session.step(wire.data(), &mut place) {
                    Step::Took(len) if session.fault().is_none() => wire.consume(len),
                    Step::Took(len) => {
                        wire.consume(len);
                        break;
                    }
                    Step::Request(len, request) => {
                        wire.consume(len);
                        drop(session);
                        if let Some(heads) = place.take() {
                            opened(request, heads);
                        }
                    }
                    Step::More => {
                        drop(session);
                        match wire.poll_fill(cx) {
                            Poll::Ready(Ok(len)) if len > 0 => {}
                            Poll::Ready(_) => {
                                self.session.borrow_mut().lost();
                                return Poll::Ready(End::Closed);
                            }
                            Poll::Pending => break,
                        }
                    }
                }
            }
            if self.released.get() {
                self.session.borrow_mut().bye();
            }
            let written = self.poll_out(cx, wire);
            match written {
                Poll::Ready(false) => {
                    self.session.borrow_mut().lost();
                    return Poll::Ready(End::Closed);
                }
                // There is room again.
                Poll::Ready(true) if blocked => continue,
                Poll::Ready(true) | Poll::Pending => {}
            }
            let session = self.session.borrow();
            if written.is_ready() && session.fault().is_some() {
                return Poll::Ready(End::Fault);
            }
            if written.is_ready() && session.is_done() {
                return Poll::Ready(End::Closed);
            }
            break;
        }
        self.at_rest(cx, wire);
        Poll::Pending
    }

    /// Writes what waits; false when nobody reads it any more.
    fn poll_out(&self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<bool> {
        loop {
            if wire.waiting() == 0 {
                let mut session = self.session.borrow_mut();
                session.drain();
                session.tail = (0, 0);
                std::mem::swap(&mut session.out, wire.output());
                if wire.waiting() == 0 && wire.flushed() {
                    return Poll::Ready(true);
                }
            }
            match wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Nothing is to be done for now.
    fn at_rest(&self, cx: &Context<'_>, wire: &mut Wire) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        self.awake.set(false);
        for waker in self.waiting.take() {
            waker.wake();
        }
        let mut session = self.session.borrow_mut();
        if session.is_idle_now() && wire.data().is_empty() {
            session.rest();
            wire.rest();
        }
    }
}

/// Drives a client's connection until it ends.
pub(crate) async fn drive(conn: Rc<Conn>, mut wire: Wire, keepalive: Option<Keepalive>) {
    let mut alarm = Alarm::default();
    // When the next PING is due, or the answer to the last one; and how many answers there were.
    let mut due = keepalive.map(|keepalive| Instant::now() + keepalive.interval);
    let mut asked = None;
    poll_fn(|cx| {
        if conn.poll_io(cx, &mut wire, || None, |_, _| {}).is_ready() {
            return Poll::Ready(());
        }
        let Some(keepalive) = keepalive else { return Poll::Pending };
        let answers = conn.session.borrow().pongs;
        if asked.is_some_and(|before| before != answers) {
            asked = None;
            due = Some(Instant::now() + keepalive.interval);
        }
        while alarm.poll(cx, due).is_ready() {
            if asked.is_some() {
                return Poll::Ready(());
            }
            asked = Some(answers);
            due = Some(Instant::now() + keepalive.timeout);
            super::frame::ping(&mut conn.session.borrow_mut().out, 0, b"are you?");
            if conn.poll_io(cx, &mut wire, || None, |_, _| {}).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
    conn.session.borrow_mut().lost();
    for waker in conn.waiting.take() {
        waker.wake();
    }
}
