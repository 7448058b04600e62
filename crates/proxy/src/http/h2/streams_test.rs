use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever the pieces are, the bytes come out in order, and no piece grows without end.
    #[test]
    fn an_inbox_keeps_its_bytes_in_order(pieces in proptest::collection::vec((1..20_000_usize, any::<bool>()), 0..40)) {
        let (mut inbox, mut used) = (Inbox::default(), Vec::new());
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (len, take) in pieces {
            let piece: Vec<u8> = (0..len).map(|n| (sent.len() + n) as u8).collect();
            inbox.push(&piece);
            sent.extend_from_slice(&piece);
            prop_assert_eq!(inbox.len(), sent.len() - got.len());
            if take && inbox.next(&mut used) {
                prop_assert!(used.len() <= PIECE);
                got.extend_from_slice(&used);
            }
        }
        while inbox.next(&mut used) {
            got.extend_from_slice(&used);
        }
        prop_assert!(inbox.is_empty());
        prop_assert!(got == sent);
    }
}

#[test]
fn the_place_of_a_stream_is_used_again() {
    let mut streams = Streams::default();
    let (one, two) = (streams.add(1, 10, 20), streams.add(3, 10, 20));
    assert_eq!((streams.find(1), streams.find(3), streams.find(5)), (Some(one), Some(two), None));
    streams.slot(one).inbox.push(b"x");
    streams.close(one);
    assert_eq!((streams.find(1), streams.open(), streams.len()), (None, 1, 2));
    streams.remove(one);
    let three = streams.add(5, 30, 40);
    assert_eq!((three, streams.len()), (one, 2));
    let slot = streams.look(three);
    assert_eq!((slot.id, slot.window, slot.credit, slot.inbox.is_empty()), (5, 30, 40, true));
}
