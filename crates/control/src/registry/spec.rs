//! What a WorkloadEntry's annotations ask for.

use std::{fmt, time::Duration};

use heddle_resource::{Object, Spec, value::Dur};

/// `http:/path`, `tcp`, `grpc` or `grpc:SERVICE`: check this instance.
pub const HEALTH: &str = "heddle.dev/health";
/// Time between checks; default 10 s, at least 100 ms.
pub const HEALTH_INTERVAL: &str = "heddle.dev/health-interval";
/// Time for one check; default 5 s.
pub const HEALTH_TIMEOUT: &str = "heddle.dev/health-timeout";
/// Failures in a row until the instance is unhealthy; default 3.
pub const HEALTH_UNHEALTHY_THRESHOLD: &str = "heddle.dev/health-unhealthy-threshold";
/// Successes in a row until it is healthy again; default 1.
pub const HEALTH_HEALTHY_THRESHOLD: &str = "heddle.dev/health-healthy-threshold";
/// The port to check; default the entry's only port, or the only one named for the protocol.
pub const HEALTH_PORT: &str = "heddle.dev/health-port";
/// The entry lives as long as its lease of this length is renewed.
pub const LEASE_TTL: &str = "heddle.dev/lease-ttl";

/// What counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The connection is accepted.
    Tcp,
    /// GET on this path gives a status from 200 to 399.
    Http { path: String },
    /// `grpc.health.v1.Health/Check` says SERVING for this service (empty: the server as a whole).
    Grpc { service: String },
}

/// Where a check goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An IP address or a host name, and a port.
    Tcp(String, u16),
    Unix(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// One declared check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    pub probe: Probe,
    pub target: Target,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

impl CheckSpec {
    /// The check that a WorkloadEntry declares; `None` when it declares none.
    ///
    /// # Errors
    /// Says which annotation is wrong, what was found and what was expected.
    pub fn of(object: &Object) -> Result<Option<Self>, String> {
        let Spec::WorkloadEntry(entry) = &object.spec else { return Ok(None) };
        let annotations = &object.meta.annotations;
        let Some(probe) = annotations.get(HEALTH) else { return Ok(None) };
        let probe = Probe::parse(probe)?;
        let duration = |name: &str, default: u64| match annotations.get(name) {
            None => Ok(Duration::from_secs(default)),
            Some(text) => match Dur::parse(text) {
                Ok(Dur(duration)) if duration >= Duration::from_millis(100) => Ok(duration),
                _ => Err(format!("annotation {name}: found `{text}`, expected a duration of at least 100ms")),
            },
        };
        let threshold = |name: &str, default: u32| match annotations.get(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(count @ 1..=100) => Ok(count),
                _ => Err(format!("annotation {name}: found `{text}`, expected a number from 1 to 100")),
            },
        };
        let target = match entry.address.strip_prefix("unix://") {
            Some(path) => Target::Unix(path.to_owned()),
            None if entry.address.is_empty() => {
                return Err("the entry has no address that could be checked".to_owned());
            }
            None => Target::Tcp(entry.address.clone(), port(object, &probe)?),
        };
        Ok(Some(Self {
            probe,
            target,
            interval: duration(HEALTH_INTERVAL, 10)?,
            timeout: duration(HEALTH_TIMEOUT, 5)?,
            unhealthy_threshold: threshold(HEALTH_UNHEALTHY_THRESHOLD, 3)?,
            healthy_threshold: threshold(HEALTH_HEALTHY_THRESHOLD, 1)?,
        }))
    }
}

impl Probe {
    /// # Errors
    /// When the text is none of the forms of [`HEALTH`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("tcp", "") => Ok(Self::Tcp),
            ("http", "") => Ok(Self::Http { path: "/".to_owned() }),
            ("http", path) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self::Http { path: path.to_owned() })
            }
            ("grpc", service) if service.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self::Grpc { service: service.to_owned() })
            }
            _ => Err(format!("annotation {HEALTH}: found `{text}`, expected http:/path, tcp or grpc")),
        }
    }
}

fn port(object: &Object, probe: &Probe) -> Result<u16, String> {
    if let Some(text) = object.meta.annotations.get(HEALTH_PORT) {
        return match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(format!("annotation {HEALTH_PORT}: found `{text}`, expected a port number")),
        };
    }
    let Spec::WorkloadEntry(entry) = &object.spec else { return Err("not a WorkloadEntry".to_owned()) };
    let only = |ports: Vec<u16>| (ports.len() == 1).then(|| ports.first().copied()).flatten();
    let prefix = match probe {
        Probe::Tcp => "tcp",
        Probe::Http { .. } => "http",
        Probe::Grpc { .. } => "grpc",
    };
    let named = entry.ports.iter().filter(|(name, _)| name.starts_with(prefix));
    let found =
        only(entry.ports.values().copied().collect()).or_else(|| only(named.map(|(_, p)| *p).collect()));
    found.ok_or_else(|| {
        let names: Vec<String> = entry.ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
        let has =
            if names.is_empty() { "no ports".to_owned() } else { format!("the ports {}", names.join(", ")) };
        format!("the entry has {has}: say which one to check with the annotation {HEALTH_PORT}")
    })
}
