//! Integers (RFC 7541, 5.1).

use super::Fault;

/// The largest integer that is read: nothing in a block is longer, and its sum cannot overflow.
const LARGEST: u64 = u32::MAX as u64;

/// Reads an integer whose first byte holds `bits` bits of it, and takes it off the front of `input`.
pub(super) fn read(input: &mut &[u8], bits: u32) -> Result<usize, Fault> {
    let (first, rest) = input.split_first().ok_or(Fault::Truncated)?;
    *input = rest;
    let full = (1u64 << bits) - 1;
    let low = u64::from(*first) & full;
    if low < full { Ok(low as usize) } else { continued(input, full) }
}

#[cold]
fn continued(input: &mut &[u8], full: u64) -> Result<usize, Fault> {
    let mut value = full;
    // Five bytes of seven bits hold every 32-bit number; a sixth could only be there to waste time.
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = input.split_first().ok_or(Fault::Truncated)?;
        *input = rest;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if value <= LARGEST { Ok(value as usize) } else { Err(Fault::Integer) };
        }
    }
    Err(Fault::Integer)
}

/// Writes an integer behind the bits of `pattern`, which leave `bits` of the first byte to it.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let full = (1usize << bits) - 1;
    if value < full {
        out.push(pattern | value as u8);
    } else {
        continue_writing(out, pattern | full as u8, value - full);
    }
}

#[cold]
fn continue_writing(out: &mut Vec<u8>, first: u8, mut rest: usize) {
    out.push(first);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for bits in 4..8 {
            for value in (0..600).chain([16_383, 16_384, 1 << 21, (1 << 28) + 7, u32::MAX as usize]) {
                let mut out = Vec::new();
                write(&mut out, 0, bits, value);
                out.push(0xaa);
                let mut input = out.as_slice();
                assert_eq!(read(&mut input, bits), Ok(value));
                assert_eq!(input, [0xaa]);
                let cut = &out[..out.len() - 2];
                assert_eq!(read(&mut &*cut, bits), Err(Fault::Truncated), "{value} in {bits} bits, cut");
            }
        }
    }

    #[test]
    fn one_that_is_too_large_or_too_long_is_refused() {
        for bad in [
            &b"\x7f\xff\xff\xff\xff\x0f"[..],
            b"\x7f\xff\xff\xff\xff\x7f",
            b"\x7f\x80\x80\x80\x80\x80\x00",
            b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert_eq!(read(&mut &*bad, 7), Err(Fault::Integer), "{bad:x?}");
        }
        assert_eq!(read(&mut &b"\x7f\x80\x80\x80\x80\x00"[..], 7), Ok(127), "zeros in front cost only bytes");
    }
}
