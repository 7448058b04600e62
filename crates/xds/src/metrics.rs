use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Event, ResourceType, Response, Variant};

/// Counters of a server; the control plane exports them as `pilot_xds`, `pilot_xds_pushes`,
/// `pilot_total_xds_rejects` and their kin.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open delta streams.
    pub delta_streams: AtomicU64,
    /// Open state-of-the-world streams.
    pub sotw_streams: AtomicU64,
    /// Streams opened so far.
    pub streams_opened: AtomicU64,
    /// Streams that ended with an error of transport or protocol.
    pub stream_errors: AtomicU64,
    types: [TypeMetrics; ResourceType::COUNT],
}

/// Counters of one resource type.
#[derive(Debug, Default)]
pub struct TypeMetrics {
    /// Requests received, answers among them.
    pub requests: AtomicU64,
    /// Responses sent.
    pub pushes: AtomicU64,
    /// Resources in them.
    pub resources: AtomicU64,
    /// Names that they removed.
    pub removals: AtomicU64,
    /// Bytes of resources in them.
    pub bytes: AtomicU64,
    /// Responses accepted.
    pub acks: AtomicU64,
    /// Responses refused.
    pub nacks: AtomicU64,
    /// Resources refused.
    pub rejects: AtomicU64,
}

impl Metrics {
    /// Counters of a type.
    pub fn of(&self, kind: ResourceType) -> &TypeMetrics {
        &self.types[kind.index()]
    }

    /// Open streams of both variants.
    pub fn streams(&self) -> u64 {
        self.delta_streams.load(Relaxed) + self.sotw_streams.load(Relaxed)
    }

    /// Sum of one counter over all types.
    pub fn total(&self, counter: impl Fn(&TypeMetrics) -> &AtomicU64) -> u64 {
        self.types.iter().map(|t| counter(t).load(Relaxed)).sum()
    }

    pub(crate) fn streams_of(&self, variant: Variant) -> &AtomicU64 {
        match variant {
            Variant::Delta => &self.delta_streams,
            Variant::StateOfTheWorld => &self.sotw_streams,
        }
    }

    pub(crate) fn note_response(&self, response: &Response) {
        if let Some(kind) = response.kind {
            let of = self.of(kind);
            of.pushes.fetch_add(1, Relaxed);
            of.resources.fetch_add(response.resources.len() as u64, Relaxed);
            of.removals.fetch_add(response.removed.len() as u64, Relaxed);
            let bytes: usize = response.resources.iter().map(|r| r.body.len()).sum();
            of.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(crate) fn note_event(&self, event: &Event) {
        match event {
            Event::Acked { kind, .. } => {
                self.of(*kind).acks.fetch_add(1, Relaxed);
            }
            Event::Nacked { kind, refused, .. } => {
                self.of(*kind).nacks.fetch_add(1, Relaxed);
                self.of(*kind).rejects.fetch_add(refused.len() as u64, Relaxed);
            }
            Event::Synced { .. } => {}
        }
    }
}
