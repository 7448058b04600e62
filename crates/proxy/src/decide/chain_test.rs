use std::sync::Arc;

use super::*;
use crate::snapshot::{Direction, Inspect, Name, NetworkFilter};

fn chain(name: &str, matches: ChainMatch) -> Arc<FilterChain> {
    Arc::new(FilterChain {
        name: name.into(),
        matches,
        filter: NetworkFilter::Close,
        fingerprint: 0,
        provenance: None,
        tls: None,
        handshake_timeout: std::time::Duration::from_secs(15),
    })
}

fn listener(chains: Vec<Arc<FilterChain>>, default: bool) -> Listener {
    Listener {
        name: Name::new("l"),
        modes: Box::default(),
        addresses: Default::default(),
        bind_to_port: true,
        use_original_dst: false,
        inspect: Inspect::default(),
        inspect_timeout: None,
        continue_on_timeout: false,
        chains: chains.into(),
        default_chain: default.then(|| chain("default", ChainMatch::default())),
        transparent: false,
        freebind: false,
        direction: Direction::Unspecified,
        buffer_limit: 0,
        backlog: None,
        fingerprint: 0,
        provenance: None,
    }
}

fn connection<'c>(destination: &str, source: &str) -> Connection<'c> {
    let source: std::net::SocketAddr = source.parse().unwrap();
    Connection {
        destination: destination.parse().unwrap(),
        source: source.into(),
        direct_source: Some(source.ip()),
        server_name: "",
        transport_protocol: "raw_buffer",
        application_protocols: &[],
    }
}

fn chosen(listener: &Listener, connection: Connection<'_>) -> String {
    match_filter_chain(listener, &connection).map_or("none".into(), |chain| chain.name.to_string())
}

#[test]
fn each_criterion_keeps_the_best_match() {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let texts = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect::<Vec<Box<str>>>();
    let any = ChainMatch::default;
    let listener = listener(
        vec![
            chain("any", any()),
            chain("port", ChainMatch { destination_port: Some(443), ..any() }),
            chain("wide", ChainMatch { destinations: nets(&["10.0.0.0/8"]), ..any() }),
            chain("narrow", ChainMatch { destinations: nets(&["10.1.0.0/16", "fd00::/8"]), ..any() }),
            chain("exact", ChainMatch { server_names: texts(&["a.com"]), ..any() }),
            chain("suffix", ChainMatch { server_names: texts(&["*.a.com"]), ..any() }),
            chain("longer", ChainMatch { server_names: texts(&["*.b.a.com"]), ..any() }),
            chain("tls", ChainMatch { transport_protocol: "tls".into(), ..any() }),
            chain("h2", ChainMatch { application_protocols: texts(&["h2c", "http/1.1"]), ..any() }),
            chain("local", ChainMatch { source_type: SourceType::SameIpOrLoopback, ..any() }),
            chain("from", ChainMatch { sources: nets(&["192.168.0.0/16"]), ..any() }),
            chain("from-port", ChainMatch { source_ports: vec![7], ..any() }),
        ],
        true,
    );
    let base = connection("11.0.0.1:80", "1.2.3.4:5");
    let named = |name| Connection { server_name: name, ..base };
    let rows = [
        (base, "any"),
        (connection("11.0.0.1:443", "1.2.3.4:5"), "port"),
        (connection("10.2.0.1:80", "1.2.3.4:5"), "wide"),
        (connection("10.1.0.1:80", "1.2.3.4:5"), "narrow"),
        (connection("[::ffff:10.1.0.1]:80", "1.2.3.4:5"), "narrow"),
        (connection("[fd00::1]:80", "[fd01::1]:5"), "narrow"),
        (connection("10.1.0.1:443", "1.2.3.4:5"), "port"),
        (named("a.com"), "exact"),
        (named("A.com"), "exact"),
        (named("x.a.com"), "suffix"),
        (named("x.b.a.com"), "longer"),
        (named("b.com"), "any"),
        (Connection { transport_protocol: "tls", ..base }, "tls"),
        (Connection { application_protocols: &["http/1.1"], ..base }, "h2"),
        (Connection { application_protocols: &["http/1.0"], ..base }, "any"),
        (connection("11.0.0.1:80", "127.0.0.1:5"), "local"),
        (connection("11.0.0.1:80", "11.0.0.1:5"), "local"),
        (connection("11.0.0.1:80", "192.168.3.4:5"), "from"),
        (connection("11.0.0.1:80", "1.2.3.4:7"), "from-port"),
    ];
    for (given, expected) in rows {
        assert_eq!(chosen(&listener, given), expected, "{given:?}");
    }
}

/// Envoy's order: the best match of an earlier criterion decides, even if a later one then finds nothing.
#[test]
fn earlier_criteria_decide_before_later_ones() {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let texts = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect::<Vec<Box<str>>>();
    let any = ChainMatch::default;
    let in_order = [
        ChainMatch { destination_port: Some(80), ..any() },
        ChainMatch { destinations: nets(&["11.0.0.0/8"]), ..any() },
        ChainMatch { server_names: texts(&["*.com"]), ..any() },
        ChainMatch { transport_protocol: "tls".into(), ..any() },
        ChainMatch { application_protocols: texts(&["h2"]), ..any() },
        ChainMatch { direct_sources: nets(&["9.9.0.0/16"]), ..any() },
        ChainMatch { source_type: SourceType::External, ..any() },
        ChainMatch { sources: nets(&["1.2.0.0/16"]), ..any() },
        ChainMatch { source_ports: vec![5], ..any() },
    ];
    let given = Connection {
        server_name: "a.com",
        transport_protocol: "tls",
        application_protocols: &["h2"],
        direct_source: Some([9, 9, 9, 9].into()),
        ..connection("11.0.0.1:80", "1.2.3.4:5")
    };
    for (first, earlier) in in_order.iter().enumerate() {
        for later in &in_order[first + 1..] {
            let pair = vec![chain("later", later.clone()), chain("earlier", earlier.clone())];
            assert_eq!(chosen(&listener(pair, false), given), "earlier", "{earlier:?} before {later:?}");
        }
    }
    // A chain that names the port and nobody's address: those without a port are out already.
    let port = ChainMatch { destination_port: Some(80), sources: nets(&["7.0.0.0/8"]), ..any() };
    let chains = vec![chain("any", any()), chain("port", port)];
    assert_eq!(chosen(&listener(chains, true), given), "default");
}

#[test]
fn the_first_protocol_that_a_client_names_counts_most() {
    let only = |text: &str| ChainMatch { application_protocols: vec![text.into()], ..ChainMatch::default() };
    let chains = vec![chain("http/1.1", only("http/1.1")), chain("h2", only("h2"))];
    let base = connection("11.0.0.1:80", "1.2.3.4:5");
    for (offer, expected) in [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "http/1.1")] {
        let given = Connection { application_protocols: &offer, ..base };
        assert_eq!(chosen(&listener(chains.clone(), false), given), expected);
    }
}

#[test]
fn the_default_chain_takes_what_nothing_matches() {
    let only = || vec![chain("port", ChainMatch { destination_port: Some(443), ..ChainMatch::default() })];
    let given = connection("11.0.0.1:80", "1.2.3.4:5");
    assert_eq!(chosen(&listener(only(), true), given), "default");
    assert_eq!(chosen(&listener(only(), false), given), "none");
}

/// Who comes by a Unix socket has no IP address: no range and no port is his, and he is on this machine.
#[test]
fn a_unix_socket_is_in_no_range() {
    let all: Vec<IpNet> = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap()).into();
    let any = ChainMatch::default;
    let listener = listener(
        vec![
            chain("destination", ChainMatch { destinations: all.clone(), ..any() }),
            chain("direct", ChainMatch { direct_sources: all.clone(), ..any() }),
            chain("source", ChainMatch { sources: all, ..any() }),
            chain("port", ChainMatch { destination_port: Some(0), ..any() }),
            chain("from", ChainMatch { source_ports: vec![0], ..any() }),
            chain("outside", ChainMatch { source_type: SourceType::External, ..any() }),
            chain("here", ChainMatch { source_type: SourceType::SameIpOrLoopback, ..any() }),
        ],
        false,
    );
    let pipe = Address::pipe("/run/front.sock").unwrap();
    let from = Connection {
        destination: pipe,
        source: pipe,
        direct_source: None,
        ..connection("10.0.0.1:1", "10.0.0.2:2")
    };
    assert_eq!(chosen(&listener, from), "here");
}
