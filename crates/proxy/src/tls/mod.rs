//! TLS on either side: certificates, verification, the handshake, and the records of an established session.

pub(crate) mod accept;
pub mod certificate;
pub(crate) mod forwarded;
pub(crate) mod handshake;
pub(crate) mod originate;
pub mod probe;
pub(crate) mod record;
pub(crate) mod session;
pub mod verify;

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::snapshot::CommonTls;

/// aws-lc-rs with its own suites and groups: X25519MLKEM768 first, and AES-128 before AES-256 as BoringSSL has it. Processors
/// help with SHA-256 and not with SHA-384, which was a tenth of a handshake.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use rustls::CipherSuite as Suite;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            Suite::TLS13_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
});

/// The provider as it is.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// The provider as a context restricts it.
fn provider_of(common: &CommonTls) -> Arc<CryptoProvider> {
    if common.suites.is_empty() && common.groups.is_empty() {
        return PROVIDER.clone();
    }
    let mut own = CryptoProvider::clone(&PROVIDER);
    if !common.suites.is_empty() {
        own.cipher_suites = common.suites.to_vec();
    }
    if !common.groups.is_empty() {
        own.kx_groups = common.groups.to_vec();
    }
    Arc::new(own)
}

fn versions_of(common: &CommonTls) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(common.versions[1], &TLS13), (common.versions[0], &TLS12)];
    all.into_iter().filter(|(allowed, _)| *allowed).map(|(_, version)| version).collect()
}
