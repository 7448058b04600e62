//! Which proxies serve what was written.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use heddle_resource::Key;
use heddle_xds::{Event, ResourceType};
use rustc_hash::FxHashSet;

use super::metrics::PushMetrics;
use crate::scope::{GatewayRef, Scope};

/// How far a change has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Convergence {
    /// `metadata.resourceVersion` of what was compiled; empty for a deletion.
    pub revision: String,
    /// Proxies that serve it.
    pub acked: usize,
    /// Proxies concerned that were connected when it was published and still are.
    pub total: usize,
    /// Ids of the nodes that do not serve it yet.
    pub laggards: Vec<String>,
    /// What proxies refused of it.
    pub refusals: Vec<Refused>,
}

impl Convergence {
    pub fn done(&self) -> bool {
        self.acked == self.total
    }
}

/// One resource that one proxy refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Id of the node.
    pub node: String,
    pub kind: ResourceType,
    pub resource: String,
    /// In the client's words.
    pub reason: String,
}

/// The last publication of an object.
#[derive(Debug)]
struct Commit {
    generation: u64,
    revision: String,
    /// Scopes whose view it changed.
    scopes: Arc<FxHashSet<Scope>>,
}

#[derive(Debug)]
struct Node {
    id: String,
    scope: Scope,
    /// Generation at which it came.
    since: u64,
    /// Up to which generation it has answered everything.
    synced: u64,
    refused: BTreeMap<(ResourceType, Arc<str>), (u64, String)>,
}

impl Node {
    /// What it refuses of views since a generation.
    fn refusals(&self, since: u64) -> Vec<Refused> {
        let refused = self.refused.iter().filter(|(_, (generation, _))| *generation >= since);
        let refused = refused.map(|((kind, name), (_, reason))| Refused {
            node: self.id.clone(),
            kind: *kind,
            resource: name.to_string(),
            reason: reason.clone(),
        });
        refused.collect()
    }
}

/// Publications and answers.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    commits: HashMap<Key, Commit>,
    nodes: HashMap<u64, Node>,
    /// When each of the latest generations began.
    began: BTreeMap<u64, Instant>,
    /// How many commits there may be before the deleted ones are looked for.
    tidy_at: usize,
}

/// How many generations' beginnings are kept for measuring.
const BEGINNINGS: usize = 256;

impl Tracker {
    pub(super) fn attach(&mut self, stream: u64, id: String, scope: Scope, generation: u64) {
        let node = Node { id, scope, since: generation, synced: 0, refused: BTreeMap::new() };
        self.nodes.insert(stream, node);
    }

    pub(super) fn detach(&mut self, stream: u64) {
        self.nodes.remove(&stream);
    }

    pub(super) fn moved(&mut self, stream: u64, scope: Scope) {
        if let Some(node) = self.nodes.get_mut(&stream) {
            node.scope = scope;
        }
    }

    /// Objects were published.
    pub(super) fn commit(
        &mut self,
        objects: impl Iterator<Item = (Key, Option<String>)>,
        generation: u64,
        scopes: Vec<Scope>,
        began: Instant,
    ) {
        let scopes = Arc::new(scopes.into_iter().collect::<FxHashSet<_>>());
        for (key, revision) in objects {
            let commit =
                Commit { generation, revision: revision.unwrap_or_default(), scopes: scopes.clone() };
            self.commits.insert(key, commit);
        }
        self.began.insert(generation, began);
        while self.began.len() > BEGINNINGS {
            self.began.pop_first();
        }
    }

    /// Forgets objects; looked at now and then, since it looks at all of them.
    pub(super) fn forget(&mut self, gone: impl Fn(&Key, u64) -> bool) {
        if self.commits.len() >= self.tidy_at {
            self.commits.retain(|key, commit| !gone(key, commit.generation));
            self.tidy_at = (self.commits.len() * 2).max(BEGINNINGS);
        }
    }

    pub(super) fn heard(&mut self, stream: u64, event: &Event, now: Instant, metrics: &mut PushMetrics) {
        let Some(node) = self.nodes.get_mut(&stream) else { return };
        match event {
            Event::Acked { kind, resources, removed, .. } => {
                metrics.pushes[kind.index()] += 1;
                let names = resources.iter().map(|(name, _)| name).chain(removed);
                for name in names {
                    node.refused.remove(&(*kind, name.clone()));
                }
            }
            Event::Nacked { kind, generation, refused, accepted, message } => {
                metrics.pushes[kind.index()] += 1;
                metrics.rejects[kind.index()] += 1;
                for (name, _) in accepted {
                    node.refused.remove(&(*kind, name.clone()));
                }
                for refusal in refused {
                    let reason =
                        if refusal.reason.is_empty() { message.clone() } else { refusal.reason.clone() };
                    node.refused.insert((*kind, refusal.name.clone()), (*generation, reason));
                }
            }
            Event::Synced { generation } => {
                let news = self
                    .began
                    .range(node.synced.max(node.since) + 1..)
                    .take_while(|(at, _)| *at <= generation);
                for (_, began) in news {
                    metrics.converged(now.saturating_duration_since(*began));
                }
                node.synced = node.synced.max(*generation);
            }
        }
    }

    pub(super) fn of(&self, key: &Key) -> Option<Convergence> {
        let commit = self.commits.get(key)?;
        let mut found = Convergence { revision: commit.revision.clone(), ..Convergence::default() };
        let concerned = self
            .nodes
            .values()
            .filter(|node| node.since < commit.generation && commit.scopes.contains(&node.scope));
        for node in concerned {
            found.total += 1;
            let refused = node.refusals(commit.generation);
            if node.synced >= commit.generation && refused.is_empty() {
                found.acked += 1;
            } else {
                found.laggards.push(node.id.clone());
            }
            found.refusals.extend(refused);
        }
        found.laggards.sort();
        Some(found)
    }

    /// Every connected node: its id, its scope, and up to which generation it has answered.
    pub(super) fn nodes(&self) -> Vec<NodeStatus> {
        let mut found: Vec<_> = self
            .nodes
            .iter()
            .map(|(stream, node)| NodeStatus {
                stream: *stream,
                id: node.id.clone(),
                scope: format!("{:?}", node.scope),
                gateway: node.scope.gateway.clone(),
                bind: node.scope.bind,
                synced: node.synced,
                wanted: node.synced,
                refused: node.refused.len(),
                refusals: node.refusals(0),
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id).then(a.stream.cmp(&b.stream)));
        found
    }
}

/// One open stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    pub stream: u64,
    /// The node's id.
    pub id: String,
    /// Role, namespace, the labels that matter, kind of client.
    pub scope: String,
    /// The Gateway that it serves.
    pub gateway: Option<GatewayRef>,
    /// The address on which it serves it.
    pub bind: Option<IpAddr>,
    /// The generation up to which it has answered everything.
    pub synced: u64,
    /// The generation of the view that it is to have.
    pub wanted: u64,
    /// How many resources it refuses now.
    pub refused: usize,
    /// Which ones, and why.
    pub refusals: Vec<Refused>,
}

#[cfg(test)]
#[path = "convergence_test.rs"]
mod convergence_test;
