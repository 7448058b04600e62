//! HTTP: heads, codecs, the server side and the exchange of one request with its response.

pub(crate) mod grpc_web;
pub mod head;

pub mod probe;

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod date;
pub(crate) mod exchange;
pub(crate) mod h1;
pub mod h2;
pub(crate) mod headers;
pub(crate) mod mirror;
pub(crate) mod retry;
pub(crate) mod serve;
pub(crate) mod stream;
pub(crate) mod trying;
pub(crate) mod websocket;
