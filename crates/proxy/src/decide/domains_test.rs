use super::*;

fn find(hosts: &[&[&str]], host: &str) -> Option<usize> {
    let hosts: Vec<Vec<Box<str>>> =
        hosts.iter().map(|names| names.iter().map(|name| Box::from(*name)).collect()).collect();
    Domains::build(hosts.iter().map(Vec::as_slice)).unwrap().find(host.as_bytes())
}

#[test]
fn exact_then_longest_suffix_then_longest_prefix_then_any() {
    let hosts: &[&[&str]] =
        &[&["*"], &["a.com", "a.com:80"], &["*.a.com"], &["*.b.a.com", "*-x.a.com"], &["a.*"], &["a.b.*"]];
    let rows = [
        ("a.com", 1),
        ("A.Com", 1),
        ("a.com:80", 1),
        ("a.com:81", 4),
        ("w.a.com", 2),
        ("w.b.a.com", 3),
        ("w-x.a.com", 3),
        (".a.com", 0),
        ("a.org", 4),
        ("a.b.org", 5),
        ("a.", 0),
        ("", 0),
        ("z", 0),
    ];
    for (host, expected) in rows {
        assert_eq!(find(hosts, host), Some(expected), "{host}");
    }
    assert_eq!(find(&[&["a.com"]], "b.com"), None);
}

#[test]
fn a_domain_belongs_to_one_virtual_host() {
    for name in ["*", "a", "*.a", "a.*"] {
        let names: Vec<Box<str>> = vec![name.into()];
        let error = Domains::build([names.as_slice(), names.as_slice()].into_iter()).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn ports_are_found_behind_names_and_addresses() {
    let rows = [
        ("a:80", "a"),
        ("a", "a"),
        ("a:", "a:"),
        ("a:x", "a:x"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a:123456", "a:123456"),
    ];
    for (host, expected) in rows {
        assert_eq!(without_port(host.as_bytes()), expected.as_bytes(), "{host}");
    }
}
