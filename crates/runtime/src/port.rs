//! Ports for listeners that are opened a while after their port was chosen.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The lowest port that is handed out: clear of the well-known ones, and of heddle's own.
const LOWEST: u16 = 16_000;

/// A port of `ip` that nobody has, for TCP and UDP, and that nobody is given by chance until it is opened.
///
/// A port that the system chose (by binding port 0) and that was let go can be taken the next instant by any outgoing
/// connection. This one lies below the range that the system chooses from, and no two calls of a process get the same;
/// two processes begin at different places.
///
/// # Errors
/// When there is none, or `ip` is not an address of this machine.
pub fn free_port(ip: IpAddr) -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(lowest_ephemeral().saturating_sub(LOWEST).max(1));
    let begin = std::process::id().wrapping_mul(97);
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..range {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST.saturating_add((begin.wrapping_add(step) % range) as u16);
        match TcpListener::bind((ip, port)).and_then(|_| UdpSocket::bind((ip, port))) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where the range begins that outgoing connections get their ports from; 32768 where the system does not say.
fn lowest_ephemeral() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod port_test {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn no_port_comes_twice_nor_from_the_system_s_own_range() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port(ip).unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (LOWEST..lowest_ephemeral().max(LOWEST + 1)).contains(port)));
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        let error = free_port(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
