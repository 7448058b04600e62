use super::*;

#[test]
fn looks_up_without_regard_to_case_and_keeps_it() {
    let mut headers = Headers::new();
    headers.append("X-One", b"1");
    headers.append("x-two", b"2");
    headers.append("x-ONE", b"3");
    assert_eq!(headers.get("x-one"), Some(&b"1"[..]));
    assert_eq!(headers.get_all("x-one").collect::<Vec<_>>(), [&b"1"[..], b"3"]);
    headers.set("x-one", b"longer");
    let all: Vec<_> = headers.iter().collect();
    assert_eq!(all, [(&b"X-One"[..], &b"longer"[..]), (&b"x-two"[..], &b"2"[..])]);
    assert!(headers.remove("x-one"));
    assert!(!headers.remove("x-one"));
    assert_eq!(headers.len(), 1);
}

#[test]
fn splits_path_and_query() {
    let head = RequestHead::new("GET", "a:80", "/p/q?x=1&y#f");
    assert_eq!(head.path_only(), b"/p/q");
    assert_eq!(head.query(), Some(&b"x=1&y"[..]));
    assert_eq!(RequestHead::new("GET", "a", "/p").query(), None);
}

#[test]
fn keeps_unregistered_methods() {
    let mut head = RequestHead::new("PURGE", "a", "/");
    assert_eq!(head.method, Method::Other);
    assert_eq!(head.method_bytes(), b"PURGE");
    head.set_method(b"POST");
    assert_eq!(head.method_bytes(), b"POST");
    head.clear();
    assert_eq!(head.path(), b"");
}

proptest::proptest! {
    #[test]
    fn what_is_marked_is_found(
        names in proptest::collection::vec("[a-cA-C-]{1,4}|[xX]-[a-z]{1,20}", 0..20),
        asked in "[a-c-]{1,4}|x-[a-z]{1,20}",
    ) {
        let mut headers = Headers::new();
        for name in &names {
            headers.append(name, b"v");
        }
        for name in names.iter().map(|name| name.to_ascii_lowercase()).chain([asked]) {
            let there = names.iter().filter(|other| other.eq_ignore_ascii_case(&name)).count();
            proptest::prop_assert_eq!(headers.contains(&name), there > 0, "{}", &name);
            proptest::prop_assert_eq!(headers.get_all(&name).count(), there, "{}", &name);
        }
    }
}
