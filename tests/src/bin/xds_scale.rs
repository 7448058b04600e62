//! Measures a control plane with many streams: `xds_scale [STREAMS [SERVICES [ENDPOINTS [ROUTES [CONNECTIONS]]]]]`.
//!
//! The control plane runs in a process of its own, so that its memory and processor time are its own.
#![expect(clippy::print_stdout, reason = "a measurement prints what it measured")]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use heddle_tests::scale::{Plane, Size, Streams, Work, percentile};

fn main() {
    let mut args = std::env::args().skip(1);
    let serve = std::env::var_os("XDS_SCALE_SERVE").is_some();
    let mut number = |default: usize| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (streams, services, endpoints) = (number(10_000), number(1_000), number(10));
    let (routes, connections) = (number(0), number(streams.div_ceil(100)));
    let size = Size { services, endpoints, routes, streams, connections };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(async { if serve { serve_commands(size).await } else { measure(size).await } });
}

/// The process that is measured: `touch N` and `work` by standard input.
async fn serve_commands(size: Size) {
    let plane = Plane::start(size).await;
    println!("{}", plane.xds);
    let (lines, mut commands) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut before = plane.work();
    while let Some(command) = commands.recv().await {
        match command.strip_prefix("touch ").and_then(|service| service.parse().ok()) {
            Some(service) => {
                before = plane.work();
                println!("{}", plane.touch(service).await.as_nanos());
            }
            None => {
                let exact = plane.work().since(&before) == Work::of_one_endpoint_set(size.streams);
                println!(
                    "{}",
                    if exact { "exact".to_owned() } else { format!("{:?}", plane.work().since(&before)) }
                );
            }
        }
    }
}

async fn measure(size: Size) {
    let exe = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let numbers =
        [size.streams, size.services, size.endpoints, size.routes, size.connections].map(|n| n.to_string());
    let mut child = Command::new(exe)
        .args(&numbers)
        .env("XDS_SCALE_SERVE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}"));
    let (Some(mut ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
        panic!("the server's pipes were asked for above");
    };
    let mut answers = BufReader::new(answers).lines().map_while(Result::ok);
    let mut answer = move || answers.next().unwrap_or_default();
    let pid = child.id();
    let xds: SocketAddr = answer().parse().unwrap_or_else(|error| panic!("{error}"));
    let idle = memory(pid);
    println!("{} services of {} endpoints: control plane alone {idle} KiB", size.services, size.endpoints);
    let began = Instant::now();
    let mut streams = Streams::open(xds, size).await;
    let open = memory(pid);
    let per_stream = open.saturating_sub(idle) / size.streams.max(1) as u64;
    println!(
        "{} streams on {} connections have everything after {:.1?}: {open} KiB, {per_stream} KiB per stream, peak {} KiB",
        size.streams,
        size.connections,
        began.elapsed(),
        peak(pid)
    );
    for round in 0..10 {
        let _ = writeln!(ask, "touch {}", round * 37);
        let nanos: u64 = answer().parse().unwrap_or_default();
        let took = streams.arrivals(Duration::from_nanos(nanos), size.streams).await;
        let _ = writeln!(ask, "work");
        println!(
            "one endpoint changed: first {:.1?}, half {:.1?}, 99% {:.1?}, all {:.1?}; work {}",
            percentile(&took, 0),
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
            answer()
        );
    }
    println!("after ten changes: {} KiB", memory(pid));
    let _ = child.kill();
    let _ = child.wait();
}

/// Resident memory in KiB.
fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
