//! What the kernel does with what a program in the namespace sends: names and TCP go to the proxy, its own loopback stays
//! its own, and the rest goes nowhere.

use std::{
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    set_capabilities,
};

use super::{NAMES_PORT, OUTBOUND_PORT, V4, V6};

/// The rules, for `nft -f -`.
pub(super) fn script(ipv6: bool) -> String {
    let mut text = table("ip", V4.into(), "127.0.0.0/8");
    if ipv6 {
        text += &table("ip6", V6.into(), "::1");
    }
    text
}

fn table(family: &str, own: IpAddr, loopback: &str) -> String {
    let at = |port: u16| std::net::SocketAddr::new(own, port);
    let (names, outbound) = (at(NAMES_PORT), at(OUTBOUND_PORT));
    format!(
        "table {family} heddle {{
  chain capture {{
    type nat hook output priority -100; policy accept;
    {family} daddr {loopback} accept
    udp dport 53 dnat to {names}
    tcp dport 53 dnat to {names}
    {family} daddr {own} accept
    meta l4proto tcp dnat to {outbound}
  }}
  chain rest {{
    type filter hook output priority 0; policy accept;
    {family} daddr {{ {loopback}, {own} }} accept
    drop
  }}
}}
"
    )
}

/// `nft`, on the path or where systems keep it out of users' paths.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("nft"))
        .find(|file| file.is_file())
}

/// Puts the rules in force in this process's network namespace, all or none.
pub(super) fn apply(nft: &Path, ipv6: bool) -> io::Result<()> {
    // A process that is not root keeps a capability across exec only if it is ambient.
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::NET_ADMIN;
    set_capabilities(None, sets)?;
    configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)?;
    let applied = run(nft, &script(ipv6));
    clear_ambient_capability_set()?;
    applied
}

fn run(nft: &Path, script: &str) -> io::Result<()> {
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // What it did not read it complains about itself.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    Err(io::Error::other(format!("{} ended with {}: {first}", nft.display(), output.status)))
}
