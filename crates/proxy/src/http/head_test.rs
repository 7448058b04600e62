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
