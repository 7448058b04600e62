use super::*;

fn frame(kind: u8, flags: u8, len: u8) -> Vec<u8> {
    let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
    frame.extend(vec![0; usize::from(len)]);
    frame
}

/// How many of a frame pass in one burst, in pieces of `step` bytes, and what the flood is called.
fn burst(frame: &[u8], step: usize) -> (usize, Flood) {
    let (mut meter, now) = (Meter::new(false), Instant::now());
    for number in 0..100_000 {
        for piece in frame.chunks(step) {
            if let Some(flood) = meter.came(piece, || now) {
                return (number, flood);
            }
        }
    }
    panic!("no end");
}

#[test]
fn each_kind_of_flood_is_seen_in_pieces_of_any_size() {
    let kinds = [
        (frame(0x6, 0, 8), Flood::Control),
        (frame(0x4, 0, 6), Flood::Control),
        (frame(0x3, 0, 4), Flood::Control),
        (frame(0x8, 0, 4), Flood::WindowUpdate),
        (frame(0x2, 0, 5), Flood::Priority),
        (frame(0x0, 0, 0), Flood::Empty),
        (frame(0x9, 0, 0), Flood::Empty),
        (frame(0xbe, 0, 3), Flood::Control),
    ];
    for (frame, kind) in kinds {
        for step in [1, 5, 9, 64] {
            assert_eq!(burst(&frame, step), (BURST as usize, kind), "{frame:?}");
        }
    }
}

#[test]
fn what_carries_something_earns_its_control_frames() {
    let (mut meter, now) = (Meter::new(true), Instant::now());
    assert_eq!(meter.came(&[b'x'; PREFACE as usize], || now), None);
    for _ in 0..10_000 {
        assert_eq!(meter.came(&frame(0x0, 0, 9), || now), None);
        for _ in 0..EARNED {
            assert_eq!(meter.came(&frame(0x8, 0, 4), || now), None);
        }
    }
    // A download: what we send is acknowledged by windows.
    for _ in 0..10_000 {
        meter.sent(&frame(0x0, 0, 200));
        assert_eq!(meter.came(&frame(0x8, 0, 4), || now), None);
        assert_eq!(meter.came(&frame(0x8, 0, 4), || now), None);
    }
}

#[test]
fn answers_to_a_flood_earn_nothing_and_time_does() {
    let (mut meter, start) = (Meter::new(false), Instant::now());
    meter.sent(&[b'x'; PREFACE as usize]);
    let mut passed = 0;
    while meter.came(&frame(0x6, 0, 8), || start).is_none() {
        meter.sent(&frame(0x6, 1, 8));
        passed += 1;
    }
    assert_eq!(passed, BURST);
    // A ping a second for days.
    for second in 1..100_000 {
        assert_eq!(meter.came(&frame(0x6, 0, 8), || start + Duration::from_secs(second)), None);
    }
}
