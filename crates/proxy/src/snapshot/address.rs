//! Where a socket is: an IP address and a port, or a path (a Unix socket).

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use rustix::net::SocketAddrUnix;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path of a Unix socket in bytes: `sun_path` of Linux without its end.
pub const LONGEST_PATH: usize = 107;

/// Paths that configuration has named, each kept once and for good: an address is then copied without counting, and a path
/// has 107 bytes at most.
static PATHS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Where a socket is (`core.v3.Address`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// `socket_address`.
    Ip(SocketAddr),
    /// `pipe`: a path, or a name in the abstract space behind `@`. Empty for a socket without a name, as clients have.
    Pipe(&'static str),
}

impl Address {
    /// A Unix socket by its path, or by `@NAME`. Not for the request path: paths are looked up under a lock.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn pipe(path: &str) -> Result<Self, String> {
        if !path.starts_with(['/', '@']) || path.len() < 2 {
            return Err(format!("{path:?} is no absolute path and no @NAME"));
        }
        if path.len() > LONGEST_PATH {
            return Err(format!(
                "{path:?} has {} bytes, and a socket's path at most {LONGEST_PATH}",
                path.len()
            ));
        }
        if path.contains('\0') {
            return Err(format!("{path:?}: a path has no zero byte"));
        }
        let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = paths.get(path).copied();
        Ok(Self::Pipe(known.unwrap_or_else(|| {
            let kept: &'static str = Box::leak(path.into());
            paths.insert(kept);
            kept
        })))
    }

    /// The IP address and port, if it has them.
    pub fn socket(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(at) => Some(at),
            Self::Pipe(_) => None,
        }
    }

    /// The IP address, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        self.socket().map(|at| at.ip())
    }

    /// The port, if it has one.
    pub fn port(self) -> Option<u16> {
        self.socket().map(|at| at.port())
    }

    /// Appends what it displays.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Ip(at @ SocketAddr::V4(_)) => {
                write_ip(at.ip(), out);
                out.push(b':');
                decimal(at.port(), out);
            }
            other => {
                let _ = write!(out, "{other}");
            }
        }
    }

    /// Appends the IP address alone, or the path.
    pub(crate) fn write_host(self, out: &mut Vec<u8>) {
        match self {
            Self::Ip(at) => write_ip(at.ip(), out),
            Self::Pipe(path) => out.extend_from_slice(path.as_bytes()),
        }
    }

    /// As the system is told it; `None` for what is no named Unix socket.
    pub(crate) fn unix(self) -> Option<io::Result<SocketAddrUnix>> {
        let Self::Pipe(path) = self else { return None };
        Some(match path.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(io::Error::from),
            None => SocketAddrUnix::new(path).map_err(io::Error::from),
        })
    }
}

/// Appends what an IP address displays. Logs are full of them, and formatting costs ten times as much.
fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(ip) = ip else {
        let _ = write!(out, "{ip}");
        return;
    };
    let [first, others @ ..] = ip.octets();
    decimal(first.into(), out);
    for octet in others {
        out.push(b'.');
        decimal(octet.into(), out);
    }
}

fn decimal(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

impl From<SocketAddr> for Address {
    fn from(at: SocketAddr) -> Self {
        Self::Ip(at)
    }
}

/// What [`Address`] displays: `IP:PORT`, a path, or `@NAME`.
impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Ip).or_else(|_| Self::pipe(text))
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.socket() == Some(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(at) => at.fmt(f),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}

/// As text: what one process tells another.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod address_test {
    use super::*;

    #[test]
    fn an_address_is_as_small_as_that_of_a_socket() {
        assert_eq!(size_of::<Address>(), size_of::<SocketAddr>());
    }

    #[test]
    fn a_path_is_kept_once_and_judged() {
        let (Ok(Address::Pipe(one)), Ok(Address::Pipe(other))) =
            (Address::pipe("/run/a.sock"), Address::pipe(&["/run", "/a.sock"].concat()))
        else {
            panic!("a good path");
        };
        assert!(std::ptr::eq(one, other));
        for text in ["@name", "/run/a.sock", "[::1]:80", "10.0.0.1:80"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in ["", "/", "@", "run/a.sock", "/run/\0", &format!("/{}", "a".repeat(LONGEST_PATH))] {
            assert!(Address::pipe(wrong).is_err(), "{wrong:?}");
        }
        assert!(Address::pipe(&format!("/{}", "a".repeat(LONGEST_PATH - 1))).is_ok());
    }

    #[test]
    fn a_pipe_is_at_no_ip_address() {
        let pipe = Address::pipe("/run/a.sock").unwrap();
        assert_eq!((pipe.ip(), pipe.port()), (None, None));
        assert!(pipe != SocketAddr::from(([0, 0, 0, 0], 0)));
    }
}
