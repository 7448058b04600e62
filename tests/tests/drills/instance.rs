//! Instances of services: processes that can be killed.

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long a request takes at an instance, in milliseconds: enough that every client waits there most of the time.
const TAKES: &str = "40";

/// A process that answers with its name and version. Dropping it kills it.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// Requests by method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) gets: u64,
    pub(crate) posts: u64,
}

impl Instance {
    pub(crate) async fn start(service: &str, version: &str, number: usize) -> Self {
        let name = format!("{service}-{version}-{number}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_instance"))
            .args([&name, version, TAKES])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("instance {name}: {e}"));
        let commands = child.stdin.take().unwrap_or_else(|| panic!("{name}: no input"));
        let answers = child.stdout.take().unwrap_or_else(|| panic!("{name}: no output"));
        let mut answers = BufReader::new(answers).lines();
        let port = read(&mut answers, "port", &name).await[0];
        let port = u16::try_from(port).unwrap_or_else(|e| panic!("{name}: {e}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { name, version: version.into(), address, child, commands, answers }
    }

    async fn ask(&mut self, command: &str, answer: &str) -> Vec<u64> {
        let line = format!("{command}\n");
        self.commands.write_all(line.as_bytes()).await.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        read(&mut self.answers, answer, &self.name).await
    }

    /// Keeps all answers back; returns when at least `gets` GETs wait, with what waits.
    pub(crate) async fn hold(&mut self, gets: u64) -> Count {
        counts(&self.ask(&format!("hold {gets}"), "holding").await)
    }

    /// What was answered.
    pub(crate) async fn served(&mut self) -> Count {
        counts(&self.ask("count", "served").await)
    }

    /// Waits until no request is under way here.
    pub(crate) async fn empties(&mut self) {
        self.ask("finish", "idle").await;
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }
}

fn counts(numbers: &[u64]) -> Count {
    Count { gets: numbers[0], posts: numbers.get(1).copied().unwrap_or_default() }
}

/// The numbers on the next line, which begins with `word`.
async fn read(answers: &mut Lines<BufReader<ChildStdout>>, word: &str, name: &str) -> Vec<u64> {
    let most = std::time::Duration::from_secs(30);
    let line = tokio::time::timeout(most, answers.next_line()).await;
    let line = line.unwrap_or_else(|_| panic!("{name} does not say `{word}` in {most:?}"));
    let line = line.ok().flatten().unwrap_or_else(|| panic!("{name} ended instead of saying `{word}`"));
    let numbers = line.strip_prefix(word).unwrap_or_else(|| panic!("{name} said `{line}`, not `{word}`"));
    numbers.split_whitespace().map(|n| n.parse().unwrap_or_else(|e| panic!("{name}: {line}: {e}"))).collect()
}
