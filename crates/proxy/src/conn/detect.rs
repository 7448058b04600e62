//! What a client speaks, by its first bytes.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use super::hello::{self, ClientHello, Progress};
use super::registry::{Control, Wish};
use super::sniff::{self, Sniff, sniff};
use super::wire::Wire;
use crate::http::serve;
use crate::snapshot::{Codec, Inspect};

/// What a client was found to speak.
pub(super) enum Spoken {
    Plain(Sniff),
    Tls(ClientHello),
    /// Nothing that may be served.
    Close,
}

/// What is known of a client's first bytes.
pub(super) struct Detect {
    inspect: Inspect,
    hello: Option<hello::Reader>,
}

impl Detect {
    pub(super) fn new(inspect: Inspect) -> Self {
        Self { inspect, hello: None }
    }

    /// Looks at all that came; `None` asks for more.
    pub(super) fn look(&mut self, data: &[u8]) -> Option<Spoken> {
        let Some(tls) = self.inspect.tls else {
            return Some(sniff(data)).filter(|seen| *seen != Sniff::More).map(Spoken::Plain);
        };
        match sniff(data) {
            Sniff::More if data.is_empty() || self.inspect.http => None,
            Sniff::More if data[0] == sniff::HANDSHAKE => None,
            Sniff::Tls => {
                let reader = self.hello.get_or_insert_with(|| hello::Reader::new(tls.max_hello as usize));
                match reader.read(data) {
                    Progress::More => None,
                    Progress::Whole(hello) => Some(Spoken::Tls(hello)),
                    Progress::Malformed => Some(self.plain(Sniff::Other)),
                    Progress::TooLarge => Some(Spoken::Close),
                }
            }
            seen => Some(self.plain(seen)),
        }
    }

    /// A client that does not speak TLS.
    pub(super) fn plain(&self, seen: Sniff) -> Spoken {
        match self.inspect.tls {
            Some(tls) if tls.only => Spoken::Close,
            _ if self.inspect.http => Spoken::Plain(seen),
            _ => Spoken::Plain(Sniff::Other),
        }
    }
}

/// Whether HTTP/2 is spoken, once enough bytes are there to tell.
pub(crate) async fn is_h2(
    wire: &mut Wire,
    codec: Codec,
    idle: Option<Duration>,
    control: &Control,
) -> Option<bool> {
    match codec {
        Codec::Http1 => return Some(false),
        Codec::Http2 => return Some(true),
        Codec::Auto => {}
    }
    let (mut alarm, mut deadline) = (Alarm::default(), idle.map(|idle| Instant::now() + idle));
    let mut draining = false;
    poll_fn(|cx| {
        loop {
            let data = wire.data();
            let common = data.len().min(sniff::PREFACE.len());
            if data[..common] != sniff::PREFACE[..common] {
                return Poll::Ready(Some(false));
            }
            if common == sniff::PREFACE.len() {
                return Poll::Ready(Some(true));
            }
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(len)) if len > 0 => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    control.register(cx.waker());
                    if control.wish() == Wish::Cut {
                        return Poll::Ready(None);
                    }
                    // The first request may be on its way.
                    if control.wish() == Wish::Drain && !std::mem::replace(&mut draining, true) {
                        deadline = Some(Instant::now() + serve::DRAIN_IDLE);
                    }
                    return alarm.poll(cx, deadline).map(|()| None);
                }
            }
        }
    })
    .await
}
