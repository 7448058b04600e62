//! The end of a client's TLS: nothing of the connection passes before the handshake is done.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::CertificateDer;

use super::registry::{Control, Wish};
use super::wire::Wire;
use crate::snapshot::{DownstreamTls, FilterChain, NetworkFilter};
use crate::telemetry::metrics::TlsCounts;
use crate::tls::forwarded;
use crate::tls::handshake::{Agreed, Failure, accept};
use crate::upstream::count;
use crate::worker::Worker;

/// How many different reasons are logged.
const REASONS: usize = 64;

/// A connection whose TLS ends here.
pub(super) struct Ended {
    pub(super) wire: Wire,
    pub(super) server_name: Option<Box<str>>,
    /// What ALPN agreed on.
    pub(super) protocol: Option<Box<[u8]>>,
    pub(super) client_cert: Option<Box<[u8]>>,
}

/// Makes the handshake; nothing when the connection is to be closed.
pub(super) async fn terminate(
    worker: &Worker,
    wire: Wire,
    chain: &Arc<FilterChain>,
    tls: &DownstreamTls,
    server_name: Option<Box<str>>,
    control: &Control,
) -> Option<Ended> {
    let counts = &worker.metrics.tls;
    // As it stands now: a secret may have changed since the listener was looked up.
    let Some(acceptor) = worker.snapshot().acceptors.get(&tls.key).cloned() else {
        count(&counts.not_ready);
        return None;
    };
    let cut = poll_fn(|cx| {
        control.register(cx.waker());
        if control.wish() == Wish::Cut { Poll::Ready(()) } else { Poll::Pending }
    });
    let outcome = tokio::select! {
        outcome = accept(wire, acceptor.config.clone(), server_name) => outcome,
        () = tokio::time::sleep(chain.handshake_timeout) => Err(Failure::Late),
        () = cut => return None,
    };
    match outcome {
        Ok(agreed) => {
            count(&counts.handshake);
            let Agreed { wire, server_name, protocol, certificates } = agreed;
            let client_cert = told(chain, acceptor.uri.as_deref(), &certificates);
            Some(Ended { wire, server_name, protocol, client_cert })
        }
        Err(failure) => {
            note(counts, &failure, chain);
            None
        }
    }
}

/// What a client who has presented certificates is called upstream; nothing when it has presented none.
fn told(chain: &FilterChain, by: Option<&str>, certificates: &[CertificateDer<'_>]) -> Option<Box<[u8]>> {
    let NetworkFilter::Http(http) = &chain.filter else { return None };
    let _own = certificates.first()?;
    Some(match http.client_cert.tells() {
        true => forwarded::element(&http.client_cert, by, certificates),
        false => Box::default(),
    })
}

fn note(counts: &TlsCounts, failure: &Failure, chain: &FilterChain) {
    match failure {
        Failure::Tls(rustls::Error::NoCertificatesPresented) => count(&counts.fail_verify_no_cert),
        Failure::Tls(rustls::Error::InvalidCertificate(_)) => count(&counts.fail_verify_error),
        _ => {}
    }
    count(&counts.connection_error);
    if tracing::enabled!(tracing::Level::DEBUG) {
        let (reason, mut logged) = (failure.to_string(), counts.logged.borrow_mut());
        if logged.len() < REASONS && !logged.contains(&reason) {
            tracing::debug!(chain = %chain.name, %reason, "a TLS handshake failed; its like is not logged again");
            logged.push(reason);
        }
    }
}
