//! Which listeners of a Gateway exclude each other.
//!
//! Listeners share a port if their protocols can be told apart there and their names differ. Of two that one object
//! declares neither is served. Of two that different objects declare the one that comes first is: the Gateway's, then
//! those of its ListenerSets by precedence.

use std::collections::BTreeMap;

use super::{
    hostname::Hostname,
    model::{Gateway, Listener},
};
use crate::status::Condition;

/// The condition `Conflicted` of every listener.
pub(super) fn all(gateway: &Gateway) -> Vec<Condition> {
    let listeners = &gateway.listeners;
    let mut held = Held::default();
    let mut conditions = Vec::with_capacity(listeners.len());
    let mut begin = 0;
    for group in listeners.chunk_by(|a, b| a.set == b.set) {
        let beaten: Vec<_> = group.iter().map(|listener| held.against(gateway, listener)).collect();
        for (at, listener) in group.iter().enumerate() {
            let siblings = group.iter().zip(&beaten).enumerate();
            let mut siblings = siblings
                .filter(|(other, (_, beaten))| *other != at && beaten.is_none())
                .map(|(_, (one, _))| one);
            let among = || siblings.find_map(|sibling| between(listener, sibling));
            let conflict = beaten[at].clone().or_else(among);
            conditions.push(conflict.unwrap_or_else(|| Condition::no("Conflicted", "NoConflicts", "")));
        }
        for (at, _) in beaten.iter().enumerate().filter(|(_, beaten)| beaten.is_none()) {
            held.add(begin + at, &group[at]);
        }
        begin += group.len();
    }
    conditions
}

/// What listeners of objects that come first have, by index.
#[derive(Default)]
struct Held<'a> {
    names: BTreeMap<(u16, &'a Hostname), usize>,
    families: BTreeMap<(u16, &'a str), usize>,
}

impl<'a> Held<'a> {
    fn add(&mut self, at: usize, listener: &'a Listener) {
        self.names.entry((listener.port, &listener.hostname)).or_insert(at);
        self.families.entry((listener.port, family(listener))).or_insert(at);
    }

    fn against(&self, gateway: &Gateway, listener: &Listener) -> Option<Condition> {
        let (port, own) = (listener.port, family(listener));
        let on_port = self.families.range((port, "")..).take_while(|((other, _), _)| *other == port);
        if let Some(&other) = on_port.into_iter().find(|((_, family), _)| *family != own).map(|(_, at)| at) {
            let other = &gateway.listeners[other];
            let whose = whose(gateway, listener, other);
            let message = format!(
                "port {port}: protocol {} here, {} on a listener of {whose}, which comes first",
                listener.protocol, other.protocol
            );
            return Some(conflicted("ProtocolConflict", message));
        }
        let other = &gateway.listeners[*self.names.get(&(port, &listener.hostname))?];
        let message = format!(
            "port {port}: a listener of {}, which comes first, has the same hostname {}",
            whose(gateway, listener, other),
            listener.hostname
        );
        Some(conflicted("HostnameConflict", message))
    }
}

/// Whose listener is in the way, as far as it concerns the owner of the one that gives way: what other namespaces have is
/// not told.
fn whose(gateway: &Gateway, listener: &Listener, other: &Listener) -> String {
    match &other.set {
        Some(set) if set.namespace != listener.owner(gateway).namespace => "another ListenerSet".to_owned(),
        Some(set) => set.to_string(),
        None => gateway.key.to_string(),
    }
}

/// A conflict of two listeners that one object declares.
fn between(listener: &Listener, other: &Listener) -> Option<Condition> {
    let port = listener.port;
    if other.port != port {
        return None;
    }
    if family(other) != family(listener) {
        let message = format!(
            "port {port}: protocol {} here, {} on listener {}",
            listener.protocol, other.protocol, other.name
        );
        return Some(conflicted("ProtocolConflict", message));
    }
    (other.hostname == listener.hostname).then(|| {
        let message =
            format!("port {port}: listener {} has the same hostname {}", other.name, other.hostname);
        conflicted("HostnameConflict", message)
    })
}

fn conflicted(reason: &'static str, message: String) -> Condition {
    Condition::yes("Conflicted", reason).with_message(message)
}

/// Protocols of one family can share a port: TLS by server name, HTTP by Host.
fn family(listener: &Listener) -> &str {
    match &*listener.protocol {
        "HTTPS" | "TLS" => "TLS",
        other => other,
    }
}
