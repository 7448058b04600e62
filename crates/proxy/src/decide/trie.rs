//! Routes by the path they want, in a byte trie: what a lookup costs follows the path and not the table.

use super::index::List;

/// Which bytes of a path end a step that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Any: the path only begins so.
    Anything,
    /// The end of the path.
    Here,
    /// The end of the path or a `/`.
    Segment,
}

/// A trie; with `fold`, of lower-cased paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    fold: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Bytes from the parent to here.
    label: Box<[u8]>,
    /// First byte and node, sorted by byte.
    children: Box<[(u8, u32)]>,
    prefix: List,
    separated: List,
    exact: List,
}

/// A trie as it grows.
#[derive(Debug)]
pub(super) struct Growing {
    nodes: Vec<Branch>,
    fold: bool,
}

#[derive(Debug, Default)]
struct Branch {
    label: Vec<u8>,
    children: Vec<(u8, usize)>,
    prefix: Vec<u32>,
    separated: Vec<u32>,
    exact: Vec<u32>,
}

impl Growing {
    pub(super) fn new(fold: bool) -> Growing {
        Growing { nodes: vec![Branch::default()], fold }
    }

    /// Adds the route at `position`. Positions come in order; one that is there already is not added again.
    pub(super) fn add(&mut self, path: &[u8], end: End, position: u32) {
        let node = if self.fold { self.place(&path.to_ascii_lowercase()) } else { self.place(path) };
        let node = &mut self.nodes[node];
        let list = match end {
            End::Anything => &mut node.prefix,
            End::Here => &mut node.exact,
            End::Segment => &mut node.separated,
        };
        if list.last() != Some(&position) {
            list.push(position);
        }
    }

    /// The node for a path, splitting and adding as needed.
    fn place(&mut self, path: &[u8]) -> usize {
        let nodes = &mut self.nodes;
        let (mut at, mut rest) = (0, path);
        loop {
            let Some(first) = rest.first().copied() else { return at };
            let Some(slot) = nodes[at].children.iter().position(|(byte, _)| *byte == first) else {
                nodes.push(Branch { label: rest.to_vec(), ..Branch::default() });
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
                nodes.push(Branch { label: head, children: vec![(tail_first, child)], ..Branch::default() });
                let middle = nodes.len() - 1;
                nodes[at].children[slot].1 = middle;
                at = middle;
            } else {
                at = child;
            }
            rest = &rest[common..];
        }
    }

    /// The finished trie; `list` makes a list of positions.
    pub(super) fn finish(self, mut list: impl FnMut(Vec<u32>) -> List) -> Trie {
        let nodes = self.nodes.into_iter().map(|mut branch| {
            branch.children.sort_unstable();
            Node {
                label: branch.label.into(),
                children: branch.children.into_iter().map(|(byte, child)| (byte, child as u32)).collect(),
                prefix: list(branch.prefix),
                separated: list(branch.separated),
                exact: list(branch.exact),
            }
        });
        Trie { nodes: nodes.collect(), fold: self.fold }
    }
}

impl Trie {
    /// Visits the lists of the routes whose path matches.
    pub(super) fn walk<'t>(&'t self, path: &[u8], mut visit: impl FnMut(&'t List)) {
        let fold = |byte: u8| if self.fold { byte.to_ascii_lowercase() } else { byte };
        let mut at = 0;
        let mut rest = path;
        while let Some(node) = self.nodes.get(at) {
            visit(&node.prefix);
            let Some(next) = rest.first().copied() else {
                visit(&node.separated);
                visit(&node.exact);
                return;
            };
            if next == b'/' {
                visit(&node.separated);
            }
            let next = fold(next);
            let Ok(child) = node.children.binary_search_by_key(&next, |(byte, _)| *byte) else { return };
            at = node.children[child].1 as usize;
            let Some(label) = self.nodes.get(at).map(|child| &*child.label) else { return };
            let same = |given: &[u8]| {
                if self.fold { given.eq_ignore_ascii_case(label) } else { given == label }
            };
            match rest.split_at_checked(label.len()) {
                Some((given, behind)) if same(given) => rest = behind,
                _ => return,
            }
        }
    }
}
