use super::*;
use crate::{NameEndpoint, NamePort};

pub(crate) fn port(name: &str, number: u32) -> NamePort {
    NamePort { name: name.into(), number, protocol: "TCP".into() }
}

/// A small mesh: two namespaces, a headless service, hosts from outside.
pub(crate) fn table() -> NameTable {
    let service = |name: &str, namespace: &str, ips: &[&str]| NameEntry {
        host: format!("{name}.{namespace}.svc.cluster.local"),
        namespace: namespace.into(),
        service: name.into(),
        ips: ips.iter().map(ToString::to_string).collect(),
        ports: vec![port("http", 9080)],
        ..NameEntry::default()
    };
    let outside = |host: &str, namespace: &str, ips: &[&str]| NameEntry {
        host: host.into(),
        service: String::new(),
        ..service("x", namespace, ips)
    };
    let alias = |name: &str, target: &str| NameEntry {
        alias: target.into(),
        ports: Vec::new(),
        ..service(name, "default", &[])
    };
    let endpoint = |ip: &str, hostname: &str| NameEndpoint {
        ip: ip.into(),
        hostname: hostname.into(),
        ports: vec![port("peer", 7000)],
    };
    let mut db = service("db", "default", &[]);
    db.headless = true;
    db.endpoints = vec![
        endpoint("10.1.0.1", "db-0"),
        endpoint("10.1.0.2", ""),
        endpoint("10.1.0.3", ""),
        endpoint("2001:db8::1", ""),
    ];
    let mut idle = service("idle", "default", &[]);
    idle.headless = true;
    NameTable {
        entries: vec![
            service("reviews", "default", &["240.240.0.1", "2001:2::1"]),
            service("reviews", "other", &["240.240.0.2"]),
            service("Ratings", "default", &["240.240.0.3"]),
            db,
            idle,
            outside("api.example.com", "other", &["240.240.0.9"]),
            outside("api.example.com", "default", &["240.240.0.10"]),
            outside("*.wild.example", "default", &["240.240.0.11"]),
            outside("*.deep.wild.example", "default", &["240.240.0.12"]),
            outside("left.example.com", "default", &[]),
            alias("inside", "ratings.default.svc.cluster.local"),
            alias("outside", "db.example.net."),
            alias("circle", "circle.default.svc.cluster.local"),
        ],
        cluster_domain: "cluster.local".into(),
        namespace: "default".into(),
    }
}

pub(crate) fn names() -> Names {
    let (names, faults) = Names::new(&table());
    assert_eq!(faults, Vec::<String>::new());
    names
}

/// The answer in one line: records without owner and TTL, `NXDOMAIN`, `NODATA` or `FORWARD`.
fn ask_as(asker: Option<&str>, name: &str, kind: RecordType) -> String {
    let query = Query::query(Name::from_ascii(name).unwrap(), kind);
    match names().answer(&query, asker, Outside::Absent, 7) {
        Verdict::Forward => "FORWARD".into(),
        Verdict::Alias(aliases, target) => {
            let data: Vec<String> = aliases.iter().map(|record| record.data.to_string()).collect();
            format!("{} THEN {target}", data.join(" "))
        }
        Verdict::Answer(answer) => {
            for record in &answer.answers {
                assert_eq!(record.ttl, TTL_SECONDS);
            }
            let negative = answer.answers.iter().all(|r| r.record_type() == RecordType::CNAME);
            assert_eq!(negative, !answer.authorities.is_empty(), "an SOA if and only if negative");
            let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
            match (answer.no_such_name, data.is_empty()) {
                (true, true) => "NXDOMAIN".into(),
                (false, true) => "NODATA".into(),
                (_, false) => data.join(" "),
            }
        }
    }
}

fn ask(name: &str, kind: RecordType) -> String {
    ask_as(Some("default"), name, kind)
}

#[test]
fn every_short_form_names_the_service() {
    for form in ["reviews.", "reviews.default.", "reviews.default.svc.", "reviews.default.svc.cluster.local."]
    {
        assert_eq!(ask(form, RecordType::A), "240.240.0.1", "{form}");
        assert_eq!(ask(form, RecordType::AAAA), "2001:2::1", "{form}");
    }
    assert_eq!(ask("REVIEWS.Default.SVC.cluster.local.", RecordType::A), "240.240.0.1");
    assert_eq!(ask("ratings.", RecordType::A), "240.240.0.3");
}

#[test]
fn short_forms_belong_to_the_askers_namespace() {
    assert_eq!(ask_as(Some("other"), "reviews.", RecordType::A), "240.240.0.2");
    assert_eq!(ask_as(Some("other"), "ratings.", RecordType::A), "FORWARD");
    assert_eq!(ask_as(Some("other"), "reviews.default.", RecordType::A), "240.240.0.1");
    assert_eq!(ask_as(None, "reviews.", RecordType::A), "FORWARD");
    assert_eq!(ask_as(None, "reviews.default.svc.cluster.local.", RecordType::A), "240.240.0.1");
}

#[test]
fn nodata_and_nxdomain_are_told_apart() {
    assert_eq!(ask("ratings.", RecordType::AAAA), "NODATA");
    assert_eq!(ask("ratings.", RecordType::TXT), "NODATA");
    assert_eq!(ask("nobody.default.svc.cluster.local.", RecordType::A), "NXDOMAIN");
    assert_eq!(ask("www.elsewhere.example.", RecordType::A), "FORWARD");
    assert_eq!(ask("left.example.com.", RecordType::A), "FORWARD");
}

#[test]
fn behind_a_cluster_unknown_names_go_to_its_dns() {
    let query = Query::query(Name::from_ascii("x.default.svc.cluster.local.").unwrap(), RecordType::A);
    let verdict = names().answer(&query, None, Outside::Forward, 0);
    assert!(matches!(verdict, Verdict::Forward));
}

#[test]
fn a_host_declared_twice_is_the_askers_own() {
    assert_eq!(ask("api.example.com.", RecordType::A), "240.240.0.10");
    assert_eq!(ask_as(Some("third"), "api.example.com.", RecordType::A), "240.240.0.9");
}

#[test]
fn the_longest_wildcard_wins() {
    assert_eq!(ask("a.wild.example.", RecordType::A), "240.240.0.11");
    assert_eq!(ask("a.b.wild.example.", RecordType::A), "240.240.0.11");
    assert_eq!(ask("a.deep.wild.example.", RecordType::A), "240.240.0.12");
    assert_eq!(ask("wild.example.", RecordType::A), "FORWARD");
}

#[test]
fn a_headless_service_is_its_healthy_endpoints() {
    let mut all: Vec<String> = ask("db.", RecordType::A).split(' ').map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
    assert_eq!(ask("db.", RecordType::AAAA), "2001:db8::1");
    assert_eq!(ask("db-0.db.", RecordType::A), "10.1.0.1");
    assert_eq!(ask("10-1-0-2.db.default.svc.cluster.local.", RecordType::A), "10.1.0.2");
    assert_eq!(ask("db-9.db.default.svc.cluster.local.", RecordType::A), "NXDOMAIN");
    assert_eq!(ask("idle.", RecordType::A), "NXDOMAIN");
}

#[test]
fn the_order_of_endpoints_follows_the_random_number() {
    let names = names();
    let query = Query::query(Name::from_ascii("db.").unwrap(), RecordType::A);
    let first = |random| match names.answer(&query, Some("default"), Outside::Absent, random) {
        Verdict::Answer(answer) => answer.answers[0].data.to_string(),
        Verdict::Forward | Verdict::Alias(..) => panic!("forwarded"),
    };
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for random in 0..3000u64 {
        *counts.entry(first(random.wrapping_mul(0x9e37_79b9_7f4a_7c15))).or_default() += 1;
        assert_eq!(first(random), first(random));
    }
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
}

#[test]
fn srv_names_port_and_target() {
    assert_eq!(
        ask("_http._tcp.reviews.default.svc.cluster.local.", RecordType::SRV),
        "0 100 9080 reviews.default.svc.cluster.local."
    );
    assert_eq!(ask("_http._udp.reviews.default.", RecordType::SRV), "NXDOMAIN");
    assert_eq!(ask("_nope._tcp.reviews.", RecordType::SRV), "NXDOMAIN");
    assert_eq!(ask("_http._tcp.reviews.", RecordType::A), "NODATA");
    let peers = ask("_peer._tcp.db.", RecordType::SRV);
    assert!(peers.contains("0 100 7000 db-0.db.default.svc.cluster.local."), "{peers}");
    assert!(peers.contains("0 100 7000 10-1-0-2.db.default.svc.cluster.local."), "{peers}");
    let query = Query::query(Name::from_ascii("_peer._tcp.db.").unwrap(), RecordType::SRV);
    let Verdict::Answer(answer) = names().answer(&query, Some("default"), Outside::Absent, 0) else {
        panic!()
    };
    assert_eq!((answer.answers.len(), answer.additionals.len()), (4, 4));
}

#[test]
fn what_a_search_list_makes_of_a_name_is_answered_at_once() {
    for suffix in ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local."] {
        let name = format!("api.example.com.{suffix}");
        assert_eq!(ask(&name, RecordType::A), "api.example.com. 240.240.0.10", "{name}");
    }
    // Not a mesh name: the expansion does not exist, and the resolver goes on to the name itself.
    assert_eq!(ask("www.elsewhere.example.default.svc.cluster.local.", RecordType::A), "NXDOMAIN");
    let twice = "reviews.default.svc.cluster.local.default.svc.cluster.local.";
    assert_eq!(ask(twice, RecordType::A), "reviews.default.svc.cluster.local. 240.240.0.1");
}

#[test]
fn one_bad_entry_disturbs_no_other() {
    let mut table = table();
    let bad =
        |host: &str, ip: &str| NameEntry { host: host.into(), ips: vec![ip.into()], ..Default::default() };
    table.entries.insert(0, bad("", "10.0.0.1"));
    table.entries.insert(0, bad("spaces are wrong", "10.0.0.1"));
    table.entries.insert(0, bad("half.example", "10.0.0.256"));
    table.entries[0].ports.push(port("far", 70_000));
    let (names, faults) = Names::new(&table);
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert_eq!(names.len(), 14);
    let query = Query::query(Name::from_ascii("reviews.").unwrap(), RecordType::A);
    assert!(matches!(names.answer(&query, Some("default"), Outside::Absent, 0), Verdict::Answer(_)));
}

#[test]
fn another_name_for_a_host_leads_to_it() {
    assert_eq!(ask("inside.", RecordType::A), "ratings.default.svc.cluster.local. 240.240.0.3");
    assert_eq!(
        ask("inside.default.svc.cluster.local.", RecordType::AAAA),
        "ratings.default.svc.cluster.local."
    );
    assert_eq!(ask("outside.", RecordType::A), "db.example.net. THEN db.example.net.");
    assert_eq!(ask_as(None, "outside.", RecordType::A), "FORWARD");
    let query =
        Query::query(Name::from_ascii("outside.default.svc.cluster.local.").unwrap(), RecordType::CNAME);
    let verdict = names().answer(&query, None, Outside::Absent, 0);
    let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    assert_eq!(answer.answers[0].data.to_string(), "db.example.net.");
    let query = Query::query(Name::from_ascii("circle.default.svc.cluster.local.").unwrap(), RecordType::A);
    let verdict = names().answer(&query, None, Outside::Absent, 0);
    assert!(matches!(verdict, Verdict::Answer(_)), "a circle ends: {verdict:?}");
}
