//! Which virtual host a host belongs to: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// The domains of a route configuration.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    exact: FxHashMap<Box<[u8]>, u32>,
    /// Longest first.
    suffixes: Box<[ByLength]>,
    /// Longest first.
    prefixes: Box<[ByLength]>,
    any: Option<u32>,
}

#[derive(Clone, Debug)]
struct ByLength {
    len: usize,
    hosts: FxHashMap<Box<[u8]>, u32>,
}

impl Domains {
    /// Indexes the domains of each virtual host. A domain that stands twice is an error that names it.
    pub fn build<'d>(hosts: impl Iterator<Item = &'d [Box<str>]>) -> Result<Domains, String> {
        let mut domains = Domains::default();
        let (mut suffixes, mut prefixes) = (Vec::new(), Vec::new());
        for (index, names) in hosts.enumerate() {
            let index = u32::try_from(index).map_err(|_| "too many virtual hosts".to_string())?;
            for name in names {
                let twice =
                    || format!("domains: {name:?} stands twice; every domain belongs to one virtual host");
                if &**name == "*" {
                    if domains.any.replace(index).is_some() {
                        return Err(twice());
                    }
                } else if let Some(suffix) = name.strip_prefix('*') {
                    insert(&mut suffixes, suffix, index).ok_or_else(twice)?;
                } else if let Some(prefix) = name.strip_suffix('*') {
                    insert(&mut prefixes, prefix, index).ok_or_else(twice)?;
                } else if domains.exact.insert(name.as_bytes().into(), index).is_some() {
                    return Err(twice());
                }
            }
        }
        domains.suffixes = longest_first(suffixes);
        domains.prefixes = longest_first(prefixes);
        Ok(domains)
    }

    /// The virtual host of a host.
    pub fn find(&self, host: &[u8]) -> Option<usize> {
        if host.iter().any(u8::is_ascii_uppercase) {
            let lower: SmallVec<[u8; 128]> = host.iter().map(u8::to_ascii_lowercase).collect();
            return self.find_lower(&lower);
        }
        self.find_lower(host)
    }

    fn find_lower(&self, host: &[u8]) -> Option<usize> {
        let wildcard = || {
            self.suffixes
                .iter()
                .filter(|set| set.len < host.len())
                .find_map(|set| set.hosts.get(&host[host.len() - set.len..]))
                .or_else(|| {
                    let shorter = self.prefixes.iter().filter(|set| set.len < host.len());
                    shorter.into_iter().find_map(|set| set.hosts.get(&host[..set.len]))
                })
        };
        let found = self.exact.get(host).or_else(wildcard).copied().or(self.any)?;
        Some(found as usize)
    }
}

fn insert(sets: &mut Vec<ByLength>, part: &str, index: u32) -> Option<()> {
    let at = match sets.iter().position(|set| set.len == part.len()) {
        Some(at) => at,
        None => {
            sets.push(ByLength { len: part.len(), hosts: FxHashMap::default() });
            sets.len() - 1
        }
    };
    sets[at].hosts.insert(part.as_bytes().into(), index).is_none().then_some(())
}

fn longest_first(mut sets: Vec<ByLength>) -> Box<[ByLength]> {
    sets.sort_by_key(|set| std::cmp::Reverse(set.len));
    sets.into()
}

/// The host without its port; an IPv6 literal keeps its brackets.
pub fn without_port(host: &[u8]) -> &[u8] {
    match port_start(host) {
        Some(at) => &host[..at],
        None => host,
    }
}

/// Where `:PORT` starts.
pub fn port_start(host: &[u8]) -> Option<usize> {
    let colon = host.iter().rposition(|byte| *byte == b':')?;
    if host.first() == Some(&b'[') && host.get(colon.wrapping_sub(1)) != Some(&b']') {
        return None;
    }
    if host.first() != Some(&b'[') && host[..colon].contains(&b':') {
        return None;
    }
    let port = &host[colon + 1..];
    (!port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)).then_some(colon)
}

#[cfg(test)]
#[path = "domains_test.rs"]
mod domains_test;
