//! Two machines that are network namespaces, joined by a cable: one of the workload and its proxy, one of its peers.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that lives as long as the process that holds it, and that ends with this one.
pub(crate) struct Machine {
    holder: Child,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-ec", "ip link set lo up; echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "a network namespace with loopback");
        Self { holder }
    }

    pub(crate) fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    /// Moves this thread, and what it starts from now on, there.
    pub(crate) fn enter(&self) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .unwrap();
    }

    /// Does something there.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let there = || {
            self.enter();
            what()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A shell script there; it must succeed.
    pub(crate) fn shell(&self, script: &str) {
        let run = || Command::new("sh").args(["-ec", script]).status().unwrap();
        assert!(self.within(run).success(), "{script}");
    }

    /// Loads rules of the kernel.
    pub(crate) fn rules(&self, rules: &str) {
        self.within(|| {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "{rules}");
        });
    }

    /// A server at every address: greets with where the client came from, then says each line again.
    pub(crate) fn greets(&self, port: u16, name: &'static str) {
        self.serves(port, move |mut stream| {
            let peer = stream.peer_addr()?;
            writeln!(stream, "{name} greets {} {}", peer.ip().to_canonical(), peer.port())?;
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            while let Some(Ok(line)) = lines.next() {
                writeln!(stream, "{line} again")?;
            }
            Ok(())
        });
    }

    /// An HTTP server at every address that names itself.
    pub(crate) fn answers(&self, port: u16, name: &'static str) {
        self.serves(port, move |mut stream| {
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            while let Some(Ok(line)) = lines.next() {
                if line.is_empty() {
                    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len())?;
                }
            }
            Ok(())
        });
    }

    fn serves(&self, port: u16, serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Clone + 'static) {
        let listener = self.within(|| TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Connects from this thread's namespace.
pub(crate) fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(|e| format!("{to}: {e}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// What a server says first, and then after a line of ours. It is another connection that came to it.
pub(crate) fn greeted(to: SocketAddr) -> Result<String, String> {
    let mut stream = connect(to)?;
    let mut lines = BufReader::new(stream.try_clone().map_err(|e| e.to_string())?);
    let mut said = String::new();
    lines.read_line(&mut said).map_err(|e| format!("{to}: no greeting: {e}"))?;
    let (greeting, port) = said.trim_end().rsplit_once(' ').ok_or_else(|| format!("{to}: {said:?}"))?;
    if stream.local_addr().is_ok_and(|own| own.port().to_string() == port) {
        return Err(format!("{to} was reached without the proxy"));
    }
    said = format!("{greeting}\n");
    stream.write_all(b"hello\n").map_err(|e| e.to_string())?;
    lines.read_line(&mut said).map_err(|e| format!("{to}: {said}: {e}"))?;
    Ok(said)
}

/// The answer to a GET, head and body.
pub(crate) fn get(to: SocketAddr, host: &str) -> Result<String, String> {
    let mut stream = connect(to)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| format!("{to}: {answer}: {e}"))?;
    Ok(answer)
}

/// An address of each family.
pub(crate) fn both(v4: &str, v6: &str) -> Vec<IpAddr> {
    let mut all = vec![v4.parse().unwrap()];
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        all.push(v6.parse().unwrap());
    } else {
        heddle_tests::say("LEFT OUT: IPv6, which this machine does not have");
    }
    all
}
