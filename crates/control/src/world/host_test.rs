use super::*;

#[test]
fn short_names_belong_to_the_namespace_and_others_stand() {
    assert_eq!(&*resolve("reviews", "shop", "cluster.local"), "reviews.shop.svc.cluster.local");
    assert_eq!(&*resolve("*", "shop", "cluster.local"), "*");
    assert_eq!(&*resolve("Example.com", "shop", "cluster.local"), "example.com");
    assert_eq!(&*resolve("::1", "shop", "cluster.local"), "::1");
}

#[test]
fn patterns_go_from_specific_to_general() {
    let all: Vec<_> = patterns("a.b.c").collect();
    assert_eq!(all, ["a.b.c", "*.b.c", "*.c", "*"]);
    assert_eq!(patterns("*.b.c").collect::<Vec<_>>(), ["*.b.c", "*.c", "*"]);
    assert_eq!(patterns("*").collect::<Vec<_>>(), ["*"]);
    for pattern in all {
        assert!(covers(&pattern, "a.b.c"), "{pattern}");
    }
}

#[test]
fn export_to_reads_its_signs() {
    assert!(ExportTo::parse([], "a").visible_to("b"));
    assert!(!ExportTo::parse(["."], "a").visible_to("b"));
    assert!(ExportTo::parse([".", "b"], "a").visible_to("b"));
    assert!(!ExportTo::parse(["~"], "a").visible_to("a"));
    assert!(ExportTo::parse(["c", "*"], "a").visible_to("b"));
}
