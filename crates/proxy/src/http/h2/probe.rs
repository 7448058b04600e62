//! A connection of HTTP/2 from outside, for fuzzers: whatever frames come, it must not panic, and its memory has a bound.

use super::frame;
use super::session::{Session, Step};
use super::settings::Own;
use crate::http::head::{RequestHead, ResponseHead};

/// Bytes of a stream's window, and of what may wait in one.
const WINDOW: u32 = 8192;
const STREAMS: u32 = 8;

fn own(server: bool) -> Own {
    Own {
        server,
        stream_window: WINDOW,
        connection_window: frame::WINDOW,
        streams: STREAMS,
        head_bytes: 4096,
        head_fields: 32,
        connect: true,
    }
}

/// Frames of a client, read as a server. Every request is answered; what the first byte says of it is read late or never.
/// True when a request came.
///
/// # Panics
/// When a law is broken.
pub fn server(data: &[u8]) -> bool {
    let [choice, data @ ..] = data else { return false };
    run(Session::new(own(true)), Vec::new(), *choice, data)
}

/// Frames of a server that was asked twice, read as a client. True when a response came.
///
/// # Panics
/// When a law is broken.
pub fn client(data: &[u8]) -> bool {
    let [choice, data @ ..] = data else { return false };
    let mut session = Session::new(own(false));
    let head = RequestHead::new("POST", "h", "/");
    let keys = (0..2).map(|_| session.request(&head, false, false)).collect();
    run(session, keys, *choice, data)
}

fn run(mut session: Session, mut keys: Vec<u32>, choice: u8, data: &[u8]) -> bool {
    let (mut at, mut place, mut deep) = (0, Some(Box::default()), false);
    let mut written = 0;
    loop {
        match session.step(&data[at..], &mut place) {
            Step::More => break,
            Step::Took(len) => at += len,
            Step::Request(len, opened) => {
                at += len;
                deep = true;
                session.respond(opened.key, &ResponseHead::new(200), false);
                keys.push(opened.key);
            }
        }
        assert!(at <= data.len(), "no more is taken than there is");
        if choice & 1 == 0 {
            keys.retain(|key| turn(&mut session, *key, choice, &mut deep));
        }
        session.drain();
        session.tail = (0, 0);
        written += session.out.len();
        session.out.clear();
        let held: usize = keys.iter().map(|key| session.streams.look(*key).inbox.len()).sum();
        assert!(held <= frame::WINDOW as usize, "what waits is bounded by the window");
        assert!(session.fault().is_some() || session.window >= 0, "a window is never negative");
        if session.fault().is_some() {
            break;
        }
    }
    // Answers are in proportion to what was asked: the largest is a response and its body to a short request.
    assert!(written <= 1000 + 400 * data.len(), "{written} bytes were written for {}", data.len());
    for key in keys {
        session.leave_stream(key, 0);
    }
    session.lost();
    session.drain();
    assert!(session.is_idle_now(), "every stream is forgotten");
    deep
}

/// One turn of a stream's task; false when it is done with it.
fn turn(session: &mut Session, key: u32, choice: u8, deep: &mut bool) -> bool {
    let mut head = ResponseHead::default();
    while session.next_head(key, &mut head) {
        assert!(head.status >= 100, "a status has three digits");
        *deep = true;
    }
    let mut data = Vec::new();
    while session.streams.slot(key).inbox.next(&mut data) {
        session.took(key, data.len());
    }
    session.send(key, &data);
    let slot = session.streams.slot(key);
    let over = slot.complete || slot.ended.is_some();
    if over && choice & 2 == 0 {
        let trailers = slot.trailers.take();
        session.finish(key, trailers.as_deref());
    }
    if over {
        session.leave_stream(key, 0);
    }
    !over
}
