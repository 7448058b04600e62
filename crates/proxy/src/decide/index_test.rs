use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::matching::{HeaderKind, HeaderMatcher, Pattern, StringMatcher};
use super::*;

const PATTERNS: [&str; 14] = [
    "/a.*",
    "/a/b",
    "/(a|b)/[ab]+",
    "/a?b.*",
    "(?i)/ab.*",
    ".*b",
    "/[ab]",
    "/[^/]*/a",
    "/a{1,3}b?",
    "|/a",
    "/ab(a|b|/|ab)*",
    r"/\Qab\E.*",
    "/(aa|ab|ba|bb)(aa|ab|ba|bb)(aa|ab|ba|bb)",
    "(/a|/ab|/abb).*",
];

static COMPILED: LazyLock<Vec<Pattern>> =
    LazyLock::new(|| PATTERNS.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect());

fn matcher() -> impl Strategy<Value = PathMatcher> {
    let path = proptest::collection::vec(prop_oneof!["a", "b", "ab", "A", "/"], 0..4)
        .prop_map(|parts| format!("/{}", parts.concat()).into_bytes().into_boxed_slice());
    let case = prop_oneof![3 => Just(Case::Sensitive), 1 => Just(Case::Insensitive)];
    (0..6, path, case, 0..PATTERNS.len()).prop_map(|(kind, path, case, pattern)| match kind {
        0 => PathMatcher::Prefix(path, case),
        1 => PathMatcher::Exact(path, case),
        2 => PathMatcher::Separated(path, case),
        3 => PathMatcher::Prefix(b"/".as_slice().into(), Case::Sensitive),
        4 => PathMatcher::Connect,
        _ => PathMatcher::Regex(Box::new(COMPILED[pattern].clone())),
    })
}

fn header() -> impl Strategy<Value = HeaderMatcher> {
    let text = prop_oneof![
        6 => ("[ab]{0,2}", any::<bool>()).prop_map(|(text, fold)| StringMatcher::exact(&text, fold)),
        1 => "[ab]{1,2}".prop_map(|text| StringMatcher::prefix(&text, false)),
    ];
    let value = prop_oneof![
        6 => text.prop_map(HeaderKind::Text),
        1 => any::<bool>().prop_map(HeaderKind::Present),
    ];
    let rarely = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let name = prop_oneof![4 => "x-[a-f]", 1 => Just("host".to_owned()), 1 => Just(":method".to_owned())];
    (name, value, rarely(), rarely()).prop_map(|(name, value, invert, missing_as_empty)| HeaderMatcher {
        name: name.into(),
        value,
        invert,
        missing_as_empty,
    })
}

fn route() -> impl Strategy<Value = RouteMatch> {
    (matcher(), proptest::collection::vec(header(), 0..3)).prop_map(|(path, headers)| on(path, headers))
}

fn on(path: PathMatcher, headers: Vec<HeaderMatcher>) -> RouteMatch {
    RouteMatch { path, headers: headers.into(), query: Box::default(), grpc: false, fraction: None }
}

fn prefix(path: &str) -> PathMatcher {
    PathMatcher::Prefix(path.as_bytes().into(), Case::Sensitive)
}

fn is(name: &str, value: &str) -> HeaderMatcher {
    let value = HeaderKind::Text(StringMatcher::exact(value, false));
    HeaderMatcher { name: name.into(), value, invert: false, missing_as_empty: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn the_index_agrees_with_a_scan(
        routes in proptest::collection::vec(route(), 0..60),
        method in prop_oneof![9 => Just("GET"), 1 => Just("CONNECT")],
        path in "/[ab/A]{0,8}",
        headers in proptest::collection::vec(("x-[a-f]", "[abA]{0,2}"), 0..5),
    ) {
        let mut head = RequestHead::new(method, "ab", &path);
        for (name, value) in &headers {
            head.headers.append(name, value.as_bytes());
        }
        let fits = |at: &u32| {
            let route = &routes[*at as usize];
            route.path.is_match(&head, path.as_bytes()) && route.headers.iter().all(|h| h.is_match(&head))
        };
        let index = RouteIndex::build(routes.iter());
        let by_index: Vec<u32> = index.candidates(&head, path.as_bytes()).filter(fits).collect();
        let by_scan: Vec<u32> = (0..routes.len() as u32).filter(fits).collect();
        prop_assert_eq!(by_index, by_scan);
    }
}

/// The candidates for a path with one header.
fn found(routes: &[RouteMatch], path: &str, header: (&str, &str)) -> Vec<u32> {
    let mut head = RequestHead::new("GET", "h", path);
    head.headers.append(header.0, header.1.as_bytes());
    RouteIndex::build(routes.iter()).candidates(&head, path.as_bytes()).collect()
}

#[test]
fn candidates_of_a_long_table_are_few_whatever_its_kind() {
    let regex =
        |n: u32| PathMatcher::Regex(Box::new(Pattern::new(&format!("/svc-{n}/[0-9]+/(a|b)")).unwrap()));
    let folded = |n: u32| PathMatcher::Prefix(format!("/Svc-{n}/").into_bytes().into(), Case::Insensitive);
    type Make<'m> = &'m dyn Fn(u32) -> RouteMatch;
    let kinds: [(u32, Make); 4] = [
        (10_000, &|n| on(prefix(&format!("/svc-{n}/")), vec![])),
        (100, &|n| on(regex(n), vec![])),
        (1000, &|n| on(folded(n), vec![])),
        // The header with one value for all stands first and tells nothing apart.
        (10_000, &|n| on(prefix("/"), vec![is("x-env", "prod"), is("x-tenant", &n.to_string())])),
    ];
    for (count, make) in kinds {
        let routes: Vec<RouteMatch> = (0..count).map(make).collect();
        for n in [0, 7, count / 2, count - 1] {
            assert_eq!(found(&routes, &format!("/svc-{n}/1/a"), ("x-tenant", &n.to_string())), [n]);
        }
        assert!(found(&routes, "/other", ("x-env", "prod")).is_empty());
    }
}

#[test]
fn expressions_that_begin_with_anything_are_looked_at_always() {
    let mut routes: Vec<RouteMatch> = (0..20).map(|n| on(prefix(&format!("/{n}/")), vec![])).collect();
    routes.insert(3, on(PathMatcher::Regex(Box::new(Pattern::new(".*/end").unwrap())), vec![]));
    assert_eq!(found(&routes, "/2/end", ("x", "")), [2, 3]);
    assert_eq!(found(&routes, "/zz/end", ("x", "")), [3]);
}
