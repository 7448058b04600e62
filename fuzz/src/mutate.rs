//! Random changes of inputs.

/// A corpus entry with a few random changes.
pub(crate) fn mutate(pool: &[impl AsRef<[u8]>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input =
        pool.get(random.usize(..pool.len().max(1))).map(|input| input.as_ref().to_vec()).unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        match random.u8(..8) {
            0 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] ^= 1 << random.u8(..8);
            }
            1 => input.insert(at, random.u8(..)),
            2 if !input.is_empty() => {
                let end = (at + random.usize(1..16)).min(input.len());
                input.drain(at.min(end)..end);
            }
            3 => {
                let interesting: &[&[u8]] = &[
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b"\0",
                    b": ",
                    b"0",
                    b"-1",
                    b"99999999999999999999",
                    b"\xff\xff",
                    b"{",
                    b"[",
                    b"---\n",
                    b"&a",
                    b"*a",
                    b"%00",
                    b"chunked",
                ];
                let token = interesting[random.usize(..interesting.len())];
                input.splice(at..at, token.iter().copied());
            }
            4 => {
                if let Some(other) = pool.get(random.usize(..pool.len().max(1))).map(AsRef::as_ref) {
                    let from = random.usize(..=other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
            5 if !input.is_empty() => {
                let end = (at + random.usize(1..32)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                input.splice(at..at, piece);
            }
            6 => input.truncate(at),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
        input.truncate(64 << 10);
    }
    input
}
