//! Lines of the text format, written without anything that a line does not need: a scrape has tens of thousands.

use std::io::Write as _;

use crate::telemetry::metrics::{BOUNDS, Histogram};

/// [`BOUNDS`] as text, and what all values are below.
const LE: [&str; BOUNDS.len() + 1] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000",
    "60000", "300000", "600000", "1800000", "3600000", "+Inf",
];

/// Says what the family is, before its first sample.
pub(super) fn begin(out: &mut Vec<u8>, sample: usize, name: &str, kind: &str) {
    if sample == 0 {
        let _ = writeln!(out, "# TYPE {name} {kind}");
    }
}

fn put(out: &mut Vec<u8>, parts: [&str; 5]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn sample(out: &mut Vec<u8>, name: &str, labels: &str, value: u64) {
    put(out, [name, "{", labels, "} ", ""]);
    let _ = writeln!(out, "{value}");
}

/// A cluster's counter: family (sample, name, kind), the cluster's name, and the value.
pub(super) fn of_cluster(
    out: &mut Vec<u8>,
    (sample, name, kind): (usize, &str, &str),
    cluster: &str,
    value: u64,
) {
    if sample == 0 {
        let _ = writeln!(out, "# TYPE envoy_cluster_{name} {kind}");
    }
    put(out, ["envoy_cluster_", name, "{envoy_cluster_name=\"", cluster, "\"} "]);
    let _ = writeln!(out, "{value}");
}

pub(super) fn histogram(out: &mut Vec<u8>, name: &str, labels: &str, histogram: &Histogram) {
    let mut all = 0;
    for (le, count) in LE.iter().zip(histogram.cumulative()) {
        put(out, [name, "_bucket{", labels, ",le=\"", le]);
        let _ = writeln!(out, "\"}} {count}");
        all = count;
    }
    put(out, [name, "_sum{", labels, "} ", ""]);
    let _ = writeln!(out, "{}", histogram.sum());
    put(out, [name, "_count{", labels, "} ", ""]);
    let _ = writeln!(out, "{all}");
}

#[cfg(test)]
mod lines_test {
    use super::*;

    #[test]
    fn bounds_are_written_as_they_are() {
        let bounds: Vec<String> = BOUNDS.iter().map(f64::to_string).collect();
        assert_eq!(LE[..BOUNDS.len()], bounds);
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let (mut values, mut out) = (Histogram::default(), Vec::new());
        for value in [0.4, 3.0, 1e9] {
            values.observe(value);
        }
        histogram(&mut out, "m", "a=\"b\"", &values);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LE.len() + 2);
        assert_eq!(lines[0], "m_bucket{a=\"b\",le=\"0.5\"} 1");
        assert_eq!(lines[2], "m_bucket{a=\"b\",le=\"5\"} 2");
        assert_eq!(lines[19], "m_bucket{a=\"b\",le=\"+Inf\"} 3");
        assert_eq!(lines[20..], ["m_sum{a=\"b\"} 1000000003.4", "m_count{a=\"b\"} 3"]);
    }
}
