//! What the consumer has, by its own word: the versions to present after a reconnect.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::wanted::Wanted;
use crate::ResourceType;

/// What became of an update.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    Refused(BTreeMap<Arc<str>, String>),
    /// The reply was dropped.
    Abandoned,
}

/// Updates that are with the consumer, and versions of what it has accepted.
#[derive(Debug, Default)]
pub(super) struct Book {
    versions: [HashMap<Arc<str>, Held>; ResourceType::COUNT],
    /// In the order of receipt; settled in that order.
    outstanding: VecDeque<Outstanding>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Held {
    version: Arc<str>,
    /// The subscription under which it came; a later one starts with nothing.
    subscription: u64,
}

/// One update on its way through the consumer.
#[derive(Debug)]
pub(super) struct Outstanding {
    sequence: u64,
    pub(super) kind: ResourceType,
    /// The stream on which it came, to be answered there only.
    pub(super) stream: u64,
    pub(super) nonce: String,
    /// Resources that were refused before the consumer saw them.
    pub(super) malformed: BTreeMap<Arc<str>, String>,
    added: Vec<(Arc<str>, Held)>,
    removed: Vec<Arc<str>>,
    verdict: Option<Verdict>,
}

/// What to tell the server about an update.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: ResourceType,
    pub(super) stream: u64,
    pub(super) nonce: String,
    /// `None` is an ACK.
    pub(super) error: Option<String>,
}

impl Book {
    pub(super) fn new(initial: &[(ResourceType, Arc<str>, Arc<str>)]) -> Self {
        let mut book = Self::default();
        for (kind, name, version) in initial {
            let held = Held { version: version.clone(), subscription: 0 };
            book.versions[kind.index()].insert(name.clone(), held);
        }
        book
    }

    /// Versions to present for a type: of what is held and still wanted.
    pub(super) fn present(&self, kind: ResourceType, wanted: &Wanted) -> HashMap<String, String> {
        let current = |name: &str, held: &Held| match wanted.subscription(kind, name) {
            Some(now) => held.subscription == 0 || held.subscription == now,
            None => false,
        };
        let held = self.versions[kind.index()].iter().filter(|(name, held)| current(name, held));
        held.map(|(name, held)| (name.to_string(), held.version.to_string())).collect()
    }

    /// Enters an update; gives the number by which its verdict comes back.
    pub(super) fn enter(
        &mut self,
        kind: ResourceType,
        (stream, nonce): (u64, String),
        added: impl Iterator<Item = (Arc<str>, Arc<str>, u64)>,
        removed: Vec<Arc<str>>,
        malformed: BTreeMap<Arc<str>, String>,
    ) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let added =
            added.map(|(name, version, subscription)| (name, Held { version, subscription })).collect();
        let outstanding =
            Outstanding { sequence, kind, stream, nonce, malformed, added, removed, verdict: None };
        self.outstanding.push_back(outstanding);
        sequence
    }

    /// Takes a verdict; what to tell the server, if anything.
    pub(super) fn settle(&mut self, sequence: u64, verdict: Verdict) -> Option<Answer> {
        let at = self.outstanding.iter().position(|update| update.sequence == sequence)?;
        let update = self.outstanding.get_mut(at)?;
        let mut errors = std::mem::take(&mut update.malformed);
        let verdict = match verdict {
            Verdict::Refused(more) => {
                errors.extend(more);
                Verdict::Refused(errors.clone())
            }
            Verdict::Accepted if !errors.is_empty() => Verdict::Refused(errors.clone()),
            other => other,
        };
        let answer = (!matches!(verdict, Verdict::Abandoned)).then(|| Answer {
            kind: update.kind,
            stream: update.stream,
            nonce: std::mem::take(&mut update.nonce),
            error: (!errors.is_empty()).then(|| text(&errors)),
        });
        update.verdict = Some(verdict);
        while let Some(verdict) = self.outstanding.front_mut().and_then(|first| first.verdict.take()) {
            if let Some(update) = self.outstanding.pop_front() {
                self.enter_versions(update, &verdict);
            }
        }
        answer
    }

    fn enter_versions(&mut self, update: Outstanding, verdict: &Verdict) {
        let versions = &mut self.versions[update.kind.index()];
        for (name, held) in update.added {
            match verdict {
                Verdict::Accepted => {
                    versions.insert(name, held);
                }
                Verdict::Refused(errors) if !errors.contains_key(&name) => {
                    versions.insert(name, held);
                }
                // The version before stays in force.
                Verdict::Refused(_) => {}
                // Nobody knows what became of it: it has to come again.
                Verdict::Abandoned => {
                    versions.remove(&name);
                }
            }
        }
        for name in update.removed {
            versions.remove(&name);
        }
    }

    /// Forgets what is no longer wanted.
    pub(super) fn forget(&mut self, kind: ResourceType, names: &[String], wanted: &Wanted) {
        let versions = &mut self.versions[kind.index()];
        for name in names {
            if name == "*" {
                versions.retain(|name, _| wanted.subscription(kind, name).is_some());
            } else if wanted.subscription(kind, name).is_none() {
                versions.remove(name.as_str());
            }
        }
    }
}

fn text(errors: &BTreeMap<Arc<str>, String>) -> String {
    let line = |(name, reason): (&Arc<str>, &String)| {
        let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{name}: {reason}")
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}
