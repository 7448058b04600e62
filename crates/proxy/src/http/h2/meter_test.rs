use super::*;

fn frame(kind: u8, flags: u8, len: usize) -> Head {
    Head { len, kind, flags, stream: 1 }
}

/// How many of a frame pass in one burst, and what the flood is called.
fn burst(frame: Head) -> (usize, Flood) {
    let (mut meter, now) = (Meter::default(), Instant::now());
    let ended = (0..100_000).find_map(|number| Some((number, meter.came(frame, || now)?)));
    ended.expect("an end")
}

#[test]
fn each_kind_of_flood_is_seen() {
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
        assert_eq!(burst(frame), (BURST as usize, kind), "{frame:?}");
    }
}

#[test]
fn what_carries_something_earns_its_control_frames() {
    let (mut meter, now) = (Meter::default(), Instant::now());
    for _ in 0..10_000 {
        assert_eq!(meter.came(frame(0x0, 0, 9), || now), None);
        for _ in 0..EARNED {
            assert_eq!(meter.came(frame(0x8, 0, 4), || now), None);
        }
    }
    // A download: what we send is acknowledged by windows.
    for _ in 0..10_000 {
        meter.sent();
        assert_eq!(meter.came(frame(0x8, 0, 4), || now), None);
        assert_eq!(meter.came(frame(0x8, 0, 4), || now), None);
    }
}

#[test]
fn time_earns_a_ping_a_second() {
    let (mut meter, start) = (Meter::default(), Instant::now());
    let mut passed = 0;
    while meter.came(frame(0x6, 0, 8), || start).is_none() {
        passed += 1;
    }
    assert_eq!(passed, BURST);
    for second in 1..100_000 {
        assert_eq!(meter.came(frame(0x6, 0, 8), || start + Duration::from_secs(second)), None);
    }
}
