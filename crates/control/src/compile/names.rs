//! The names that a scope's DNS answers.

use heddle_dns::{NameEndpoint, NameEntry, NamePort, NameTable};
use heddle_xds::ResourceType;
use prost::Message;

use super::{cx::Cx, unit::Value};
use crate::world::{Endpoint, Health, Protocol, Resolution, Service};

/// The name of the one table that a scope has.
const TABLE: &str = "names";

pub(super) fn compile(cx: &Cx<'_>) -> Value {
    cx.encoded(ResourceType::NameTable, &cx.name(TABLE), table(cx).encode_to_vec()).into()
}

/// What the scope's DNS answers.
pub(super) fn table(cx: &Cx<'_>) -> NameTable {
    let mut entries: Vec<_> = cx.visible().services().map(|(service, _)| entry(cx, service)).collect();
    entries.sort_by(|a, b| a.host.cmp(&b.host));
    NameTable {
        entries,
        cluster_domain: cx.config().cluster_domain.to_string(),
        namespace: cx.namespace().to_string(),
    }
}

fn entry(cx: &Cx<'_>, service: &Service) -> NameEntry {
    let mut entry = NameEntry {
        host: service.host.to_string(),
        namespace: service.namespace.to_string(),
        service: if service.kubernetes { service.name.to_string() } else { String::new() },
        headless: service.headless,
        ports: service
            .ports
            .iter()
            .map(|port| NamePort {
                name: port.name.to_string(),
                number: u32::from(port.number),
                protocol: l4(port.protocol),
            })
            .collect(),
        ..Default::default()
    };
    if service.kubernetes && service.external {
        // Its address is the other name's: nobody listens on one of its own.
        entry.alias =
            cx.endpoints(&service.id()).first().map(|to| to.address.to_string()).unwrap_or_default();
    } else if service.headless {
        let endpoints = cx.endpoints(&service.id());
        let healthy = endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy);
        entry.endpoints = healthy.filter_map(|endpoint| name_endpoint(service, endpoint)).collect();
    } else if service.resolution != Resolution::Original || !service.addresses.is_empty() {
        // Where everything goes on to the address it was dialled by, the resolvers' address is the one.
        entry.ips = cx.addresses(service).iter().map(ToString::to_string).collect();
    }
    entry
}

fn l4(protocol: Protocol) -> String {
    if protocol == Protocol::Udp { "udp" } else { "tcp" }.to_owned()
}

fn name_endpoint(service: &Service, endpoint: &Endpoint) -> Option<NameEndpoint> {
    endpoint.address.parse::<std::net::IpAddr>().ok()?;
    let ports = endpoint.ports.iter().filter_map(|(number, own)| {
        let port = service.port(*number)?;
        Some(NamePort { name: port.name.to_string(), number: u32::from(*own), protocol: l4(port.protocol) })
    });
    Some(NameEndpoint {
        ip: endpoint.address.to_string(),
        hostname: endpoint.workload.hostname.to_string(),
        ports: ports.collect(),
    })
}
