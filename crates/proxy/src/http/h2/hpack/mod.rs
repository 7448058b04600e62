//! HPACK (RFC 7541): the compression of header fields, without I/O.
//!
//! Both sides keep one [`table::Table`]: bytes and entries in two sliding buffers, so that an entry is a slice, an
//! indexed field is handed out without a copy, and neither side allocates per field. A table that was never written to
//! owns no memory.

pub(crate) mod decode;
pub(crate) mod encode;
mod huffman;
mod integer;
mod standing;
mod table;

pub use decode::Decoder;
pub use encode::{Encoder, Index};
pub use table::LARGEST_TABLE;

/// The size of a table before any SETTINGS, in the octets of RFC 7541, 4.1 (RFC 9113, 6.5.2).
pub const DEFAULT_TABLE: usize = 4096;

/// Why a header block was not decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The block is no HPACK or does not fit the table: the connection ends with COMPRESSION_ERROR (RFC 9113, 4.3).
    #[error("header block: {0}")]
    Compression(#[from] Fault),
    /// The receiver of the fields refused one. The block was read to its end nonetheless, so that the table is right for
    /// the next one and the connection can go on.
    #[error("a field was refused")]
    Field(E),
}

/// What is wrong with a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it ends within a field")]
    Truncated,
    #[error("an integer is larger than any length or index can be")]
    Integer,
    #[error("an index points behind the table")]
    Index,
    #[error(
        "a string has no Huffman code: it holds the end-of-string symbol, or its padding is not up to 7 one bits"
    )]
    Huffman,
    #[error("the table's size is set behind a field, or more than twice")]
    SizePlace,
    #[error("the table's size is set above SETTINGS_HEADER_TABLE_SIZE")]
    SizeLimit,
    #[error("SETTINGS_HEADER_TABLE_SIZE became smaller, and the block does not begin with the new size")]
    SizeMissing,
}

#[cfg(test)]
mod appendix_c_test;
#[cfg(test)]
mod hpack_test;
