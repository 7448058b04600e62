//! Finds the routes of a virtual host whose path can match, in order, in time that follows the path and not the table.
//!
//! Case-sensitive exact paths and prefixes stand in a byte trie; every other route is a candidate always. The lists met on
//! the way are merged by position, so the first match of the table is found first.

use smallvec::SmallVec;

use super::matching::{Case, PathMatcher};

/// Tables up to this long are scanned.
const SCAN: usize = 8;

/// Candidate lists of one virtual host; empty for short tables.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex {
    nodes: Box<[Node]>,
    residual: Box<[u32]>,
    len: u32,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Bytes from the parent to here.
    label: Box<[u8]>,
    /// First byte and node, sorted by byte.
    children: Box<[(u8, u32)]>,
    prefix: Box<[u32]>,
    separated: Box<[u32]>,
    exact: Box<[u32]>,
}

#[derive(Default)]
struct Building {
    label: Vec<u8>,
    children: Vec<(u8, usize)>,
    prefix: Vec<u32>,
    separated: Vec<u32>,
    exact: Vec<u32>,
}

impl RouteIndex {
    /// Indexes the path matchers of a table.
    pub fn build<'m>(matchers: impl ExactSizeIterator<Item = &'m PathMatcher>) -> RouteIndex {
        let len = matchers.len() as u32;
        if matchers.len() <= SCAN {
            return RouteIndex { len, ..RouteIndex::default() };
        }
        let mut nodes = vec![Building::default()];
        let mut residual = Vec::new();
        for (position, matcher) in (0u32..).zip(matchers) {
            match matcher {
                PathMatcher::Prefix(path, Case::Sensitive) => {
                    let node = place(&mut nodes, path);
                    nodes[node].prefix.push(position);
                }
                PathMatcher::Separated(path, Case::Sensitive) => {
                    let node = place(&mut nodes, path);
                    nodes[node].separated.push(position);
                }
                PathMatcher::Exact(path, Case::Sensitive) => {
                    let node = place(&mut nodes, path);
                    nodes[node].exact.push(position);
                }
                _ => residual.push(position),
            }
        }
        RouteIndex { nodes: nodes.into_iter().map(Node::from).collect(), residual: residual.into(), len }
    }

    /// Positions of the routes that can match this path, in order.
    pub fn candidates<'i>(&'i self, path: &[u8]) -> Candidates<'i> {
        if self.nodes.is_empty() {
            return Candidates::All(0..self.len);
        }
        let mut lists: SmallVec<[&'i [u32]; 8]> = SmallVec::new();
        let mut add = |list: &'i [u32]| {
            if !list.is_empty() {
                lists.push(list);
            }
        };
        add(&self.residual);
        let mut at = 0;
        let mut rest = path;
        while let Some(node) = self.nodes.get(at) {
            add(&node.prefix);
            match rest.first() {
                None => {
                    add(&node.separated);
                    add(&node.exact);
                    break;
                }
                Some(b'/') => add(&node.separated),
                Some(_) => {}
            }
            let Ok(child) = node.children.binary_search_by_key(&rest[0], |(byte, _)| *byte) else { break };
            at = node.children[child].1 as usize;
            let Some(behind) = self.nodes.get(at).and_then(|next| rest.strip_prefix(&*next.label)) else {
                break;
            };
            rest = behind;
        }
        Candidates::Merge(lists)
    }
}

/// The node for a path, splitting and adding as needed.
fn place(nodes: &mut Vec<Building>, path: &[u8]) -> usize {
    let (mut at, mut rest) = (0, path);
    loop {
        let Some(first) = rest.first().copied() else { return at };
        let Some(slot) = nodes[at].children.iter().position(|(byte, _)| *byte == first) else {
            nodes.push(Building { label: rest.to_vec(), ..Building::default() });
            let new = nodes.len() - 1;
            nodes[at].children.push((first, new));
            return new;
        };
        let child = nodes[at].children[slot].1;
        let common = nodes[child].label.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if common < nodes[child].label.len() {
            let tail = nodes[child].label.split_off(common);
            let head = std::mem::take(&mut nodes[child].label);
            let tail_first = tail[0];
            nodes[child].label = tail;
            nodes.push(Building { label: head, children: vec![(tail_first, child)], ..Building::default() });
            let middle = nodes.len() - 1;
            nodes[at].children[slot].1 = middle;
            at = middle;
        } else {
            at = child;
        }
        rest = &rest[common..];
    }
}

impl From<Building> for Node {
    fn from(mut node: Building) -> Node {
        node.children.sort_unstable();
        Node {
            label: node.label.into(),
            children: node.children.into_iter().map(|(byte, child)| (byte, child as u32)).collect(),
            prefix: node.prefix.into(),
            separated: node.separated.into(),
            exact: node.exact.into(),
        }
    }
}

/// Positions in order.
#[derive(Debug)]
pub enum Candidates<'i> {
    /// The whole table.
    All(std::ops::Range<u32>),
    /// Sorted lists to merge.
    Merge(SmallVec<[&'i [u32]; 8]>),
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Candidates::All(range) => range.next(),
            Candidates::Merge(lists) => {
                let (at, first) = lists
                    .iter()
                    .enumerate()
                    .filter_map(|(at, list)| Some((at, *list.first()?)))
                    .min_by_key(|(_, p)| *p)?;
                lists[at] = &lists[at][1..];
                Some(first)
            }
        }
    }
}

#[cfg(test)]
#[path = "index_test.rs"]
mod index_test;
