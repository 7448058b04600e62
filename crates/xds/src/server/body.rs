use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::{Chunks, Response};

/// What a stream's task hands to its body.
pub(super) enum Item {
    Response(Response),
    /// The stream is over.
    End(Status),
}

/// The response body of a stream: responses framed piece by piece as the connection takes them.
pub(super) struct StreamBody {
    state: State,
}

enum State {
    Open { items: mpsc::Receiver<Item>, chunks: Option<Chunks> },
    Ending(Status),
    Done,
}

impl StreamBody {
    pub(super) fn new(items: mpsc::Receiver<Item>) -> Self {
        Self { state: State::Open { items, chunks: None } }
    }

    pub(super) fn refused(status: Status) -> Self {
        Self { state: State::Ending(status) }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match &mut self.state {
                State::Open { items, chunks } => {
                    if let Some(chunk) = chunks.as_mut().and_then(Iterator::next) {
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                    *chunks = None;
                    let ended = match ready!(items.poll_recv(cx)) {
                        Some(Item::Response(response)) => {
                            *chunks = response.chunks();
                            chunks.is_none().then(|| Status::out_of_range("response over 4 GiB"))
                        }
                        Some(Item::End(status)) => Some(status),
                        None => Some(Status::unavailable("the stream's task is gone")),
                    };
                    if let Some(status) = ended {
                        self.state = State::Ending(status);
                    }
                }
                State::Ending(status) => {
                    let trailers = trailers(status);
                    self.state = State::Done;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        let code = HeaderValue::from(Code::Unknown as i32);
        trailers.insert(Status::GRPC_STATUS, code);
    }
    trailers
}
