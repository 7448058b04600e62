//! Answers made here, as HTTP or as gRPC.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::edit::{self, Names};
use super::matching::is_grpc;
use super::{Abort, Downstream, Respond};
use crate::http::head::{RequestHead, ResponseHead};

/// An answer made here.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'r> {
    /// HTTP status.
    pub status: u16,
    /// gRPC status; derived from `status` when absent.
    pub grpc_status: Option<u32>,
    /// Body.
    pub body: &'r [u8],
    /// Type of the body.
    pub content_type: &'r str,
}

impl<'r> LocalReply<'r> {
    /// An answer in plain text.
    pub fn new(status: u16, body: &'r [u8]) -> LocalReply<'r> {
        LocalReply { status, grpc_status: None, body, content_type: "text/plain" }
    }
}

impl<'r> From<&Abort<'r>> for LocalReply<'r> {
    fn from(abort: &Abort<'r>) -> LocalReply<'r> {
        LocalReply { grpc_status: abort.grpc_status, ..LocalReply::new(abort.status, abort.body.as_bytes()) }
    }
}

/// Fills the head of an answer made here and says which body goes with it: a gRPC request gets status 200 with
/// `grpc-status` and `grpc-message` and no body. `content-length` and `date` are the exchange's.
pub fn local_reply<'r>(reply: LocalReply<'r>, request: &RequestHead, head: &mut ResponseHead) -> &'r [u8] {
    write(reply, is_grpc(request), head)
}

fn write<'r>(reply: LocalReply<'r>, grpc: bool, head: &mut ResponseHead) -> &'r [u8] {
    if grpc {
        head.status = 200;
        head.headers.set("content-type", b"application/grpc");
        let status = reply.grpc_status.unwrap_or_else(|| grpc_status_of(reply.status));
        head.headers.set_number("grpc-status", status.into());
        if !reply.body.is_empty() {
            head.headers.set("grpc-message", &percent_encode(reply.body));
        }
        return &[];
    }
    head.status = reply.status;
    if reply.body.is_empty() {
        head.headers.remove("content-type");
    } else if !head.headers.contains("content-type") {
        head.headers.append("content-type", reply.content_type.as_bytes());
    }
    reply.body
}

/// The gRPC status that stands for an HTTP status.
pub fn grpc_status_of(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

pub(crate) fn percent_encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if (b' '..=b'~').contains(byte) && *byte != b'%' {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

impl<'s> Respond<'s> {
    /// An answer without body.
    pub fn new(status: u16) -> Respond<'s> {
        Respond {
            status,
            body: Cow::Borrowed(&[]),
            content_type: None,
            headers: SmallVec::new(),
            flag: "",
            details: "",
            matched: None,
            fault: None,
            grpc: false,
            web: None,
        }
    }

    /// With a header of its own.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &[u8]) -> Respond<'s> {
        self.headers.push((name, value.into()));
        self
    }

    /// Fills the response's head (status, headers, header changes of the route) and says which body goes with it.
    /// `content-length` and `date` are the exchange's.
    pub fn write_head(
        &self,
        downstream: &Downstream,
        request: &RequestHead,
        head: &mut ResponseHead,
    ) -> &[u8] {
        head.status = self.status;
        for (name, value) in &self.headers {
            let location = *name == "location";
            if !location || self.status == 201 || (300..400).contains(&self.status) {
                head.headers.append(name, value);
            }
        }
        if let Some(matched) = self.matched {
            let names = Names { route: &matched.route.name, cluster: "" };
            for level in
                edit::levels(None, matched.route.edits.as_deref(), matched.virtual_host, matched.config)
            {
                edit::edit_response(&level.response, downstream, request, names, head);
            }
        }
        let content_type = self.content_type.unwrap_or("text/plain");
        let reply = LocalReply { content_type, ..LocalReply::new(self.status, &self.body) };
        write(reply, self.grpc, head)
    }
}
