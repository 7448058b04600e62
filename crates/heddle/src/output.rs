//! Everything that the command line prints.

#![expect(clippy::print_stderr, reason = "this is the place that prints")]

use owo_colors::{OwoColorize, Stream};
use serde::Serialize;

use crate::cli::Output;

/// Logs to stderr as `filter` says; colours only on a terminal.
pub(crate) fn log_to_stderr(filter: &str) {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| {
        eprintln!("warning: --log {filter}: not a log filter; using `warn`");
        tracing_subscriber::EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Prints `text` as it is. A reader that has gone away (`heddle get | head`) is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

pub(crate) fn error(text: &str) {
    eprintln!("{} {text}", "error:".if_supports_color(Stream::Stderr, |t| t.red()));
}

pub(crate) fn warning(text: &str) {
    eprintln!("{} {text}", "warning:".if_supports_color(Stream::Stderr, |t| t.yellow()));
}

/// A note that is not part of the answer.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Columns without lines, as kubectl prints them.
pub(crate) fn table<R: IntoIterator<Item = Vec<String>>>(header: &[&str], rows: R) {
    let header: Vec<String> = header.iter().map(|h| h.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}

/// Data as JSON or YAML; false when `output` asks for a table.
pub(crate) fn data<T: Serialize>(output: Output, value: &T) -> Result<bool, String> {
    match output {
        Output::Table => return Ok(false),
        Output::Json => line(&serde_json::to_string_pretty(value).map_err(|e| e.to_string())?),
        Output::Yaml => print(&serde_saphyr::to_string(value).map_err(|e| e.to_string())?),
    }
    Ok(true)
}
