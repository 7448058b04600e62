//! HTTP: heads, codecs, the server side and the exchange of one request with its response.

pub mod head;

pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod stream;
