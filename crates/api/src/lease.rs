//! Registrations that live as long as somebody renews them: the subresource `lease` of a WorkloadEntry.
//!
//! `POST .../workloadentries/NAME/lease` with `{"ttlSeconds": 30}` grants the entry a lease, or renews
//! the one it has; a renewal is no write and no event. `GET` shows it; `DELETE` revokes it, after which
//! the entry stays until it is deleted. When a lease lapses its entry is deleted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::Response;
use heddle_resource::Key;
use heddle_store::{LeaseInfo, Leases, StoreError};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Api, body,
    error::{ApiError, Cause},
    routes::{Call, json_response},
};

/// How long a lease lives that names no time.
const DEFAULT_TTL: u64 = 30;
const LONGEST_TTL: u64 = 86_400;

pub(crate) async fn answer(api: &Arc<Api>, call: &Call, key: &Key) -> Result<Response, ApiError> {
    let store = api.writable(key.kind, &key.name)?;
    let leases = store.leases().ok_or_else(|| {
        ApiError::conflict(
            key.kind,
            &key.name,
            "the store of this mesh has no leases; register without a TTL",
        )
    })?;
    if let (_, Some(why)) =
        api.get_stored(key).await?.ok_or_else(|| ApiError::not_found(key.kind, &key.name))?
    {
        return Err(ApiError::conflict(key.kind, &key.name, &why));
    }
    let held = leases.lease_of(key);
    match (&call.method, held) {
        (&Method::GET, Some(lease)) => Ok(json_response(StatusCode::OK, &shown(key, &lease))),
        (&Method::GET | &Method::DELETE, None) => {
            Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", format!("{key} has no lease"))
                .about(key.kind, &key.name))
        }
        (&Method::DELETE, Some(lease)) => {
            leases.revoke(lease.id).await.map_err(|e| ApiError::of_store(e, key.kind, &key.name))?;
            Ok(json_response(StatusCode::OK, &shown(key, &lease)))
        }
        (&Method::POST | &Method::PUT, held) => {
            let lease = renewed(leases, key, held, ttl(call, key)?).await?;
            api.leases_changed.notify_one();
            Ok(json_response(StatusCode::OK, &shown(key, &lease)))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Renews the lease held if it lives as long as asked; else grants another in its place.
async fn renewed(
    leases: &dyn Leases,
    key: &Key,
    held: Option<LeaseInfo>,
    ttl: Option<Duration>,
) -> Result<LeaseInfo, ApiError> {
    let failed = |e| ApiError::of_store(e, key.kind, &key.name);
    let now = Instant::now();
    if let Some(lease) = &held
        && ttl.is_none_or(|ttl| ttl == lease.ttl)
    {
        match leases.renew(lease.id, now).await {
            Ok(()) => return Ok(lease.clone()),
            Err(StoreError::NoLease(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let ttl = ttl.unwrap_or(Duration::from_secs(DEFAULT_TTL));
    let id = leases.grant(ttl, now).await.map_err(failed)?;
    // Attaching moves the entry from its old lease, so it is never without one in between.
    if let Err(error) = leases.attach(id, key).await {
        leases.revoke(id).await.map_err(failed)?;
        return Err(failed(error));
    }
    if let Some(old) = held.filter(|old| old.keys.len() == 1) {
        match leases.revoke(old.id).await {
            Ok(()) | Err(StoreError::NoLease(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(LeaseInfo { id, ttl, keys: vec![key.clone()] })
}

fn ttl(call: &Call, key: &Key) -> Result<Option<Duration>, ApiError> {
    if call.body.is_empty() {
        return Ok(None);
    }
    let body = body::whole_object(&call.headers, &call.body)?;
    let Some(given) = body.get("ttlSeconds").or_else(|| body.get("spec").and_then(|s| s.get("ttlSeconds")))
    else {
        return Ok(None);
    };
    match given.as_u64() {
        Some(seconds) if (1..=LONGEST_TTL).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let message = format!("found {given}, expected a number of seconds from 1 to {LONGEST_TTL}");
            let cause = Cause { reason: "FieldValueInvalid", field: "ttlSeconds".to_owned(), message };
            Err(ApiError::invalid(key.kind, &key.name, vec![cause]))
        }
    }
}

fn shown(key: &Key, lease: &LeaseInfo) -> Value {
    json!({
        "kind": "WorkloadLease",
        "apiVersion": "heddle.dev/v1alpha1",
        "metadata": { "name": &*key.name, "namespace": &*key.namespace },
        "ttlSeconds": lease.ttl.as_secs(),
        "id": lease.id.to_string(),
    })
}

/// Deletes what lapses, when it lapses. Runs until the API stops.
pub(crate) async fn run(api: Arc<Api>) {
    /// A store that fails is asked again after this.
    const RETRY: Duration = Duration::from_secs(1);
    let Some(leases) = api.sources.primary().and_then(|store| store.leases()) else { return };
    loop {
        let due = leases.next_expiry().map(tokio::time::Instant::from_std);
        let lapse = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lapse => {
                if let Err(error) = leases.expire(Instant::now()).await {
                    tracing::error!("registrations that lapsed could not be deleted: {error}; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            () = api.leases_changed.notified() => {}
            () = api.stopped() => return,
        }
    }
}
