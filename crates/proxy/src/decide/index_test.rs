use proptest::prelude::*;

use super::super::matching::Pattern;
use super::*;
use crate::http::head::RequestHead;

fn matcher() -> impl Strategy<Value = PathMatcher> {
    let path = proptest::collection::vec(prop_oneof!["a", "b", "ab", "A", "/"], 0..5)
        .prop_map(|parts| format!("/{}", parts.concat()).into_bytes().into_boxed_slice());
    let case = prop_oneof![4 => Just(Case::Sensitive), 1 => Just(Case::Insensitive)];
    (0..4, path, case).prop_map(|(kind, path, case)| match kind {
        0 => PathMatcher::Prefix(path, case),
        1 => PathMatcher::Exact(path, case),
        2 => PathMatcher::Separated(path, case),
        _ => PathMatcher::Regex(Pattern::new("/a.*").unwrap()),
    })
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_scan(
        matchers in proptest::collection::vec(matcher(), 0..40),
        path in "/[ab/A]{0,8}",
    ) {
        let head = RequestHead::new("GET", "h", &path);
        let index = RouteIndex::build(matchers.iter());
        let by_index: Vec<u32> = index
            .candidates(path.as_bytes())
            .filter(|at| matchers[*at as usize].is_match(&head, path.as_bytes()))
            .collect();
        let by_scan: Vec<u32> = (0u32..)
            .zip(&matchers)
            .filter(|(_, matcher)| matcher.is_match(&head, path.as_bytes()))
            .map(|(at, _)| at)
            .collect();
        prop_assert_eq!(by_index, by_scan);
    }
}

#[test]
fn candidates_of_a_long_table_are_few() {
    let matchers: Vec<PathMatcher> = (0..10_000)
        .map(|n| PathMatcher::Prefix(format!("/svc-{n}/").into_bytes().into(), Case::Sensitive))
        .collect();
    let index = RouteIndex::build(matchers.iter());
    for n in [0, 7, 4711, 9_999] {
        let found: Vec<u32> = index.candidates(format!("/svc-{n}/x").as_bytes()).collect();
        assert_eq!(found, [n]);
    }
    assert_eq!(index.candidates(b"/other").count(), 0);
}
