//! The chunked transfer coding (RFC 9112, 7.1), read strictly.

use super::framing::Found;
use super::parse::{Malformed, trim};
use crate::http::head::Headers;

/// The most bytes of one chunk-size line with its extensions, which are dropped.
const MAX_LINE: usize = 4096;
/// The most bytes of all trailers.
const MAX_TRAILERS: usize = 60 * 1024;

/// Where a decoder stands within a chunked body.
#[derive(Debug, Default)]
enum At {
    /// Reading a size line; it may be cut between two reads.
    #[default]
    Size,
    /// Within the data of a chunk.
    Data(u64),
    /// Before the line end behind a chunk's data.
    DataEnd,
    /// Reading trailer lines.
    Trailers,
    /// Behind the last line.
    Done,
}

/// Decoder of one chunked body. Incomplete lines stay in the caller's input, which is therefore bounded by the line limit.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    at: At,
    trailer_bytes: usize,
    /// The trailers, complete when the body has ended.
    pub(crate) trailers: Headers,
}

impl Chunks {
    pub(crate) fn look(&mut self, input: &[u8]) -> Result<Found, Malformed> {
        let mut skip = 0;
        loop {
            let rest = &input[skip..];
            match self.at {
                At::Size => match line(rest, MAX_LINE)? {
                    None => return Ok(Found::More { skip }),
                    Some(text) => {
                        skip += text.len() + 2;
                        self.at = match size(text)? {
                            0 => At::Trailers,
                            size => At::Data(size),
                        };
                    }
                },
                At::Data(left) => {
                    if rest.is_empty() {
                        return Ok(Found::More { skip });
                    }
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    return Ok(Found::Data { skip, len });
                }
                At::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skip += 2;
                        self.at = At::Size;
                    }
                    [] | [b'\r'] => return Ok(Found::More { skip }),
                    _ => return Err(Malformed::Chunk),
                },
                At::Trailers => match line(rest, MAX_TRAILERS - self.trailer_bytes)? {
                    None => return Ok(Found::More { skip }),
                    Some([]) => {
                        skip += 2;
                        self.at = At::Done;
                    }
                    Some(text) => {
                        skip += text.len() + 2;
                        self.trailer_bytes += text.len() + 2;
                        self.trailer(text)?;
                    }
                },
                At::Done => return Ok(Found::End { skip }),
            }
        }
    }

    pub(crate) fn took(&mut self, len: usize) {
        if let At::Data(left) = &mut self.at {
            *left = left.saturating_sub(len as u64);
            if *left == 0 {
                self.at = At::DataEnd;
            }
        }
    }

    fn trailer(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::Chunk)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        let name = std::str::from_utf8(name).map_err(|_| Malformed::Chunk)?;
        if name.is_empty() || !name.bytes().all(is_token) || !value.iter().all(|b| is_value(*b)) {
            return Err(Malformed::Chunk);
        }
        if self.trailers.len() >= 100 {
            return Err(Malformed::TooManyFields);
        }
        // What frames or routes a message has no meaning behind it (RFC 9110, 6.5.1).
        let forbidden =
            ["content-length", "transfer-encoding", "host", "connection", "trailer", "te", "upgrade"];
        if !forbidden.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            self.trailers.append(name, value);
        }
        Ok(())
    }
}

/// The line at the front without its CR LF; `None` when its end has not come yet.
fn line(input: &[u8], limit: usize) -> Result<Option<&[u8]>, Malformed> {
    let window = &input[..input.len().min(limit)];
    match window.iter().position(|byte| *byte == b'\n') {
        Some(0) => Err(Malformed::Chunk),
        Some(end) if input[end - 1] != b'\r' => Err(Malformed::Chunk),
        Some(end) if input[..end - 1].contains(&b'\r') => Err(Malformed::Chunk),
        Some(end) => Ok(Some(&input[..end - 1])),
        None if input.len() >= limit => Err(Malformed::TooLarge),
        None => Ok(None),
    }
}

/// `1*HEXDIG [ extensions ]`.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if digits == 0 || digits > 15 {
        return Err(Malformed::Chunk);
    }
    let extension = trim(&line[digits..]);
    if !(extension.is_empty() || extension[0] == b';') || !extension.iter().all(|b| is_value(*b)) {
        return Err(Malformed::Chunk);
    }
    Ok(line[..digits].iter().fold(0, |sum, byte| {
        let digit = (*byte as char).to_digit(16).unwrap_or(0);
        sum << 4 | u64::from(digit)
    }))
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
#[path = "chunked_test.rs"]
mod chunked_test;
