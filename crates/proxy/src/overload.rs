//! Sheds load before file descriptors, memory or places for connections run out.
//!
//! Usage is looked at a few times a second and judged by the resource that is nearest to its end. Workers are told the
//! stage when it changes; a request reads one word of its own worker. What is shed comes back by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use heddle_runtime::Workers;

use crate::config::ProxyConfig;
use crate::worker::run::Message;

/// How much is shed. Each stage does what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    #[default]
    Calm,
    /// Connections without a request are closed, kept ones after their response; so are those to endpoints.
    CloseIdle,
    /// A request's head has to come within [`HURRY`], and in each such time some of a body that is waited for before there
    /// is an answer; as much has to be taken of a response.
    CutSlow,
    /// Requests are answered 503 `overload` (response flag `OM`).
    Refuse,
    /// New connections wait in the system's queue.
    StopAccepting,
}

/// From which share of a resource a stage is in force, in percent, and Envoy's name of what it does.
const STAGES: [(u64, Stage, &str); 4] = [
    (98, Stage::StopAccepting, "stop_accepting_connections"),
    (95, Stage::Refuse, "stop_accepting_requests"),
    (90, Stage::CutSlow, "reduce_timeouts"),
    (80, Stage::CloseIdle, "disable_http_keepalive"),
];
/// How long the head of a request, or a connection without any, is waited for under pressure.
pub(crate) const HURRY: Duration = Duration::from_secs(2);
/// How often usage is looked at.
const TICK: Duration = Duration::from_millis(100);
/// From which share of memory on, in percent, threads are asked for what they have freed, and how often.
const SHORT: u64 = 80;
const GIVE_BACK: Duration = Duration::from_secs(1);
/// How long after much was freed they are asked where memory is not short: what follows from a change is done by then. It is
/// before the pages of starting up are given back, which asking would touch again.
const SETTLED: Duration = Duration::from_millis(500);
/// Descriptors for what is no connection: listening sockets, the control plane, admin, files.
const OWN_FILES: u64 = 64;
/// The most descriptors that are left for connections to endpoints where nothing else is said.
const UPSTREAM_FILES: u64 = 4096;

/// What there is of each resource, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Overload {
    /// `--max-connections`.
    connections: usize,
    /// RLIMIT_NOFILE.
    files: Option<u64>,
    /// `--max-memory`, bytes.
    memory: Option<u64>,
    /// [`ProxyConfig::give_back`].
    give_back: Option<fn()>,
    /// Much was freed lately.
    freed: AtomicBool,
    /// Connections of clients.
    open: AtomicUsize,
    stage: AtomicU8,
    /// Percent of connections, files and memory.
    used: [AtomicU64; 3],
}

impl Default for Overload {
    fn default() -> Self {
        Self::new(usize::MAX, None, None)
    }
}

impl Overload {
    pub(crate) fn new(connections: usize, files: Option<u64>, memory: Option<u64>) -> Self {
        let (open, stage, used) = (AtomicUsize::new(0), AtomicU8::new(0), Default::default());
        Self { connections, files, memory, give_back: None, freed: AtomicBool::new(false), open, stage, used }
    }

    /// As configured, and where nothing is said as this process is limited: the open files it may have, less some for
    /// connections to endpoints, and its cgroup's memory.
    pub(crate) fn of(config: &ProxyConfig, files: Option<u64>) -> Self {
        let most = files.map_or(usize::MAX, most_connections);
        let memory = config.max_memory.or_else(cgroup_memory);
        let overload = Self::new(config.max_connections.unwrap_or(most), files, memory);
        Self { give_back: config.give_back, ..overload }
    }

    /// Gives back what this thread has freed.
    pub(crate) fn give_back(&self) {
        if let Some(give_back) = self.give_back {
            give_back();
        }
    }

    /// Says that much was freed which no request will need: a generation of the configuration, a long answer.
    pub(crate) fn freed(&self) {
        self.freed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// No more connections are to be accepted for now.
    pub(crate) fn full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.connections
            || self.stage.load(Ordering::Relaxed) >= Stage::StopAccepting as u8
    }

    /// Gauges by Envoy's names.
    pub(crate) fn gauges(&self) -> Vec<(String, u64)> {
        let resources =
            ["global_downstream_max_connections", "open_files", "fixed_heap"].iter().zip(&self.used);
        let pressures = resources.map(|(name, used)| {
            (format!("overload.envoy.resource_monitors.{name}.pressure"), used.load(Ordering::Relaxed))
        });
        let stage = self.stage.load(Ordering::Relaxed);
        let actions = STAGES.iter().map(|(_, of, name)| {
            (format!("overload.envoy.overload_actions.{name}.active"), u64::from(stage >= *of as u8))
        });
        pressures.chain(actions).collect()
    }

    /// Looks at usage until aborted, and tells the workers.
    pub(crate) async fn watch(self: Arc<Self>, workers: Arc<Workers<Message>>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = tokio::time::Instant::now();
        let mut freed = None;
        loop {
            let now = tick.tick().await;
            if self.freed.swap(false, Ordering::Relaxed) {
                freed.get_or_insert(now);
            }
            let settled = freed.is_some_and(|since| now.saturating_duration_since(since) >= SETTLED);
            let percent = [
                share(self.open.load(Ordering::Relaxed) as u64, u64::try_from(self.connections).ok()),
                self.files.map_or(0, |files| share(open_files(), Some(files))),
                self.memory.map_or(0, |memory| share(resident(), Some(memory))),
            ];
            for (used, percent) in self.used.iter().zip(percent) {
                used.store(percent, Ordering::Relaxed);
            }
            // What a thread has freed it keeps for itself; when it has nothing more to do, for ever.
            if (percent[2] >= SHORT || settled) && asked.elapsed() >= GIVE_BACK {
                (asked, freed) = (tokio::time::Instant::now(), None);
                self.give_back();
                workers.tell_all(|_| Message::GiveBack);
            }
            let stage = judge(percent);
            if self.stage.swap(stage as u8, Ordering::Relaxed) != stage as u8 {
                tracing::warn!(
                    ?stage,
                    connections = percent[0],
                    files = percent[1],
                    memory = percent[2],
                    "overload"
                );
                workers.tell_all(|_| Message::Pressure(stage));
            }
        }
    }
}

/// Connections of clients that so many open files allow. Half are left for connections to endpoints, but no more than
/// [`UPSTREAM_FILES`]: connections at rest need none, and what is in use is looked at besides.
fn most_connections(files: u64) -> usize {
    let own = files.saturating_sub(OWN_FILES);
    usize::try_from((own - (own / 2).min(UPSTREAM_FILES)).max(16)).unwrap_or(usize::MAX)
}

fn share(used: u64, of: Option<u64>) -> u64 {
    of.map_or(0, |of| used.saturating_mul(100) / of.max(1))
}

/// The stage for these shares of connections, files and memory. When only places for connections are short, requests of
/// those who have one are served: only room is made.
fn judge([connections, files, memory]: [u64; 3]) -> Stage {
    let of = |percent: u64| {
        STAGES.iter().find(|(from, ..)| percent >= *from).map_or(Stage::Calm, |(_, stage, _)| *stage)
    };
    of(connections).min(Stage::CutSlow).max(of(files.max(memory)))
}

/// Descriptors of this process. Since Linux 6.2 the folder's size is their number.
fn open_files() -> u64 {
    let size = std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    if size > 0 { size } else { std::fs::read_dir("/proc/self/fd").map_or(0, |folder| folder.count() as u64) }
}

/// Bytes of memory in use by this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The least limit of memory of this process's cgroup and those above it.
fn cgroup_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| limit_of(Path::new("/sys/fs/cgroup"), line)).min()
}

/// `NUMBER:CONTROLLERS:PATH`, of version 2 or of version 1's memory.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (root.to_path_buf(), "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group: PathBuf = root.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(&root));
    let limits =
        groups.filter_map(|group| std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok());
    // Version 1 writes no limit as a number that no machine has.
    limits.filter(|limit: &u64| *limit < 1 << 60).min()
}

#[cfg(test)]
mod overload_test {
    use super::*;

    #[test]
    fn the_resource_nearest_to_its_end_decides() {
        assert_eq!(judge([0, 0, 0]), Stage::Calm);
        assert_eq!(judge([79, 79, 79]), Stage::Calm);
        assert_eq!(judge([80, 0, 0]), Stage::CloseIdle);
        assert_eq!(judge([0, 90, 0]), Stage::CutSlow);
        assert_eq!(judge([0, 0, 95]), Stage::Refuse);
        assert_eq!(judge([0, 85, 99]), Stage::StopAccepting);
        assert_eq!(judge([100, 0, 0]), Stage::CutSlow, "who has a place is served");
        assert_eq!(judge([100, 96, 0]), Stage::Refuse);
    }

    #[test]
    fn defaults_leave_room_for_endpoints_and_for_what_is_no_connection() {
        let overload = Overload::of(&ProxyConfig::default(), Some(1064));
        assert_eq!(overload.connections, 500);
        let roomy = Overload::of(&ProxyConfig::default(), Some(20_064));
        assert_eq!(roomy.connections, 20_000 - 4096);
        let config = ProxyConfig { max_connections: Some(7), ..ProxyConfig::default() };
        let overload = Overload::of(&config, Some(1064));
        for _ in 0..7 {
            assert!(!overload.full());
            overload.opened();
        }
        assert!(overload.full());
        overload.closed();
        assert!(!overload.full());
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = std::env::temp_dir().join(format!("heddle-cgroup-{}", std::process::id()));
        let inner = root.join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.join("a/memory.max"), "1048576\n").unwrap();
        assert_eq!(limit_of(&root, "0::/a/b"), Some(1 << 20));
        assert_eq!(limit_of(&root, "3:cpu,cpuacct:/a/b"), None);
        assert_eq!(limit_of(&root, "0::/"), None);
        std::fs::create_dir_all(root.join("memory/a")).unwrap();
        std::fs::write(root.join("memory/a/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(limit_of(&root, "4:memory:/a"), None);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn this_process_uses_something() {
        assert!(open_files() > 2 && resident() > 1 << 20);
    }
}
