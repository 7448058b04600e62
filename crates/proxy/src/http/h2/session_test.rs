//! Two sessions talk to each other, and to frames by hand.

use proptest::prelude::*;

use super::*;
use crate::http::head::{Headers, RequestHead};

fn own(server: bool, window: u32) -> Own {
    Own {
        server,
        stream_window: window,
        connection_window: 65_535,
        streams: 100,
        head_bytes: 4000,
        head_fields: 50,
        connect: true,
    }
}

/// A session and what its peer has sent.
struct Side {
    session: Session,
    inbox: Vec<u8>,
    opened: Vec<u32>,
}

impl Side {
    fn new(server: bool, window: u32) -> Self {
        Self { session: Session::new(own(server, window)), inbox: Vec::new(), opened: Vec::new() }
    }

    /// Takes `len` bytes of what the other side has sent, and reads.
    fn hear(&mut self, other: &mut Session, len: usize) {
        other.drain();
        other.tail = (0, 0);
        let len = len.min(other.out.len());
        self.inbox.extend(other.out.drain(..len));
        let mut place = Some(Box::default());
        loop {
            match self.session.step(&self.inbox, &mut place) {
                Step::More => break,
                Step::Took(0) => break,
                Step::Took(len) => drop(self.inbox.drain(..len)),
                Step::Request(len, opened) => {
                    self.inbox.drain(..len);
                    self.opened.push(opened.key);
                    place.get_or_insert_default();
                }
            }
        }
    }
}

/// A server that has read the first SETTINGS of its client.
fn server() -> Side {
    let mut side = Side::new(true, 1000);
    let mut settings = Vec::new();
    frame::head(&mut settings, 0, frame::SETTINGS, 0, 0);
    side.say(&settings);
    side.session.out.clear();
    side
}

impl Side {
    /// Frames by hand.
    fn say(&mut self, bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut other = Session::new(own(false, 1000));
        other.out = bytes.to_vec();
        self.hear(&mut other, usize::MAX);
        let (mut said, out) = (Vec::new(), std::mem::take(&mut self.session.out));
        self.session.tail = (0, 0);
        let mut rest = &out[..];
        while let Some(head) = Head::parse(rest) {
            let payload = rest[frame::HEAD..frame::HEAD + head.len].to_vec();
            rest = &rest[frame::HEAD + head.len..];
            said.push((head.kind, head.flags, head.stream, payload));
        }
        said
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

/// Literals of a GET.
fn get() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")] {
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

const END: u8 = frame::END_HEADERS | frame::END_STREAM;

#[test]
fn windows_that_shrink_below_nothing_come_back() {
    let mut side = server();
    side.say(&frame(frame::HEADERS, END, 1, &get()));
    let key = side.opened[0];
    side.session.respond(key, &ResponseHead::new(200), false);
    assert_eq!(side.session.send(key, &[7; 30_000]), 30_000);
    assert_eq!(side.session.streams.slot(key).credit, 65_535 - 30_000);
    let window = |value: u32| [&[0, 4][..], &value.to_be_bytes()].concat();
    side.say(&frame(frame::SETTINGS, 0, 0, &window(10)));
    assert_eq!(side.session.streams.slot(key).credit, 10 - 30_000);
    assert_eq!(side.session.send(key, b"x"), 1, "kept");
    assert!(side.say(&frame(frame::WINDOW_UPDATE, 0, 1, &29_989_u32.to_be_bytes())).is_empty());
    let said = side.say(&frame(frame::WINDOW_UPDATE, 0, 1, &2_u32.to_be_bytes()));
    assert!(said.is_empty(), "an outbox is sent by turns");
    side.session.drain();
    assert_eq!(side.say(&[]), [(frame::DATA, 0, 1, b"x".to_vec())]);
    assert!(side.say(&frame(frame::WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes())).is_empty());
    let said = side.say(&frame(frame::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
    assert_eq!(said, [(frame::RST_STREAM, 0, 1, 3_u32.to_be_bytes().to_vec())]);
}

#[test]
fn the_last_frame_says_that_it_is_the_last() {
    let mut side = server();
    side.say(&[frame(frame::HEADERS, END, 1, &get()), frame(frame::HEADERS, END, 3, &get())].concat());
    let (one, three) = (side.opened[0], side.opened[1]);
    side.session.respond(one, &ResponseHead::new(200), false);
    side.session.send(one, b"body");
    side.session.finish(one, None);
    side.session.respond(three, &ResponseHead::new(204), false);
    side.session.finish(three, None);
    let said: Vec<_> =
        side.say(&[]).into_iter().map(|(kind, flags, stream, _)| (kind, flags, stream)).collect();
    let headers = frame::HEADERS;
    assert_eq!(
        said,
        [(headers, frame::END_HEADERS, 1), (frame::DATA, frame::END_STREAM, 1), (headers, END, 3)]
    );
}

#[test]
fn who_leaves_takes_what_is_on_its_way_and_no_more() {
    let mut side = server();
    side.session.leave();
    let said = side.say(&frame(frame::HEADERS, END, 1, &get()));
    assert_eq!(said[0], (frame::GOAWAY, 0, 0, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0].to_vec()));
    assert_eq!(said[1].0, frame::PING);
    assert_eq!(side.opened.len(), 1);
    let said = side.say(&frame(frame::PING, frame::ACK, 0, &said[1].3));
    assert_eq!(said, [(frame::GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0].to_vec())]);
    let said = side.say(&frame(frame::HEADERS, END, 3, &get()));
    assert_eq!(said, [(frame::RST_STREAM, 0, 3, 7_u32.to_be_bytes().to_vec())]);
    assert!(!side.session.is_done());
    side.session.respond(side.opened[0], &ResponseHead::new(200), true);
    side.session.leave_stream(side.opened[0], 0);
    assert!(side.session.is_done());
}

#[test]
fn what_comes_for_a_stream_that_was_just_reset_is_forgiven_and_for_one_that_ended_is_not() {
    let mut side = server();
    side.say(&frame(frame::HEADERS, frame::END_HEADERS, 1, &get()));
    side.session.leave_stream(side.opened[0], 0);
    assert_eq!(side.say(&[]), [(frame::RST_STREAM, 0, 1, 8_u32.to_be_bytes().to_vec())]);
    assert!(side.say(&frame(frame::DATA, 0, 1, b"late")).is_empty());
    assert!(side.say(&frame(frame::HEADERS, END, 1, &[])).is_empty());
    assert_eq!(side.session.window, 65_535 - 4);
    side.say(&frame(frame::HEADERS, END, 3, &get()));
    side.session.respond(side.opened[1], &ResponseHead::new(200), true);
    side.session.leave_stream(side.opened[1], 0);
    side.say(&[]);
    let said = side.say(&frame(frame::DATA, 0, 3, b"late"));
    assert_eq!(said, [(frame::GOAWAY, 0, 0, [0, 0, 0, 3, 0, 0, 0, 5].to_vec())]);
}

#[test]
fn who_exceeds_a_window_is_told() {
    let mut side = server();
    side.say(&frame(frame::SETTINGS, frame::ACK, 0, &[]));
    side.say(&frame(frame::HEADERS, frame::END_HEADERS, 1, &get()));
    assert!(side.say(&frame(frame::DATA, 0, 1, &[0; 1000])).is_empty());
    let said = side.say(&frame(frame::DATA, 0, 1, &[0; 1]));
    assert_eq!(said, [(frame::RST_STREAM, 0, 1, 3_u32.to_be_bytes().to_vec())]);
    assert!(side.say(&frame(frame::DATA, 0, 1, &[0; 16_000])).is_empty(), "forgiven");
    side.session.leave_stream(side.opened[0], 0);
    assert_eq!(side.session.window + i64::from(side.session.taken), 65_535);
}

#[test]
fn unprocessed_streams_are_told_from_others() {
    let mut client = Side::new(false, 1000);
    client.session.out.clear();
    let request = RequestHead::new("GET", "h", "/");
    let (one, two) =
        (client.session.request(&request, false, true), client.session.request(&request, false, true));
    client.say(&frame(frame::SETTINGS, 0, 0, &[]));
    client.say(&frame(frame::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(client.session.streams.slot(one).ended, None);
    assert_eq!(client.session.streams.slot(two).ended, Some(Ended::Unprocessed));
    client.session.lost();
    assert_eq!(client.session.streams.slot(one).ended, Some(Ended::Lost));
}

/// Streams that nobody reads hold most of the connection's window: what is left goes round.
#[test]
fn a_stalled_stream_leaves_the_others_what_it_does_not_hold() {
    let mut side = server();
    side.session.own.stream_window = 65_535;
    side.say(&[frame(frame::HEADERS, 4, 1, &get()), frame(frame::HEADERS, 4, 3, &get())].concat());
    let other = side.opened[1];
    for _ in 0..3 {
        assert!(side.say(&frame(frame::DATA, 0, 1, &[0; 16_384])).is_empty());
    }
    let left = side.session.window;
    for _ in 0..20 {
        side.say(&frame(
            frame::DATA,
            0,
            3,
            &vec![0; usize::try_from(side.session.window).unwrap().min(16_384)],
        ));
        let mut data = Vec::new();
        while side.session.streams.slot(other).inbox.next(&mut data) {
            side.session.took(other, data.len());
        }
        side.say(&[]);
        assert!(side.session.window > left / 2, "{}", side.session.window);
    }
}

/// One stream of the model: what is sent either way, and how far it is.
#[derive(Debug)]
struct Call {
    client: u32,
    server: Option<u32>,
    body: Vec<u8>,
    sent: [usize; 2],
    finished: [bool; 2],
    got: [Vec<u8>; 2],
    /// Who never takes anything out.
    stalled: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the windows and the pieces are, every body arrives whole, both ways, also beside a stream that nobody reads.
    #[test]
    fn bodies_arrive_whole_in_both_directions(
        windows in (300..40_000_u32, 300..40_000_u32),
        bodies in proptest::collection::vec(0..120_000_usize, 2..8),
        stalled in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sides = [Side::new(false, windows.0), Side::new(true, windows.1)];
        // The preface is no frame.
        sides[0].session.out.drain(..frame::PREFACE.len());
        let mut calls: Vec<Call> = bodies.iter().enumerate().map(|(number, len)| {
            let client = sides[0].session.request(&RequestHead::new("POST", "h", "/"), false, false);
            let body = (0..*len).map(|at| (at * 7 + number) as u8).collect();
            let (sent, finished, got) = ([0; 2], [false; 2], [Vec::new(), Vec::new()]);
            Call { client, server: None, body, sent, finished, got, stalled: stalled && number == 0 && *len > 0 && windows.1 < 30_000 }
        }).collect();
        for round in 0.. {
            prop_assert!(round < 50_000, "no end: {:?}", calls.iter().map(|call| (call.sent, call.finished, call.body.len(), call.stalled)).collect::<Vec<_>>());
            let turn = random.usize(..2);
            let [client, server] = &mut sides;
            let (from, to) = if turn == 0 { (client, server) } else { (server, client) };
            to.hear(&mut from.session, random.usize(..30_000));
            prop_assert_eq!(to.session.fault(), None);
            for (call, key) in calls.iter_mut().zip(sides[1].opened.clone()) {
                if call.server.replace(key).is_none() {
                    sides[1].session.respond(key, &ResponseHead::new(200), false);
                }
            }
            for call in &mut calls {
                let keys = [Some(call.client), call.server];
                let Some(key) = keys[turn] else { continue };
                act(&mut sides[turn].session, key, call, turn, &mut random);
            }
            let done = |call: &Call| call.got == [call.body.clone(), call.body.clone()] && call.finished == [true; 2];
            if calls.iter().all(|call| call.stalled || done(call)) {
                break;
            }
        }
        for call in &calls {
            sides[0].session.leave_stream(call.client, 0);
            sides[1].session.leave_stream(call.server.unwrap(), 0);
        }
        for _ in 0..20 {
            let [client, server] = &mut sides;
            server.hear(&mut client.session, usize::MAX);
            client.hear(&mut server.session, usize::MAX);
        }
        for side in &sides {
            prop_assert_eq!(side.session.fault(), None);
            prop_assert_eq!(side.session.streams.len(), 0, "every stream is forgotten");
        }
        let lent = |side: &Side| 65_535 - side.session.window - i64::from(side.session.taken);
        prop_assert_eq!((lent(&sides[0]), lent(&sides[1])), (0, 0), "every byte of the windows is back");
    }
}

/// One side of a call sends a piece and takes a piece.
fn act(session: &mut Session, key: u32, call: &mut Call, side: usize, random: &mut fastrand::Rng) {
    let rest = &call.body[call.sent[side]..];
    let piece = &rest[..rest.len().min(random.usize(1..50_000))];
    if !piece.is_empty() {
        call.sent[side] += session.send(key, piece);
    } else if !call.finished[side] {
        call.finished[side] = true;
        let trailers: Headers = RequestHead::default().with("x-end", "yes").headers;
        session.finish(key, random.bool().then_some(&trailers));
    }
    if call.stalled {
        return;
    }
    let mut data = Vec::new();
    if session.streams.slot(key).inbox.next(&mut data) {
        session.took(key, data.len());
        call.got[side].extend_from_slice(&data);
    }
}
