//! The index over a name table, and the rules by which a question is answered. No I/O, no clock.

use std::sync::Arc;

use hickory_proto::{
    op::Query,
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{CNAME, SOA},
    },
};
use rustc_hash::FxHashMap;

use crate::{
    NameEntry, NameTable,
    host::{Endpoint, Host, MAX_ADDRESSES, push_address, shuffled},
};

/// How long an answer may be kept, in seconds; also bounds how long an absence may. CoreDNS's default
/// for Kubernetes services: long enough to spare the resolver, short enough to follow a change.
pub const TTL_SECONDS: u32 = 5;

/// What becomes of names in the cluster domain that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// They do not exist: nothing behind us knows the cluster domain, and asking the internet leaks names.
    Absent,
    /// The resolvers behind us may know (a cluster's own DNS).
    Forward,
}

/// What to do with a question.
#[derive(Debug)]
pub enum Verdict {
    Answer(Answer),
    /// Not ours: ask the resolvers.
    Forward,
    /// Another name for one that is not ours: these aliases lead to it, and the resolvers know the rest.
    Alias(Vec<Record>, Name),
}

/// The sections of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// NXDOMAIN; otherwise an empty `answers` is NODATA.
    pub no_such_name: bool,
    pub answers: Vec<Record>,
    /// The SOA of a negative answer, which bounds its caching (RFC 2308).
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// What a question's name stands for in the table.
enum Match<'a> {
    Host(&'a Host),
    Endpoint(&'a Endpoint),
    /// `_PORT._PROTOCOL.HOST`
    Service(&'a Host, &'a str, bool),
    /// A name below a host of ours that does not exist.
    Missing,
}

/// A name table ready to be asked.
#[derive(Default)]
pub struct Names {
    hosts: Vec<Host>,
    /// Lower-case full name to hosts, in the table's order.
    exact: FxHashMap<Box<str>, Vec<u32>>,
    /// `example.com` of `*.example.com`.
    wildcards: FxHashMap<Box<str>, Vec<u32>>,
    /// `reviews.default`
    services: FxHashMap<Box<str>, u32>,
    /// Lower case, no final dot; never empty.
    domain: Box<str>,
    namespace: Option<Arc<str>>,
}

impl Names {
    /// Indexes a table. Entries and addresses that cannot be names or addresses are left out and
    /// returned in text, to be logged; they disturb no other.
    pub fn new(table: &NameTable) -> (Self, Vec<String>) {
        let domain = table.cluster_domain.trim_matches('.').to_ascii_lowercase();
        let mut names = Self {
            domain: if domain.is_empty() { "cluster.local".into() } else { domain.into() },
            namespace: (!table.namespace.is_empty()).then(|| table.namespace.as_str().into()),
            ..Self::default()
        };
        let mut faults = Vec::new();
        for entry in &table.entries {
            names.add(entry, &mut faults);
        }
        (names, faults)
    }

    /// How many hosts can be answered.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The namespace the table was made for.
    pub fn namespace(&self) -> Option<&Arc<str>> {
        self.namespace.as_ref()
    }

    fn add(&mut self, entry: &NameEntry, faults: &mut Vec<String>) {
        let host = entry.host.trim_end_matches('.').to_ascii_lowercase();
        let (wildcard, plain) = match host.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host.as_str()),
        };
        let name = Name::from_ascii(format!("{plain}.")).ok().filter(|_| !plain.is_empty());
        let Some(name) = name.filter(|_| plain.bytes().all(is_host_byte)) else {
            faults.push(format!("host {:?} is no domain name and is not answered", entry.host));
            return;
        };
        let index = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let by_name = if wildcard { &mut self.wildcards } else { &mut self.exact };
        by_name.entry(plain.into()).or_default().push(index);
        if !entry.service.is_empty() && !wildcard {
            let short = format!("{}.{}", entry.service, entry.namespace).to_ascii_lowercase();
            self.services.entry(short.into()).or_insert(index);
        }
        self.hosts.push(Host::new(name, entry, faults));
    }

    /// Answers a question, or says that it is for the resolvers.
    ///
    /// `asker`: the namespace that short forms belong to (`None`: full names only). `random` shuffles the
    /// endpoints of headless services.
    pub fn answer(&self, query: &Query, asker: Option<&str>, outside: Outside, random: u64) -> Verdict {
        if query.query_class() != DNSClass::IN {
            return Verdict::Forward;
        }
        let name = query.name().to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        if let Some(found) = self.find(name, asker, true) {
            return self.respond(found, query, Vec::new(), query.name(), random);
        }
        // What a resolver makes of a name by its search list: answered at once under the name meant,
        // with an alias, as the resolver would otherwise ask for each expansion in turn.
        if let Some(meant) = self.without_search(name, asker)
            && let Some(found @ (Match::Host(_) | Match::Endpoint(_))) = self.find(meant, asker, false)
            && let Ok(target) = Name::from_ascii(format!("{meant}."))
        {
            let alias =
                Record::from_rdata(query.name().clone(), TTL_SECONDS, RData::CNAME(CNAME(target.clone())));
            return self.respond(found, query, vec![alias], &target, random);
        }
        if outside == Outside::Absent && self.in_domain(name) {
            return Verdict::Answer(self.absent());
        }
        Verdict::Forward
    }

    fn in_domain(&self, name: &str) -> bool {
        strip_domain(name, &self.domain).is_some()
    }

    /// `api.example.com` of `api.example.com.default.svc.cluster.local`.
    fn without_search<'q>(&self, name: &'q str, asker: Option<&str>) -> Option<&'q str> {
        let rest = strip_domain(name, &self.domain)?;
        let Some(rest) = strip_domain(rest, "svc") else { return Some(rest) };
        let asker = asker.map(str::to_ascii_lowercase);
        Some(asker.and_then(|asker| strip_domain(rest, &asker)).unwrap_or(rest))
    }

    /// `short`: whether short forms count.
    fn find<'a>(&'a self, name: &'a str, asker: Option<&str>, short: bool) -> Option<Match<'a>> {
        if let Some(host) = self.host(name, asker, short) {
            return Some(Match::Host(host));
        }
        // `_http._tcp.HOST`, and `_http._tcp` alone does not exist.
        if name.starts_with('_')
            && let Some((port, rest)) = name.split_once('.')
            && let Some((protocol, rest)) = rest.split_once('.')
            && let Some(host) = self.host(rest, asker, short)
        {
            return Some(match protocol {
                "_tcp" => Match::Service(host, &port[1..], false),
                "_udp" => Match::Service(host, &port[1..], true),
                _ => Match::Missing,
            });
        }
        if let Some((label, rest)) = name.split_once('.')
            && let Some(host) = self.host(rest, asker, short)
            && host.headless
        {
            if let Some(endpoint) = host.endpoints.iter().find(|endpoint| *endpoint.label == *label) {
                return Some(Match::Endpoint(endpoint));
            }
            // Under a short form it may be a longer name of somebody else's; under the full one it is not.
            if self.exact.contains_key(rest) {
                return Some(Match::Missing);
            }
        }
        self.wildcard(name, asker).map(Match::Host)
    }

    /// A host by full name or short form.
    fn host(&self, name: &str, asker: Option<&str>, short: bool) -> Option<&Host> {
        if let Some(found) = self.exact.get(name) {
            return self.preferred(found, asker);
        }
        let asker = asker.filter(|_| short)?;
        let index = match name.split('.').count() {
            1 => self.services.get(format!("{name}.{}", asker.to_ascii_lowercase()).as_str()),
            2 => self.services.get(name),
            3 => self.services.get(name.strip_suffix(".svc")?),
            _ => None,
        };
        self.hosts.get(*index? as usize)
    }

    /// The longest wildcard above a name.
    fn wildcard(&self, name: &str, asker: Option<&str>) -> Option<&Host> {
        if self.wildcards.is_empty() {
            return None;
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.wildcards.get(parent) {
                return self.preferred(found, asker);
            }
            rest = parent;
        }
        None
    }

    fn preferred(&self, found: &[u32], asker: Option<&str>) -> Option<&Host> {
        let mut hosts = found.iter().filter_map(|index| self.hosts.get(*index as usize));
        let first = hosts.clone().next();
        asker.and_then(|asker| hosts.find(|host| *host.namespace == *asker)).or(first)
    }

    fn respond(
        &self,
        found: Match<'_>,
        query: &Query,
        answers: Vec<Record>,
        owner: &Name,
        random: u64,
    ) -> Verdict {
        let mut answer = Answer { answers, ..Answer::default() };
        let kind = query.query_type();
        match found {
            Match::Missing => return Verdict::Answer(self.absent()),
            Match::Endpoint(endpoint) => push_address(&mut answer.answers, owner, kind, endpoint.address),
            Match::Service(host, port, udp) => {
                if !host.service_records(port, udp, owner, kind, random, &mut answer) {
                    return Verdict::Answer(self.absent());
                }
            }
            Match::Host(host) if host.headless => {
                if host.endpoints.is_empty() {
                    // Kubernetes' DNS specification: without a ready endpoint there is no such name.
                    return Verdict::Answer(self.absent());
                }
                for endpoint in shuffled(&host.endpoints, random).take(MAX_ADDRESSES) {
                    push_address(&mut answer.answers, owner, kind, endpoint.address);
                }
            }
            Match::Host(Host { alias: Some(target), .. }) => {
                return self.alias(target, query, answer.answers, owner, random);
            }
            // Declared without an address: the resolvers know where it is.
            Match::Host(host) if host.addresses.is_empty() => return Verdict::Forward,
            Match::Host(host) => {
                for address in host.addresses.iter().take(MAX_ADDRESSES) {
                    push_address(&mut answer.answers, owner, kind, *address);
                }
            }
        }
        if answer.answers.iter().all(|record| record.record_type() == RecordType::CNAME) {
            answer.authorities.push(self.soa());
        }
        Verdict::Answer(answer)
    }

    /// A CNAME, and behind it what the other name has, be it ours or not.
    fn alias(
        &self,
        target: &Name,
        query: &Query,
        mut answers: Vec<Record>,
        owner: &Name,
        random: u64,
    ) -> Verdict {
        /// Longer chains are circles.
        const MOST: usize = 8;
        let alias = RData::CNAME(CNAME(target.clone()));
        answers.push(Record::from_rdata(owner.clone(), TTL_SECONDS, alias));
        if query.query_type() == RecordType::CNAME || answers.len() >= MOST {
            return Verdict::Answer(Answer { answers, ..Answer::default() });
        }
        let name = target.to_ascii().to_ascii_lowercase();
        match self.find(name.trim_end_matches('.'), None, false) {
            Some(found) => self.respond(found, query, answers, target, random),
            None => Verdict::Alias(answers, target.clone()),
        }
    }

    fn absent(&self) -> Answer {
        Answer { no_such_name: true, authorities: vec![self.soa()], ..Answer::default() }
    }

    /// The zone's SOA. What counts is the minimum: how long an absence is believed.
    fn soa(&self) -> Record {
        let zone = Name::from_ascii(format!("{}.", self.domain)).unwrap_or_else(|_| Name::root());
        let label = |label: &str| zone.prepend_label(label).unwrap_or_else(|_| zone.clone());
        let soa = SOA::new(label("ns"), label("hostmaster"), 1, 7200, 1800, 86_400, TTL_SECONDS);
        Record::from_rdata(zone, TTL_SECONDS, RData::SOA(soa))
    }
}

/// `rest` of `rest.domain`; `None` for the domain itself and for names elsewhere.
fn strip_domain<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    name.strip_suffix(domain)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
#[path = "names_test.rs"]
pub(crate) mod names_test;
