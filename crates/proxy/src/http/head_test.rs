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

proptest::proptest! {
    /// Fields as they came, changed, removed and added: written one by one or in pieces, the bytes are the same.
    #[test]
    fn lines_are_written_as_they_are_read(
        lines in proptest::collection::vec(("[a-cA-C]{1,3}|[!#-'*+.0-9A-Z^_`a-z|~-]{7,20}", "[ \t]{0,2}", "[a-z ]{0,6}[a-z]|", "[ \t]{0,1}"), 0..8),
        changes in proptest::collection::vec((0..3, "[a-c]{1,3}"), 0..4),
        lower: bool,
    ) {
        let mut raw = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        for (name, before, value, after) in &lines {
            raw.extend_from_slice(format!("{name}:{before}{value}{after}\r\n").as_bytes());
        }
        raw.extend_from_slice(b"\r\n");
        let mut head = RequestHead::default();
        let limits = crate::http::h1::parse::Limits::default();
        crate::http::h1::parse::request(&raw, &mut head, limits).unwrap().unwrap();
        for (kind, name) in &changes {
            match kind {
                0 => head.headers.set(name, b"changed"),
                1 => head.headers.append(name, b"added"),
                _ => drop(head.headers.remove(name)),
            }
        }
        let mut wanted = Vec::new();
        for (name, value) in head.headers.iter() {
            let name = if lower { name.to_ascii_lowercase() } else { name.to_vec() };
            wanted.extend_from_slice(&[&name, &b": "[..], value, b"\r\n"].concat());
        }
        let mut written = Vec::new();
        head.headers.write_lines(&mut written, lower);
        proptest::prop_assert_eq!(written, wanted);
    }
}
