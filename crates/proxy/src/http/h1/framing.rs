//! Where the body of a message ends.

use super::chunked::Chunks;
use super::parse::Malformed;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    #[default]
    Empty,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything until the connection ends; also what a tunnel carries.
    UntilClose,
}

impl Framing {
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 { Self::Empty } else { Self::Length(length) }
    }
}

/// Reads a body out of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) enum Decoder {
    #[default]
    Done,
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
}

/// What the decoder finds at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Skip so many bytes, then come so many of the body (never 0).
    Data { skip: usize, len: usize },
    /// Skip so many bytes; more are needed.
    More { skip: usize },
    /// Skip so many bytes; the body has ended.
    End { skip: usize },
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Looks at the front of `input`. The caller drops what is to be skipped and calls [`Decoder::took`] for the data it took.
    pub(crate) fn look(&mut self, input: &[u8]) -> Result<Found, Malformed> {
        Ok(match self {
            Self::Done => Found::End { skip: 0 },
            Self::Length(left) => match input.len() {
                0 => Found::More { skip: 0 },
                len => Found::Data { skip: 0, len: len.min(usize::try_from(*left).unwrap_or(usize::MAX)) },
            },
            Self::Chunked(chunks) => chunks.look(input)?,
            Self::UntilClose => match input.len() {
                0 => Found::More { skip: 0 },
                len => Found::Data { skip: 0, len },
            },
        })
    }

    /// `len` bytes of data were taken.
    pub(crate) fn took(&mut self, len: usize) {
        match self {
            Self::Length(left) => {
                *left = left.saturating_sub(len as u64);
                if *left == 0 {
                    *self = Self::Done;
                }
            }
            Self::Chunked(chunks) => chunks.took(len),
            Self::Done | Self::UntilClose => {}
        }
    }

    /// The stream of bytes has ended: whether the body may end there.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self, Self::Done | Self::UntilClose)
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Bytes of the body that are known to be still to come, if known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}
