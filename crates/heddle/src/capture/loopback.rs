//! The loopback interface of a new network namespace, made the way to everywhere: every address has a route, so that every
//! connection comes to the output hook, where it is redirected.
//!
//! Spoken in rtnetlink; no `ip` is needed.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

/// The loopback interface is always the first.
const LOOPBACK: u32 = 1;

/// Brings the interface up.
pub(super) fn up() -> io::Result<()> {
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    ask(RTM_NEWLINK, 0, &body)
}

/// Gives the interface one address more.
pub(super) fn add_address(ip: IpAddr) -> io::Result<()> {
    let (family, bytes) = octets(ip);
    // An IPv6 address that is still looked for on the link cannot be a source yet; nobody else has it here.
    let (prefix, flags) = if ip.is_ipv4() { (32, 0) } else { (128, IFA_F_NODAD) };
    let mut body = vec![family, prefix, flags, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &bytes);
    attribute(&mut body, IFA_ADDRESS, &bytes);
    ask(RTM_NEWADDR, CREATE, &body)
}

/// Sends everything of the family to the interface, with `source` as the source address.
pub(super) fn route_everything(source: IpAddr) -> io::Result<()> {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const LINK: u8 = 253;
    const HOST: u8 = 254;
    const UNICAST: u8 = 1;
    const LOCAL: u8 = 2;
    let (family, bytes) = octets(source);
    // The kernel makes of an IPv6 route to loopback one that refuses, unless what it leads to is local.
    let (scope, kind) = if source.is_ipv4() { (LINK, UNICAST) } else { (HOST, LOCAL) };
    let mut body = vec![family, 0, 0, 0, MAIN_TABLE, STATIC, scope, kind];
    body.extend(0u32.to_ne_bytes());
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    attribute(&mut body, RTA_PREFSRC, &bytes);
    ask(RTM_NEWROUTE, CREATE, &body)
}

// linux/rtnetlink.h, linux/if_addr.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
/// NLM_F_CREATE and NLM_F_EXCL.
const CREATE: u16 = 0x600;

fn octets(ip: IpAddr) -> (u8, Vec<u8>) {
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
    };
    (u8::try_from(family.as_raw()).unwrap_or_default(), bytes)
}

/// Lengths and values are multiples of four here, so nothing needs padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Asks the kernel for one change and waits for its answer.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    const HEADER: usize = 16;
    const REQUEST_WITH_ANSWER: u16 = 5;
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or_default().to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST_WITH_ANSWER).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    retry_on_intr(|| send(socket.as_fd(), &message, SendFlags::empty()))?;
    let mut answer = [0; 4096];
    retry_on_intr(|| recv(socket.as_fd(), &mut answer, RecvFlags::empty()))?;
    // The answer to a change is its header and an error number, 0 for none.
    let code = i32::from_ne_bytes(answer[HEADER..HEADER + 4].try_into().unwrap_or_default());
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}
