//! What resolv.conf says: whom to ask, and what the host's resolver appends.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

/// resolv.conf(5), the parts that concern forwarding. `sortlist` and the options that concern a stub
/// resolver's own work (`ndots`, `edns0`, ...) have no meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Port 53 each; at most 3, as the C library reads.
    pub servers: Vec<SocketAddr>,
    /// The search list, lower case, without final dots.
    pub search: Vec<String>,
    /// `options timeout:N`: per attempt; default 5 s, at most 30 s, as the C library.
    pub timeout: Duration,
    /// `options attempts:N`: rounds over the servers; default 2, at most 5.
    pub attempts: u32,
    /// `options rotate`.
    pub rotate: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
        }
    }
}

impl ResolvConf {
    /// Reads the text; lines that mean nothing to us are passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(server) = words.next().and_then(server)
                        && conf.servers.len() < 3
                    {
                        conf.servers.push(server);
                    }
                }
                // The last of them counts.
                Some("search" | "domain") => {
                    let clean = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                    conf.search = words.map(clean).filter(|word| !word.is_empty()).collect();
                }
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf
    }

    fn option(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("timeout", n)) => {
                if let Ok(n) = n.parse::<u64>() {
                    self.timeout = Duration::from_secs(n.clamp(1, 30));
                }
            }
            Some(("attempts", n)) => {
                if let Ok(n) = n.parse::<u32>() {
                    self.attempts = n.clamp(1, 5);
                }
            }
            None if option == "rotate" => self.rotate = true,
            _ => {}
        }
    }

    /// Whether the resolvers behind us serve this cluster domain themselves (we run inside a cluster).
    pub fn knows(&self, cluster_domain: &str) -> bool {
        let below = |name: &String| {
            name == cluster_domain
                || name.strip_suffix(cluster_domain).is_some_and(|rest| rest.ends_with('.'))
        };
        self.search.iter().any(below)
    }
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%2` (a numbered zone; named ones need the system's table).
fn server(text: &str) -> Option<SocketAddr> {
    if let Some((ip, zone)) = text.split_once('%') {
        let ip: Ipv6Addr = ip.parse().ok()?;
        return Some(SocketAddrV6::new(ip, 53, 0, zone.parse().ok()?).into());
    }
    text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_c_library_reads() {
        let conf = ResolvConf::parse(
            "# made by hand\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver 2001:db8::1 # second\n\
             domain old.example\nsearch Default.svc.cluster.local. svc.cluster.local corp.example\n\
             options ndots:5 timeout:1 attempts:9 rotate\nnameserver fe80::1%2\nnameserver 192.0.2.4\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]);
        assert_eq!(conf.search, ["default.svc.cluster.local", "svc.cluster.local", "corp.example"]);
        assert_eq!((conf.timeout, conf.attempts, conf.rotate), (Duration::from_secs(1), 5, true));
        assert!(conf.knows("cluster.local"));
        assert!(!conf.knows("r.local"));
    }
}
