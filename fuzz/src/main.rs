//! Drives every target on the stable toolchain: a seeded mutator over small corpora.
//!
//! `cargo run -p heddle-fuzz -- --seconds 20 [--only NAME] [--seed N]`. A finding is a panic, or a target whose inputs hardly
//! ever get behind the parser; the input of a panic is written to `target/fuzz/NAME-SEED-N` and the seed is printed, so
//! that the run can be repeated. `fuzz/covered.py` builds it so that it sees what of the code an input reaches: inputs that
//! reach something new are kept and changed further. With `--keep` the shortest of them go into `fuzz/corpus`, where every
//! run begins.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod corpus;
mod coverage;
mod drive;
mod mutate;

use std::process::ExitCode;
use std::time::Duration;

use heddle_fuzz::TARGETS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    if arguments.iter().any(|a| a == "--list") {
        for target in TARGETS {
            println!("{} {}", target.name, target.code.join(" "));
        }
        return ExitCode::SUCCESS;
    }
    let seconds = value("--seconds").and_then(|s| s.parse().ok()).unwrap_or(20);
    let seed = value("--seed").and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let only = value("--only");
    let keep = arguments.iter().any(|a| a == "--keep");
    let mut clean = true;
    for target in TARGETS.iter().filter(|t| only.as_deref().is_none_or(|o| o == t.name)) {
        clean &= drive::drive(target, Duration::from_secs(seconds), seed, keep);
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
