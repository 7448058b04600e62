//! The Huffman code (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and every code of one
//! length is smaller than any longer one. So everything here is built from the lengths alone, at compile time.

use super::Fault;

/// The bits of each symbol's code (appendix B); the last is the end-of-string symbol.
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];
const SHORTEST: u8 = 5;
const LONGEST: u8 = 30;
const END_OF_STRING: u16 = 256;

/// Bits that one look-up decides; only rare characters have longer codes.
const LOOK: u32 = 8;

struct Code {
    /// The code of each byte, in the low bits.
    codes: [u32; 256],
    /// By the next [`LOOK`] bits: the length of the code in the high byte, its symbol in the low; 0 when it is longer.
    short: [u16; 1 << LOOK],
    /// All symbols, by code.
    symbols: [u16; 257],
    /// By length: the first value of the next 32 bits that belongs to a longer code.
    ends: [u64; LONGEST as usize + 1],
    /// By length: what to add to a code for its place in `symbols`.
    places: [i32; LONGEST as usize + 1],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        codes: [0; 256],
        short: [0; 1 << LOOK],
        symbols: [0; 257],
        ends: [0; LONGEST as usize + 1],
        places: [0; LONGEST as usize + 1],
    };
    let (mut next, mut place, mut bits) = (0u32, 0, SHORTEST);
    while bits <= LONGEST {
        code.places[bits as usize] = place - next as i32;
        let mut symbol = 0;
        while symbol < BITS.len() {
            if BITS[symbol] == bits {
                code.symbols[place as usize] = symbol as u16;
                if symbol < 256 {
                    code.codes[symbol] = next;
                }
                if bits as u32 <= LOOK {
                    let free = LOOK - bits as u32;
                    let mut tail = 0;
                    while tail < 1 << free {
                        code.short[(next << free | tail) as usize] = (bits as u16) << 8 | symbol as u16;
                        tail += 1;
                    }
                }
                next += 1;
                place += 1;
            }
            symbol += 1;
        }
        code.ends[bits as usize] = (next as u64) << (32 - bits);
        next <<= 1;
        bits += 1;
    }
    assert!(place == 257, "every symbol has a code");
    assert!(code.ends[LONGEST as usize] == 1 << 32, "every run of bits is a code");
    code
}

/// The most bytes that `coded` bytes can stand for.
pub(super) const fn most(coded: usize) -> usize {
    coded * 8 / SHORTEST as usize
}

/// How many bytes `text` has when coded.
#[inline]
pub(super) fn coded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(BITS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `text`, coded.
pub(super) fn encode(out: &mut Vec<u8>, text: &[u8]) {
    // The low `held` bits of `bits` are not written yet; they are fewer than 32 before each character.
    let (mut bits, mut held) = (0u64, 0u32);
    for byte in text {
        let len = u32::from(BITS[usize::from(*byte)]);
        bits = bits << len | u64::from(CODE.codes[usize::from(*byte)]);
        held += len;
        if held >= 32 {
            held -= 32;
            out.extend_from_slice(&((bits >> held) as u32).to_be_bytes());
        }
    }
    if held > 0 {
        // The rest of the last byte is the beginning of the end-of-string symbol: ones.
        let last = (bits << (32 - held)) as u32 | u32::MAX.checked_shr(held).unwrap_or(0);
        out.extend_from_slice(&last.to_be_bytes()[..held.div_ceil(8) as usize]);
    }
}

/// Appends what `coded` stands for.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let start = out.len();
    out.resize(start + most(coded.len()), 0);
    let (text, mut count) = (&mut out[start..], 0);
    let mut put = |symbol: u8| {
        // There is room for as many of the shortest codes as there are bits.
        if let Some(place) = text.get_mut(count) {
            *place = symbol;
        }
        count += 1;
    };
    let mut rest = coded;
    // The high `held` bits of `bits` are the next ones; those below are zeros.
    let (mut bits, mut held) = (0u64, 0u32);
    while let Some((four, behind)) = rest.split_first_chunk::<4>() {
        bits |= u64::from(u32::from_be_bytes(*four)) << (32 - held);
        held += 32;
        rest = behind;
        while held >= 32 {
            let (symbol, len) = next(bits)?;
            put(symbol);
            bits <<= len;
            held -= len;
        }
    }
    for byte in rest {
        bits |= u64::from(*byte) << (56 - held);
        held += 8;
    }
    loop {
        // What is missing is read as ones, as the padding is; a code that needs them was cut.
        let filled = bits | u64::MAX.checked_shr(held).unwrap_or(0);
        if held < 8 && filled == u64::MAX {
            break;
        }
        let (symbol, len) = next(filled)?;
        if len > held {
            return Err(Fault::Huffman);
        }
        put(symbol);
        bits <<= len;
        held -= len;
    }
    out.truncate(start + count);
    Ok(())
}

/// The character at the high end of `bits`, of which at least 30 count, and the length of its code.
#[inline]
fn next(bits: u64) -> Result<(u8, u32), Fault> {
    let short = CODE.short[(bits >> (64 - LOOK)) as usize];
    if short == 0 { long(bits) } else { Ok((short as u8, u32::from(short >> 8))) }
}

#[cold]
fn long(bits: u64) -> Result<(u8, u32), Fault> {
    let window = bits >> 32;
    let mut len = LOOK as usize + 1;
    while window >= CODE.ends[len] {
        len += 1;
    }
    let place = (window >> (32 - len)) as i32 + CODE.places[len];
    match CODE.symbols[place as usize] {
        END_OF_STRING => Err(Fault::Huffman),
        symbol => Ok((symbol as u8, len as u32)),
    }
}
