//! Drives every target on the stable toolchain: a seeded mutator over small corpora.
//!
//! `cargo run -p heddle-fuzz -- --seconds 20 [--only NAME] [--seed N]`. A finding is a panic, or a
//! target whose inputs hardly ever get behind the parser; the input of a panic is written to
//! `target/fuzz/NAME-SEED-N` and the seed is printed, so that the run can be repeated.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use heddle_fuzz::TARGETS;

/// Percent of the inputs that have to reach the code behind the parser; below it a target tests its parser only.
const LEAST_SHARE: f64 = 2.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let seconds = value("--seconds").and_then(|s| s.parse().ok()).unwrap_or(20);
    let seed = value("--seed").and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let only = value("--only");
    let mut clean = true;
    for target in TARGETS.iter().filter(|t| only.as_deref().is_none_or(|o| o == t.name)) {
        clean &= drive(target, Duration::from_secs(seconds), seed);
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one target until its time is up; false when it panicked.
fn drive(target: &heddle_fuzz::Target, time: Duration, seed: u64) -> bool {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pool: Vec<Vec<u8>> = target.corpus.iter().map(|c| c.to_vec()).collect();
    let deadline = Instant::now() + time;
    let (mut executions, mut accepted) = (0u64, 0u64);
    while Instant::now() < deadline {
        for _ in 0..64 {
            let input = mutate(&pool, &mut random);
            executions += 1;
            let Ok(deep) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) else {
                report(target.name, seed, executions, &input);
                return false;
            };
            accepted += u64::from(deep);
            // A bounded pool of descendants reaches further from the corpus than single steps would; those that
            // got behind the parser are worth more.
            if random.u8(..) < if deep { 16 } else { 1 } && input.len() < 16 << 10 {
                let place = random.usize(..target.corpus.len() + 64);
                if place < pool.len() && place >= target.corpus.len() {
                    pool[place] = input;
                } else if pool.len() < target.corpus.len() + 64 {
                    pool.push(input);
                }
            }
        }
    }
    let share = 100.0 * accepted as f64 / executions.max(1) as f64;
    println!(
        "{:<18} seed {seed}: {executions} executions, {share:.1} % behind the parser, no finding",
        target.name
    );
    if share < LEAST_SHARE {
        println!("{}: too few inputs got behind the parser: its corpus no longer is good input", target.name);
    }
    share >= LEAST_SHARE
}

fn report(name: &str, seed: u64, execution: u64, input: &[u8]) {
    let path = format!("target/fuzz/{name}-{seed}-{execution}");
    let written = std::fs::create_dir_all("target/fuzz").and_then(|()| std::fs::write(&path, input));
    let place = written.map_or_else(|e| format!("(not written: {e})"), |()| path);
    println!("{name}: FINDING at execution {execution} with seed {seed}; input in {place}");
}

/// A corpus entry with a few random changes.
fn mutate(pool: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = pool.get(random.usize(..pool.len().max(1))).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        match random.u8(..8) {
            0 if !input.is_empty() => {
                let at = at.min(input.len() - 1);
                input[at] ^= 1 << random.u8(..8);
            }
            1 => input.insert(at, random.u8(..)),
            2 if !input.is_empty() => {
                let end = (at + random.usize(1..16)).min(input.len());
                input.drain(at.min(end)..end);
            }
            3 => {
                let interesting: &[&[u8]] = &[
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b"\0",
                    b": ",
                    b"0",
                    b"-1",
                    b"99999999999999999999",
                    b"\xff\xff",
                    b"{",
                    b"[",
                    b"---\n",
                    b"&a",
                    b"*a",
                    b"%00",
                    b"chunked",
                ];
                let token = interesting[random.usize(..interesting.len())];
                input.splice(at..at, token.iter().copied());
            }
            4 => {
                if let Some(other) = pool.get(random.usize(..pool.len().max(1))) {
                    let from = random.usize(..=other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
            5 if !input.is_empty() => {
                let end = (at + random.usize(1..32)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                input.splice(at..at, piece);
            }
            6 => input.truncate(at),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
        input.truncate(64 << 10);
    }
    input
}
