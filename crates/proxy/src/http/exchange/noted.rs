//! What an exchange writes down for its access log. Without one, nothing.

use tokio::time::Instant;

use super::Exchange;
use crate::access_log::{self, AccessLog, Entry, Needs, Notes};
use crate::decide::Downstream;
use crate::http::head::Version;
use crate::http::retry::Failure;
use crate::http::stream::Stream;
use crate::http::trying::Trying;
use crate::telemetry::Flags;
use crate::upstream::attempt::Upstream;

/// The logs of a connection's requests.
fn logs(downstream: &Downstream) -> &[AccessLog] {
    downstream.http().map_or(&[], |http| &http.access_log)
}

/// Notes what a response that comes through says; true when its trailers are logged.
pub(super) fn note_response(downstream: &Downstream, notes: &mut Notes, trying: &Trying) -> bool {
    let logs = logs(downstream);
    if logs.is_empty() {
        return false;
    }
    notes.details = "via_upstream".into();
    notes.request_end = trying.complete();
    notes.response_start = trying.answered;
    Needs::of(logs).trailers
}

/// Notes which connection an attempt has, or that it has none yet.
pub(super) fn note_upstream(downstream: &Downstream, notes: &mut Notes, upstream: Option<&mut Upstream>) {
    let logs = logs(downstream);
    if logs.is_empty() {
        return;
    }
    notes.upstream_protocol = upstream.as_ref().map(|upstream| match &upstream.stream {
        Stream::Wire(_) => Version::Http11,
        Stream::H2(_) => Version::Http2,
    });
    notes.upstream_local = upstream.filter(|_| Needs::of(logs).upstream_local).and_then(Upstream::local_addr);
}

impl Exchange<'_> {
    fn notes(&mut self) -> Option<&mut Notes> {
        (!logs(self.downstream).is_empty()).then_some(&mut self.heads.notes)
    }

    /// Why the response is what it is (`%RESPONSE_CODE_DETAILS%`).
    pub(super) fn note(&mut self, details: &'static str) {
        if let Some(notes) = self.notes() {
            notes.details = details.into();
        }
    }

    pub(super) fn note_route(&mut self, name: &str) {
        if let Some(notes) = self.notes() {
            notes.set_route(name);
        }
    }

    /// An endpoint gave no response.
    pub(super) fn note_failure(&mut self, failure: &Failure, trying: &Trying) {
        if let Some(notes) = self.notes() {
            notes.details = failure.details();
            notes.failure = failure.transport_failure().replace(' ', "_");
            notes.request_end = trying.complete();
        }
    }

    /// A response that had begun was broken off.
    pub(super) fn note_broken(&mut self, flag: Flags) {
        self.note(match flag {
            Flags::DOWNSTREAM_TERMINATED => "downstream_remote_disconnect",
            Flags::STREAM_IDLE_TIMEOUT => "stream_idle_timeout",
            _ => "upstream_reset_after_response_started{connection_termination}",
        });
    }

    /// Writes the lines.
    pub(super) fn log(&self, now: Instant) {
        let logs = logs(self.downstream);
        if logs.is_empty() {
            return;
        }
        let entry = Entry {
            downstream: self.downstream,
            request: Some(&self.heads.request),
            response: (self.record.code != 0).then_some(&self.heads.response),
            record: &self.record,
            notes: &self.heads.notes,
            version: Some(self.heads.request.version),
            now,
        };
        access_log::write(self.worker, logs, &entry);
    }
}
