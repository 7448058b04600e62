//! Finds the routes of a virtual host that can match a request, in order, in time that follows the request and not the table.
//!
//! Every path stands in a byte trie: exact ones, prefixes, and the literal text that a regular expression begins with. Where
//! many routes want the same path they are told apart by the header whose exact values differ most. The lists met on the way
//! are merged by position, so the first match of the table is found first. What is found is looked at in full, so that an
//! index can only save work. Scanned always are CONNECT routes and expressions that may begin with anything.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::matching::{Case, PathMatcher};
use super::trie::{End, Growing, Trie};
use crate::http::head::RequestHead;
use crate::snapshot::RouteMatch;

/// Tables and lists up to this long are scanned.
const SCAN: usize = 8;
/// Headers that one list is told apart by.
const NAMES: usize = 4;

/// Candidate lists of one virtual host; empty for short tables.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex {
    paths: Trie,
    /// Paths whose case does not count, if there are any.
    folded: Option<Box<Trie>>,
    rest: List,
    indexed: bool,
    len: u32,
}

/// Positions in order, in part by the value of a header.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    always: Box<[u32]>,
    by_header: Option<Box<[ByHeader]>>,
}

/// Positions of routes that want exact values of one header.
#[derive(Clone, Debug)]
struct ByHeader {
    name: Box<str>,
    values: FxHashMap<Box<[u8]>, Box<[u32]>>,
}

impl RouteIndex {
    /// Indexes a table.
    pub fn build<'m>(matches: impl Iterator<Item = &'m RouteMatch>) -> RouteIndex {
        let matches: Vec<&RouteMatch> = matches.collect();
        let len = matches.len() as u32;
        if matches.len() <= SCAN {
            return RouteIndex { len, ..RouteIndex::default() };
        }
        let (mut paths, mut folded) = (Growing::new(false), None);
        let mut rest = Vec::new();
        for (position, route) in (0u32..).zip(&matches) {
            let mut add = |path: &[u8], case, end| match case {
                Case::Sensitive => paths.add(path, end, position),
                Case::Insensitive => {
                    folded.get_or_insert_with(|| Growing::new(true)).add(path, end, position);
                }
            };
            match &route.path {
                PathMatcher::Prefix(path, case) => add(path, *case, End::Anything),
                PathMatcher::Separated(path, case) => add(path, *case, End::Segment),
                PathMatcher::Exact(path, case) => add(path, *case, End::Here),
                PathMatcher::Regex(pattern) => match pattern.prefixes() {
                    Some(all) => all.iter().for_each(|path| add(path, Case::Sensitive, End::Anything)),
                    None => rest.push(position),
                },
                PathMatcher::Connect => rest.push(position),
            }
        }
        let list = |positions| List::build(positions, &matches);
        RouteIndex {
            paths: paths.finish(list),
            folded: folded.map(|folded| Box::new(folded.finish(list))),
            rest: list(rest),
            indexed: true,
            len,
        }
    }

    /// Positions of the routes that can match a request with this path, in order.
    pub fn candidates<'i>(&'i self, head: &RequestHead, path: &[u8]) -> Candidates<'i> {
        if !self.indexed {
            return Candidates::All(0..self.len);
        }
        let mut lists: Lists<'i> = SmallVec::new();
        self.rest.pick(head, &mut lists);
        self.paths.walk(path, |list| list.pick(head, &mut lists));
        if let Some(folded) = &self.folded {
            folded.walk(path, |list| list.pick(head, &mut lists));
        }
        Candidates::Merge(lists)
    }
}

impl List {
    fn build(positions: Vec<u32>, matches: &[&RouteMatch]) -> List {
        if positions.len() <= SCAN {
            return List { always: positions.into(), by_header: None };
        }
        let wanted = |position: u32| {
            let headers = matches.get(position as usize).map_or(&[][..], |route| &route.headers);
            headers.iter().filter_map(|header| header.exact())
        };
        let mut different: FxHashMap<&str, FxHashMap<&[u8], Vec<u32>>> = FxHashMap::default();
        for position in &positions {
            for (name, value) in wanted(*position) {
                different.entry(name).or_default().entry(value).or_default();
            }
        }
        let mut names: Vec<(&str, usize)> =
            different.iter().map(|(name, values)| (*name, values.len())).collect();
        names.sort_unstable_by(|(a, many), (b, more)| more.cmp(many).then(a.cmp(b)));
        names.truncate(NAMES);
        let mut always = Vec::new();
        for position in positions {
            let best = names.iter().find_map(|(name, _)| wanted(position).find(|(own, _)| own == name));
            let list = best.and_then(|(name, value)| different.get_mut(name)?.get_mut(value));
            list.unwrap_or(&mut always).push(position);
        }
        let by_header = names.iter().filter_map(|(name, _)| {
            let values = different.remove(name)?.into_iter().filter(|(_, list)| !list.is_empty());
            let values = values.map(|(value, list)| (value.into(), list.into())).collect();
            Some(ByHeader { name: (*name).into(), values })
        });
        let by_header: Box<[ByHeader]> = by_header.filter(|header| !header.values.is_empty()).collect();
        List { always: always.into(), by_header: (!by_header.is_empty()).then_some(by_header) }
    }

    /// Adds the lists that this request's headers lead to. Most nodes of a trie have none.
    #[inline]
    fn pick<'l>(&'l self, head: &RequestHead, lists: &mut Lists<'l>) {
        if !self.always.is_empty() {
            lists.push(&self.always);
        }
        if let Some(headers) = &self.by_header {
            List::by_headers(headers, head, lists);
        }
    }

    fn by_headers<'l>(headers: &'l [ByHeader], head: &RequestHead, lists: &mut Lists<'l>) {
        for header in headers {
            for value in head.headers.get_all(&header.name) {
                lists.extend(header.values.get(value).map(|list| &**list));
            }
        }
    }
}

/// Sorted lists.
type Lists<'i> = SmallVec<[&'i [u32]; 8]>;

/// Positions in order, each once.
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
                let first = lists.iter().filter_map(|list| list.first().copied()).min()?;
                for list in lists {
                    // An expression with several beginnings, or a header given twice, leads here twice.
                    if list.first() == Some(&first) {
                        *list = &list[1..];
                    }
                }
                Some(first)
            }
        }
    }
}

#[cfg(test)]
#[path = "index_test.rs"]
mod index_test;
