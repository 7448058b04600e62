//! One host of the name table, and the records that it is answered with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, SRV},
};

use crate::{Answer, NameEntry, NamePort, TTL_SECONDS};

/// Answers larger than this many addresses are cut; the order is shuffled, so all get their share.
pub(crate) const MAX_ADDRESSES: usize = 256;

/// What the index keeps of one entry.
pub(crate) struct Host {
    pub(crate) name: Name,
    pub(crate) namespace: Box<str>,
    pub(crate) headless: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// The name that it is another name for.
    pub(crate) alias: Option<Name>,
}

pub(crate) struct Port {
    pub(crate) name: Box<str>,
    pub(crate) number: u16,
    pub(crate) udp: bool,
}

pub(crate) struct Endpoint {
    pub(crate) label: Box<str>,
    pub(crate) address: IpAddr,
    /// Empty: the host's.
    pub(crate) ports: Vec<Port>,
}

impl Host {
    /// What an entry says; addresses and ports that are none are left out and reported.
    pub(crate) fn new(name: Name, entry: &NameEntry, faults: &mut Vec<String>) -> Self {
        let host = entry.host.as_str();
        let mut endpoints = Vec::with_capacity(entry.endpoints.len());
        for endpoint in &entry.endpoints {
            if let Some(address) = address(&endpoint.ip, host, faults) {
                endpoints.push(Endpoint {
                    label: endpoint_label(&endpoint.hostname, address),
                    address,
                    ports: ports(&endpoint.ports, host, faults),
                });
            }
        }
        let alias = Name::from_ascii(format!("{}.", entry.alias.trim_end_matches('.')));
        let alias = alias.ok().filter(|alias| !alias.is_root());
        if alias.is_none() && !entry.alias.is_empty() {
            faults.push(format!("alias {:?} of {host} is no domain name", entry.alias));
        }
        Self {
            alias,
            name,
            namespace: entry.namespace.as_str().into(),
            headless: entry.headless,
            addresses: entry.ips.iter().filter_map(|ip| address(ip, host, faults)).collect(),
            ports: ports(&entry.ports, host, faults),
            endpoints,
        }
    }

    /// SRV records of a port, with the targets' addresses beside them. False: no such port.
    pub(crate) fn service_records(
        &self,
        port: &str,
        udp: bool,
        owner: &Name,
        kind: RecordType,
        random: u64,
        answer: &mut Answer,
    ) -> bool {
        let matches = |p: &&Port| p.udp == udp && p.name.eq_ignore_ascii_case(port);
        let mut found = false;
        let wanted = matches!(kind, RecordType::SRV | RecordType::ANY);
        let mut push = |port: &Port, target: Name, addresses: &[IpAddr]| {
            found = true;
            if wanted {
                let srv = RData::SRV(SRV::new(0, 100, port.number, target.clone()));
                answer.answers.push(Record::from_rdata(owner.clone(), TTL_SECONDS, srv));
                for address in addresses {
                    push_address(&mut answer.additionals, &target, RecordType::ANY, *address);
                }
            }
        };
        if !self.headless {
            if let Some(port) = self.ports.iter().find(matches) {
                push(port, self.name.clone(), &self.addresses);
            }
            return found;
        }
        for endpoint in shuffled(&self.endpoints, random).take(MAX_ADDRESSES) {
            let ports = if endpoint.ports.is_empty() { &self.ports } else { &endpoint.ports };
            let target = self.name.prepend_label(&*endpoint.label);
            if let (Some(port), Ok(target)) = (ports.iter().find(matches), target) {
                push(port, target, &[endpoint.address]);
            }
        }
        found
    }
}

pub(crate) fn push_address(records: &mut Vec<Record>, owner: &Name, kind: RecordType, address: IpAddr) {
    let data = match (address, kind) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => RData::A(A(ip)),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(ip)),
        _ => return,
    };
    records.push(Record::from_rdata(owner.clone(), TTL_SECONDS, data));
}

/// Every item once, in an order that `random` decides.
pub(crate) fn shuffled<T>(items: &[T], random: u64) -> impl Iterator<Item = &T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let mut state = random;
    for i in (1..order.len()).rev() {
        // SplitMix64: enough to spread load, and the same everywhere for one seed.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        order.swap(i, ((mixed ^ (mixed >> 31)) % (i as u64 + 1)) as usize);
    }
    order.into_iter().filter_map(|i| items.get(i))
}

fn address(text: &str, host: &str, faults: &mut Vec<String>) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        faults.push(format!("host {host}: {text:?} is no IP address and is left out"));
    }
    address
}

/// Kubernetes names an endpoint without a hostname by its address: `10-0-0-1`, `2001-db8--1`.
fn endpoint_label(hostname: &str, address: IpAddr) -> Box<str> {
    if !hostname.is_empty() {
        return hostname.to_ascii_lowercase().into();
    }
    match address {
        IpAddr::V4(ip) => Ipv4Addr::to_string(&ip).replace('.', "-").into(),
        IpAddr::V6(ip) => {
            // A label must not begin or end with a dash.
            let text = Ipv6Addr::to_string(&ip).replace(':', "-");
            let head = if text.starts_with('-') { "0" } else { "" };
            let tail = if text.ends_with('-') { "0" } else { "" };
            format!("{head}{text}{tail}").into()
        }
    }
}

fn ports(ports: &[NamePort], host: &str, faults: &mut Vec<String>) -> Vec<Port> {
    let mut good = Vec::with_capacity(ports.len());
    for port in ports {
        match u16::try_from(port.number) {
            Ok(number) if number != 0 => good.push(Port {
                name: port.name.as_str().into(),
                number,
                udp: port.protocol.eq_ignore_ascii_case("udp"),
            }),
            _ => faults.push(format!("host {host}: {} is no port number and is left out", port.number)),
        }
    }
    good
}
