//! Programs that nobody here wrote pass through the proxy, whichever version of HTTP they speak and whichever their
//! endpoint speaks: HTTP/1.1 and HTTP/2, in the clear and over TLS, on both sides.

mod backend;
mod bed;
mod command_line;
mod curl;
mod grpc_web;
#[path = "../../../crates/proxy/tests/kit/mod.rs"]
mod kit;
mod python;
mod websocket;

use std::{path::PathBuf, time::Duration};

use bed::{Bed, Keys, Version};
use tokio::process::Command;

/// A proxy before servers of every version.
async fn bed() -> Bed {
    let keys = Keys::new();
    let mut endpoints = Vec::new();
    for version in Version::ALL {
        let tls = version.tls.then(|| keys.acceptor(version));
        endpoints.push((version, backend::start(version.http2, tls).await));
    }
    Bed::start(keys, &endpoints).await
}

/// What a program printed, all of it, and whether it ended well. It is given a minute.
async fn run(program: &PathBuf, args: &[&str], input: Option<&[u8]>) -> Result<String, String> {
    use tokio::io::AsyncWriteExt as _;
    let shown = || format!("{} {}", program.display(), args.join(" "));
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped()).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", shown()))?;
    let (stdin, input) = (child.stdin.take(), input.unwrap_or_default().to_vec());
    let feed = tokio::spawn(async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&input).await;
        }
    });
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    feed.abort();
    let output =
        output.map_err(|_| format!("{}: no end in a minute", shown()))?.map_err(|e| e.to_string())?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(format!("{}: {}: {text}", shown(), output.status)) }
}

/// Fails with all that went wrong, once everything was tried.
fn report(who: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{who}: {} complaints\n{}", complaints.len(), complaints.join("\n"));
}
