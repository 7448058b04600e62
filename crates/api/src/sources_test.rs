use proptest::{collection, prelude::*};

use super::*;

proptest! {
    /// What is told to a client comes back as it was.
    #[test]
    fn versions_survive_their_text(revisions in collection::vec(any::<u64>(), 1..4)) {
        let versions = Versions(revisions.into_iter().map(Revision).collect());
        let count = versions.0.len();
        let text = versions.to_string();
        // Clients compare resourceVersions as numbers.
        prop_assert!(text.bytes().all(|b| b.is_ascii_digit()));
        prop_assert_eq!(Asked::parse(&text, count), Some(Asked::All(versions)));
    }

    #[test]
    fn no_text_panics(text in ".{0,70}|[0-9]{0,70}", stores in 0..4_usize) {
        let _ = Asked::parse(&text, stores);
    }
}

#[test]
fn an_object_s_version_is_the_primary_s() {
    let now = Versions(vec![Revision(9), Revision(5)]);
    let asked = Asked::parse("7", 2).unwrap();
    assert_eq!(asked.primary(), Revision(7));
    assert_eq!(asked.or_now(&now), Versions(vec![Revision(7), Revision(5)]));
    assert!(Versions(vec![Revision(9), Revision(6)]).ahead_of(&now));
    assert_eq!(Asked::parse("", 1), None);
    assert_eq!(Asked::parse("-1", 1), None);
}
