use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn label_selectors() {
    let web = labels(&[("app", "web"), ("tier", "2"), ("k8s.io/part-of", "shop")]);
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app==web,tier=2", true),
        ("app!=web", false),
        ("other!=x", true),
        ("app in (web,db)", true),
        ("app in ( db , web )", true),
        ("app notin (web)", false),
        ("other notin (web)", true),
        ("app", true),
        ("!app", false),
        ("! other", true),
        ("tier>1,tier<3", true),
        ("tier>2", false),
        ("app>2", false),
        ("k8s.io/part-of=shop", true),
        ("app=", false),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&web), expected, "{text}");
    }
    for text in ["=x", "app in web", "app in (a", "a b", "app within (a)", "app>x", "a=b=c", "a=b c", "a={}"]
    {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn field_selectors() {
    let object = json!({ "metadata": { "name": "a,b" }, "type": "Opaque" });
    for (text, expected) in
        [("metadata.name=a\\,b", true), ("metadata.name!=x", true), ("type==Opaque", true), ("type=x", false)]
    {
        assert_eq!(FieldSelector::parse(text, &["type"]).unwrap().matches(&object), expected, "{text}");
    }
    assert!(FieldSelector::parse("spec.x=1", &[]).is_err());
    assert!(FieldSelector::parse("metadata.name", &[]).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = LabelSelector::parse(&text).map(|s| s.matches(&labels(&[("a", "b")])));
        let _ = FieldSelector::parse(&text, &["a"]).map(|s| s.matches(&json!({})));
    }
}
