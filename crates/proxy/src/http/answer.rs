//! Sending bodies that were made here.

use std::future::poll_fn;
use std::task::ready;

use super::client::Client;
use super::head::ResponseHead;
use super::stream::Broken;

/// Declares the body's length; one without body needs no declaration of its own.
pub(crate) fn describe(head: &mut ResponseHead, body: &[u8]) {
    if body.is_empty() {
        head.headers.remove("content-length");
    } else {
        head.headers.set_number("content-length", body.len() as u64);
    }
}

/// Sends the body behind its head and ends the response.
pub(crate) async fn send(client: &mut Client, body: &[u8]) -> Result<(), Broken> {
    let mut rest = body;
    poll_fn(|cx| {
        while !rest.is_empty() {
            let len = ready!(client.stream.poll_send(cx, rest))?;
            rest = &rest[len..];
        }
        client.stream.finish(None)?;
        client.stream.poll_flush(cx)
    })
    .await
}
