use proptest::prelude::*;

use super::*;

fn resource_of(path: &str) -> ResourcePath {
    match ApiPath::parse(path) {
        Some(ApiPath::Resource(resource)) => resource,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn paths_name_what_they_say() {
    let at = |group: &str, namespace: &str, plural: &str, name: &str, subresource: &str| ResourcePath {
        group: group.to_owned(),
        version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        plural: plural.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        watch: false,
    };
    for (path, expected) in [
        ("/api/v1/services", at("", "", "services", "", "")),
        ("/api/v1/namespaces", at("", "", "namespaces", "", "")),
        ("/api/v1/namespaces/a", at("", "", "namespaces", "a", "")),
        ("/api/v1/namespaces/a/status", at("", "", "namespaces", "a", "status")),
        ("/api/v1/namespaces/a/services", at("", "a", "services", "", "")),
        ("/api/v1/namespaces/a/services/b/", at("", "a", "services", "b", "")),
        ("/apis/g.io/v1/namespaces/a/things/b/status", at("g.io", "a", "things", "b", "status")),
        ("/apis/g.io/v1/things/b", at("g.io", "", "things", "b", "")),
        ("/api/v1/namespaces/a/services/b%2Dc", at("", "a", "services", "b-c", "")),
    ] {
        assert_eq!(resource_of(path), expected, "{path}");
    }
    assert!(resource_of("/api/v1/watch/namespaces/a/services").watch);
    assert_eq!(ApiPath::parse("/apis/"), Some(ApiPath::Groups));
    for path in ["/api/v1/a/b/c/d", "/x/v1", "/api//services", "/api/v1/a%2Fb", "/api/v1/..", "/api/v1/%ff"] {
        assert_eq!(ApiPath::parse(path), None, "{path}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(/[a-z%.0-9]{0,6}){0,8}|.{0,40}") {
        let _ = ApiPath::parse(&text);
    }
}
