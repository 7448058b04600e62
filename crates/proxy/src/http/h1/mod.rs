//! HTTP/1.1 without I/O: one parser for requests and responses, the framing of bodies, and the encoder.
//!
//! The parser is strict, since whatever two parties read differently can smuggle a request: bare CR or LF, folded lines,
//! space before a colon, a second `Host`, `Content-Length` beside `Transfer-Encoding`, unequal lengths and every transfer
//! coding but `chunked` are refused.

pub(crate) mod chunked;
pub(crate) mod encode;
pub(crate) mod framing;
pub(crate) mod parse;
pub(crate) mod target;
