//! Entries that live by a lease which their own annotation asks for.
//!
//! `heddle register --ttl` writes the annotation with the object, so that there is no moment in which the
//! entry exists without a lease. Renewals go to the store's lease, not through here.

use std::time::{Duration, Instant};

use heddle_resource::{Object, value::Dur};
use heddle_store::{Leases, StoreError};

use super::spec::LEASE_TTL;

/// A day: longer than that nobody renews.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The time to live that the annotation asks for.
///
/// # Errors
/// When the annotation is no duration from 1 s to a day.
pub(super) fn ttl(object: &Object) -> Result<Option<Duration>, String> {
    let Some(text) = object.meta.annotations.get(LEASE_TTL) else { return Ok(None) };
    match Dur::parse(text) {
        Ok(Dur(ttl)) if (Duration::from_secs(1)..=LONGEST).contains(&ttl) => Ok(Some(ttl)),
        _ => Err(format!("annotation {LEASE_TTL}: found `{text}`, expected a duration from 1s to 24h")),
    }
}

/// Gives the object a lease of that length, unless it holds one.
pub(super) async fn ensure(
    leases: &dyn Leases,
    object: &Object,
    ttl: Duration,
    now: Instant,
) -> Result<(), StoreError> {
    let key = object.key();
    if leases.lease_of(&key).is_some() {
        return Ok(());
    }
    let id = leases.grant(ttl, now).await?;
    match leases.attach(id, &key).await {
        Ok(()) => Ok(()),
        Err(error) => {
            leases.revoke(id).await?;
            match error {
                // Deleted meanwhile.
                StoreError::NotFound { .. } => Ok(()),
                error => Err(error),
            }
        }
    }
}
