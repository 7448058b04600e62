//! `/stats/prometheus`: Istio's standard metrics and some of Envoy's, in the text format.
//!
//! A thousand series of requests are some 50 MB of text, for their labels stand in every line of a histogram. So the text is
//! made piece by piece while it is sent, and a scrape holds one label set for each series and one piece.

mod labels;
mod lines;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use crate::run::Plane;
use crate::telemetry::metrics::{Histogram, Sums};
use crate::upstream::ClusterStats;

/// Bytes of text that are made at a time.
const PIECE: usize = 64 * 1024;

/// All samples of one metric.
enum Family {
    Requests,
    Histogram(&'static str, fn(&Sums) -> &Histogram),
    Tcp(&'static str, usize),
    Cluster(String, usize),
}

/// What all workers counted, on its way out as text.
pub(super) struct Exposition {
    requests: Vec<(String, Sums)>,
    /// Sent, received, opened, closed.
    tcp: Vec<(String, [u64; 4])>,
    /// Name, escaped, and values in the order of their families.
    clusters: Vec<(String, Vec<u64>)>,
    /// What needs no more than a line.
    rest: String,
    families: Vec<Family>,
    /// The family and the sample in it that come next.
    next: (usize, usize),
}

impl Exposition {
    pub(super) async fn of(plane: &Plane) -> Self {
        let config = &plane.config;
        let mut requests: BTreeMap<String, Sums> = BTreeMap::new();
        let mut tcp: BTreeMap<String, [u64; 4]> = BTreeMap::new();
        let mut clusters: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let (mut connections, mut connections_total) = (0, 0);
        let mut tls: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut logs = BTreeMap::from(plane.published.logs.counts.all());
        for worker in plane.collect().await {
            connections += worker.connections;
            connections_total += worker.connections_total;
            for (name, value) in worker.tls {
                *tls.entry(name).or_default() += value;
            }
            for (name, value) in super::clusters::LOG_LINES.into_iter().zip(worker.log_lines) {
                *logs.entry(name).or_default() += value;
            }
            for series in &worker.http {
                let labels = labels::http(config, &series.outcome, &series.target);
                requests.entry(labels).or_default().merge(&series.sums);
            }
            for series in &worker.tcp {
                let sums = tcp.entry(labels::tcp(config, series)).or_default();
                for (sum, value) in
                    sums.iter_mut().zip([series.sent, series.received, series.opened, series.closed])
                {
                    *sum += value;
                }
            }
            for cluster in &worker.clusters {
                let name = labels::escape(cluster.name.as_str()).into_owned();
                let values = cluster.counters.iter().map(|(_, value)| *value).chain([cluster.connections]);
                let sums = clusters.entry(name).or_insert_with(|| vec![0; cluster.counters.len() + 1]);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        let uptime = plane.started.elapsed().as_secs();
        let mut rest = format!(
            "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1\n",
            labels::escape(&config.version)
        );
        for (name, value) in tls {
            let _ = writeln!(rest, "# TYPE envoy_listener_{name} counter\nenvoy_listener_{name} {value}");
        }
        for (name, value) in logs {
            let name = name.replace('.', "_");
            let _ = writeln!(rest, "# TYPE envoy_{name} counter\nenvoy_{name} {value}");
        }
        for (name, kind, value) in [
            ("server_uptime", "gauge", uptime),
            ("listener_downstream_cx_active", "gauge", connections),
            ("listener_downstream_cx_total", "counter", connections_total),
        ] {
            let _ = writeln!(rest, "# TYPE envoy_{name} {kind}\nenvoy_{name} {value}");
        }
        Self {
            requests: requests.into_iter().collect(),
            tcp: tcp.into_iter().collect(),
            clusters: clusters.into_iter().collect(),
            rest,
            families: families(),
            next: (0, 0),
        }
    }

    /// The next piece; `None` at the end.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            let (family, sample) = self.next;
            let Some(family) = self.families.get(family) else {
                out.extend_from_slice(std::mem::take(&mut self.rest).as_bytes());
                break;
            };
            if out.capacity() == 0 {
                // A histogram more than the piece.
                out.reserve(PIECE + PIECE / 2);
            }
            match self.write(&mut out, family, sample) {
                Some(()) => self.next.1 += 1,
                None => self.next = (self.next.0 + 1, 0),
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Writes one sample of a family, or says that there is none.
    fn write(&self, out: &mut Vec<u8>, family: &Family, sample: usize) -> Option<()> {
        match family {
            Family::Requests => {
                let (labels, sum) = self.requests.get(sample)?;
                lines::begin(out, sample, "istio_requests_total", "counter");
                lines::sample(out, "istio_requests_total", labels, sum.requests);
            }
            Family::Histogram(name, pick) => {
                let (labels, sum) = self.requests.get(sample)?;
                lines::begin(out, sample, name, "histogram");
                lines::histogram(out, name, labels, pick(sum));
            }
            Family::Tcp(name, index) => {
                let (labels, sums) = self.tcp.get(sample)?;
                lines::begin(out, sample, name, "counter");
                lines::sample(out, name, labels, sums[*index]);
            }
            Family::Cluster(name, index) => {
                let (cluster, values) = self.clusters.get(sample)?;
                let kind = if name.ends_with("_active") { "gauge" } else { "counter" };
                lines::of_cluster(out, (sample, name, kind), cluster, values[*index]);
            }
        }
        Some(())
    }
}

fn families() -> Vec<Family> {
    let mut all = vec![
        Family::Requests,
        Family::Histogram("istio_request_duration_milliseconds", |sum| &sum.duration_ms),
        Family::Histogram("istio_request_bytes", |sum| &sum.request_bytes),
        Family::Histogram("istio_response_bytes", |sum| &sum.response_bytes),
        Family::Tcp("istio_tcp_sent_bytes_total", 0),
        Family::Tcp("istio_tcp_received_bytes_total", 1),
        Family::Tcp("istio_tcp_connections_opened_total", 2),
        Family::Tcp("istio_tcp_connections_closed_total", 3),
    ];
    let counters = ClusterStats::default().counters();
    let names = counters.iter().map(|(name, _)| *name).chain(["upstream_cx_active"]);
    let sorted: BTreeMap<&str, usize> = names.enumerate().map(|(index, name)| (name, index)).collect();
    // A dot has no place in a name here.
    all.extend(sorted.into_iter().map(|(name, index)| Family::Cluster(name.replace('.', "_"), index)));
    all
}

impl Body for Exposition {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

#[cfg(test)]
mod prometheus_test {
    use super::*;

    #[test]
    fn many_series_leave_in_pieces() {
        let sums = Sums { requests: 7, ..Sums::default() };
        let labels =
            |n: usize| format!("reporter=\"source\",destination_service=\"{}{n:04}\"", "x".repeat(600));
        let counters = families().iter().filter(|family| matches!(family, Family::Cluster(..))).count();
        let mut all = Exposition {
            requests: (0..300).map(|n| (labels(n), sums.clone())).collect(),
            tcp: vec![(labels(0), [1, 2, 3, 4])],
            clusters: vec![("outbound|80||web".to_owned(), vec![5; counters])],
            rest: "istio_build 1\n".to_owned(),
            families: families(),
            next: (0, 0),
        };
        let (mut text, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = all.piece() {
            assert!(piece.len() < 2 * PIECE, "{}", piece.len());
            text.extend(piece);
            pieces += 1;
        }
        assert!(pieces > 50, "{pieces}");
        let text = String::from_utf8(text).unwrap();
        let samples = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(samples("istio_requests_total{"), 300);
        assert_eq!(samples("istio_response_bytes_bucket{"), 300 * 20);
        assert_eq!(samples("istio_tcp_connections_closed_total{"), 1);
        assert_eq!(samples("envoy_cluster_"), counters);
        assert!(text.ends_with("istio_build 1\n"));
        let names =
            text.lines().map(|line| line.trim_start_matches("# TYPE ").split(['{', ' ']).next().unwrap());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        }
    }
}
