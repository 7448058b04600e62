//! What the demo shows: a block that is redrawn in place on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

use owo_colors::{OwoColorize, Stream};

use super::{script::Step, shop::INSTANCES};

const BAR: usize = 40;

pub(crate) struct Display {
    live: bool,
    /// Lines of the block that stands on the terminal now.
    drawn: usize,
}

impl Display {
    pub(crate) fn new() -> Self {
        Self { live: std::io::stdout().is_terminal(), drawn: 0 }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        self.settle();
        self.write(&format!("{text}\n"));
    }

    pub(crate) fn title(&mut self, number: usize, of: usize, step: &Step, why: &str) {
        self.settle();
        let title = format!("{number}/{of}  {}", step.title);
        self.write(&format!("\n{}\n", title.if_supports_color(Stream::Stdout, |t| t.bold())));
        self.write(&format!("     {}\n", step.story));
        for line in why.lines() {
            self.write(&format!("     {}\n", line.if_supports_color(Stream::Stdout, |t| t.dimmed())));
        }
    }

    /// Redraws the bars of the services' logs. Does nothing where the output is no terminal.
    pub(crate) fn bars(&mut self, counts: &BTreeMap<&'static str, u64>, sent: usize, of: usize) {
        if !self.live {
            return;
        }
        let most = counts.values().copied().max().unwrap_or(1).max(1) as usize;
        let mut block = format!("     {sent} of {of} requests\n");
        for instance in INSTANCES {
            let count = counts.get(instance.name).copied().unwrap_or(0);
            let bar = "█".repeat((count as usize * BAR).div_ceil(most));
            block.push_str(&format!("     {:<12} {bar:<BAR$} {count}\n", instance.name));
        }
        if self.drawn > 0 {
            self.write(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        self.drawn = block.lines().count();
        self.write(&block);
    }

    pub(crate) fn verdict(&mut self, verdict: &Result<String, String>) {
        self.settle();
        let line = match verdict {
            Ok(found) => format!("     {} {found}\n", "ok".if_supports_color(Stream::Stdout, |t| t.green())),
            Err(wrong) => {
                format!("     {} {wrong}\n", "FAILED".if_supports_color(Stream::Stdout, |t| t.red()))
            }
        };
        self.write(&line);
    }

    /// Leaves the block standing: what comes next goes below it.
    fn settle(&mut self) {
        self.drawn = 0;
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed pipe (`heddle demo | head`) is no reason to stop the demo.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
