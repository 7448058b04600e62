use super::*;

#[test]
fn whole_text_or_nothing() {
    let rows: &[(&str, &str, bool)] = &[
        ("a|ab", "ab", true),
        ("a|ab", "abc", false),
        ("/v[0-9]+/.*", "/v12/x", true),
        ("/v[0-9]+/.*", "x/v12/x", false),
        (r"\d+", "٣", false),
        (r"\d+", "3", true),
        (r"\w+", "aZ_9", true),
        (r"\w+", "é", false),
        (r"[\d\-]+", "1-2", true),
        (r"[^\d]+", "ab", true),
        (r"[^\d]+", "a1", false),
        (r"[[]a", "[a", true),
        (r"[]]a", "]a", true),
        (r"[a&&b]+", "&ab", true),
        (r"[[:alpha:]]+", "abc", true),
        (r"\Qa.b\Ec", "a.bc", true),
        (r"\Qa.b\Ec", "axbc", false),
        ("(?i)abc", "aBC", true),
        (".", "é", true),
        ("a.c", "a\nc", false),
        ("", "", true),
        ("", "x", false),
        (r"a\<b", "a<b", true),
        (r"(?:x{1,50}y{1,50}){1,20}", "xy", true),
        (r"[a-z\-]+", "a-b", true),
        (r"^/foo$", "/foo", true),
        ("/one/[0-9]+", "/one/12", true),
        ("/one/[0-9]+", "/two/12", false),
        ("/one/[0-9]+", "/one/", false),
        ("/one", "/one/", false),
        (r"a\bb", "ab", false),
        (r"a\b/", "a/", true),
        ("a^b", "ab", false),
        ("(?:^a)b", "ab", true),
        ("^a|b$", "b", true),
    ];
    for (pattern, text, expected) in rows {
        let compiled = Pattern::new(pattern).unwrap();
        assert_eq!(compiled.is_match(text.as_bytes()), *expected, "{pattern} on {text:?}");
    }
}

#[test]
fn what_differs_in_its_beginning_shares_the_rest() {
    let [one, two, other] = ["/one/[0-9]+/(?:x|y)", "^/two/[0-9]+/(?:x|y)$", "/two/[0-9]+/(?:x|z)"]
        .map(|text| Pattern::new(text).unwrap());
    let dense = |pattern: &Pattern| match &pattern.engine {
        Engine::Dense(dfa) => dfa.clone(),
        Engine::Meta(_) => panic!("{pattern:?} is small"),
    };
    assert!(Arc::ptr_eq(&dense(&one), &dense(&two)));
    assert!(!Arc::ptr_eq(&dense(&two), &dense(&other)));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]
    #[test]
    fn a_pattern_means_what_it_means_as_a_whole(pattern in "[ab]{0,2}(\\^|\\$|\\\\b|a|\\(a\\|b\\)|\\(ab\\|a\\)|[ab][*+?]|\\[ab/\\]|\\.){0,4}b{0,1}", text in "[ab/]{0,5}") {
        let whole = program(&format!(r"\A(?:{})\z", translate(&pattern).unwrap()), &pattern).unwrap();
        let (compiled, wanted) = (Pattern::new(&pattern).unwrap(), whole.regex.is_match(&text));
        proptest::prop_assert_eq!(compiled.is_match(text.as_bytes()), wanted, "{} on {}", pattern, text);
    }
}

#[test]
fn replacements_follow_re2() {
    let rows: &[(&str, &str, &str, &str)] = &[
        ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("x*", "-", "abc", "-a-b-c-"),
        ("a", r"\\", "bab", r"b\b"),
    ];
    for (pattern, substitution, text, expected) in rows {
        let rewrite = RegexRewrite::new(pattern, substitution).unwrap();
        assert_eq!(String::from_utf8(rewrite.replace_all(text.as_bytes())).unwrap(), *expected, "{pattern}");
    }
}

#[test]
fn what_re2_refuses_is_refused() {
    for pattern in ["(", "a{2,1}", r"(a)\1", "(?=a)", "*", r"a\", "[a"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
    assert!(Pattern::new(&"a".repeat(translate::PATTERN_LIMIT + 1)).is_err());
    assert!(Pattern::new("(a{1000}){1000}").is_err());
    assert!(RegexRewrite::new("a", r"\1").is_err());
    assert!(RegexRewrite::new("a", r"\x").is_err());
}
