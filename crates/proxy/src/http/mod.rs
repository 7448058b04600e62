//! HTTP: heads, codecs, the server side and the exchange of one request with its response.

pub mod head;
