//! What the task of a connection runs, as small as a connection at rest can be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::http::serve::Connection;

/// One accepted connection until it ends. All that a connection at rest does not need is boxed, and gone by then.
pub(crate) enum Serving {
    /// Waits for a request.
    Resting(Box<Connection>),
    /// Does anything else; what comes out of it may rest.
    Busy(Pin<Box<dyn Future<Output = Option<Box<Connection>>>>>),
    Over,
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = match &mut *self {
                Self::Resting(connection) => Err(ready!(connection.poll_rest(cx))),
                Self::Busy(future) => Ok(ready!(future.as_mut().poll(cx))),
                Self::Over => return Poll::Ready(()),
            };
            let before = std::mem::replace(&mut *self, Self::Over);
            *self = match (next, before) {
                (Err(true), Self::Resting(connection)) => Self::Busy(Box::pin(connection.serve())),
                (Err(false), Self::Resting(connection)) => Self::Busy(Box::pin(connection.ended())),
                (Ok(Some(connection)), _) => Self::Resting(connection),
                _ => Self::Over,
            };
        }
    }
}

#[cfg(test)]
mod size_test {
    use super::*;
    use crate::decide::Downstream;
    use crate::http::exchange::Exchange;

    fn of_one<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// What a connection of HTTP/1.1 at rest costs: its task (with what a runtime adds, 104 bytes, one block of 128), what is
    /// known of its client, its place among the open ones, a timer and the registration of its socket.
    #[test]
    fn a_connection_at_rest_is_small() {
        let (task, connection) = (size_of::<Serving>(), size_of::<Connection>());
        assert!(task <= 24, "{task} bytes");
        assert!(connection <= 192, "{connection} bytes");
        assert!(size_of::<Downstream>() <= 192, "{} bytes", size_of::<Downstream>());
    }

    #[test]
    fn a_request_is_small() {
        let (exchange, all) = (of_one(Exchange::<'static>::run), of_one(Connection::serve));
        assert!(exchange <= 2960, "{exchange} bytes");
        assert!(all <= 3600, "{all} bytes");
    }
}
