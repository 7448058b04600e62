use super::*;

const fn rules() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejection_percent: 10,
        split_local_errors: false,
        consecutive_local: 5,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Tells the same of an endpoint until it is ejected; how often.
fn until_ejected(
    history: &History,
    told: Told,
    rules: &OutlierDetection,
    hosts: usize,
    now: Duration,
) -> u32 {
    (1..=100).find(|_| history.tell(told, rules, hosts, now)).unwrap_or(0)
}

#[test]
fn failures_in_a_row_eject_and_a_success_begins_anew() {
    let outliers = Outliers::default();
    let history = outliers.history(&Name::new("a"));
    for status in [500, 500, 200, 500, 404, 500, 500] {
        assert!(!history.tell(Told::Status(status), &rules(), 4, at(0)), "{status}");
    }
    assert!(history.tell(Told::Status(599), &rules(), 4, at(0)));
    assert!(history.ejected(at(29)));
    assert!(!history.ejected(at(30)));
    assert_eq!(outliers.ejected.load(Ordering::Relaxed), 0, "taken back");
}

#[test]
fn gateway_errors_and_local_failures_count_as_they_are_told_to() {
    let gateway = OutlierDetection { consecutive_gateway: 2, consecutive_5xx: 0, ..rules() };
    let history = || Outliers::default().history(&Name::new("a"));
    assert_eq!(until_ejected(&history(), Told::Status(503), &gateway, 4, at(0)), 2);
    assert_eq!(until_ejected(&history(), Told::Local, &gateway, 4, at(0)), 2);
    assert_eq!(until_ejected(&history(), Told::Status(500), &gateway, 4, at(0)), 0);
    let split = OutlierDetection { split_local_errors: true, consecutive_local: 4, ..rules() };
    assert_eq!(until_ejected(&history(), Told::Local, &split, 4, at(0)), 4);
    assert_eq!(until_ejected(&history(), Told::Status(500), &split, 4, at(0)), 3);
    let off = OutlierDetection { consecutive_5xx: 0, ..rules() };
    assert_eq!(until_ejected(&history(), Told::Status(500), &off, 4, at(0)), 0);
}

#[test]
fn each_ejection_is_longer_up_to_the_longest_and_quiet_time_forgives() {
    let history = Outliers::default().history(&Name::new("a"));
    let mut now = 0;
    for expected in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
        assert_eq!(until_ejected(&history, Told::Status(500), &rules(), 4, at(now)), 3);
        assert!(history.ejected(at(now + expected - 1)), "{expected}");
        now += expected;
        assert!(!history.ejected(at(now)), "{expected}");
    }
    // Eleven times; ten quiet intervals take ten off.
    assert_eq!(until_ejected(&history, Told::Status(500), &rules(), 4, at(now + 100)), 3);
    assert!(history.ejected(at(now + 100 + 59)));
    assert!(!history.ejected(at(now + 100 + 60)));
}

#[test]
fn one_may_always_go_and_no_more_than_the_share() {
    let ejected = |hosts: usize, percent: u32| {
        let outliers = Outliers::default();
        let rules = OutlierDetection { max_ejection_percent: percent, ..rules() };
        let all: Vec<_> = (0..hosts).map(|n| outliers.history(&Name::new(&n.to_string()))).collect();
        for history in &all {
            until_ejected(history, Told::Status(500), &rules, hosts, at(0));
        }
        all.iter().filter(|history| history.ejected(at(1))).count()
    };
    assert_eq!(ejected(3, 10), 1);
    assert_eq!(ejected(20, 10), 2);
    assert_eq!(ejected(29, 10), 2);
    assert_eq!(ejected(4, 100), 4);
    assert_eq!(ejected(4, 50), 2);
    assert_eq!(ejected(4, 0), 0);
}

#[test]
fn workers_share_the_history_and_what_is_gone_frees_its_place() {
    let outliers = Outliers::default();
    let (one, two) = (outliers.history(&Name::new("a")), outliers.history(&Name::new("a")));
    assert!(!one.tell(Told::Status(500), &rules(), 2, at(0)));
    assert!(!two.tell(Told::Status(500), &rules(), 2, at(0)));
    assert!(one.tell(Told::Status(500), &rules(), 2, at(0)));
    assert!(two.ejected(at(1)));
    drop((one, two));
    let other = outliers.history(&Name::new("b"));
    assert_eq!(until_ejected(&other, Told::Status(500), &rules(), 2, at(1)), 3);
}
