//! One target, until its time is up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use heddle_fuzz::Target;

use crate::corpus;
use crate::coverage::Coverage;
use crate::mutate::mutate;

/// Percent of the inputs that have to reach the code behind the parser; below it a target tests its parser only.
const LEAST_SHARE: f64 = 2.0;
/// How many inputs run before the counters are looked at.
const BATCH: usize = 256;
/// The longest input that is changed further.
const LONGEST: usize = 16 << 10;
/// Descendants that are in the pool for nothing but their age.
const YOUNG: usize = 64;

/// Runs one target; false when there was a finding.
pub(crate) fn drive(target: &Target, time: Duration, seed: u64, keep: bool) -> bool {
    let mut run = Run {
        target,
        random: fastrand::Rng::with_seed(seed),
        good: target.corpus.iter().map(|c| c.to_vec()).chain(corpus::read(target.name)).collect(),
        young: Vec::new(),
        coverage: Coverage::begin(),
        executions: 0,
        accepted: 0,
        last_new: Duration::ZERO,
    };
    let begun = Instant::now();
    let first = run.good.clone();
    let mut found = run.batch(&first).err();
    run.keep_new(&first);
    while found.is_none() && begun.elapsed() < time {
        let inputs: Vec<_> = (0..BATCH).map(|_| run.next()).collect();
        found = run.batch(&inputs).err();
        if run.keep_new(&inputs) {
            run.last_new = begun.elapsed();
        }
    }
    if let Some(input) = found {
        report(target.name, seed, run.executions, &input);
        return false;
    }
    if keep && run.coverage.counts() {
        run.write_corpus();
    }
    run.sum_up(seed, begun.elapsed())
}

struct Run<'a> {
    target: &'a Target,
    random: fastrand::Rng,
    /// The corpus, and what reached something new.
    good: Vec<Vec<u8>>,
    /// Descendants of it: several steps reach further than one.
    young: Vec<Vec<u8>>,
    coverage: Coverage,
    executions: u64,
    accepted: u64,
    last_new: Duration,
}

impl Run<'_> {
    fn next(&mut self) -> Vec<u8> {
        let from = match self.random.u8(..4) {
            0 if !self.young.is_empty() => &self.young,
            // What is kept is often what is refused in a new way; without a guide good input leads further.
            1 | 2 if !self.coverage.counts() => return mutate(self.target.corpus, &mut self.random),
            _ => &self.good,
        };
        mutate(from, &mut self.random)
    }

    /// Runs inputs; the one that panicked is the error.
    fn batch(&mut self, inputs: &[Vec<u8>]) -> Result<(), Vec<u8>> {
        for input in inputs {
            self.executions += 1;
            let Ok(deep) = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))) else {
                return Err(input.clone());
            };
            self.accepted += u64::from(deep);
            // Those that got behind the parser are worth more.
            if self.random.u8(..) < if deep { 16 } else { 1 } && input.len() < LONGEST {
                let place = self.random.usize(..YOUNG);
                match self.young.get_mut(place) {
                    Some(old) => old.clone_from(input),
                    None => self.young.push(input.clone()),
                }
            }
        }
        Ok(())
    }

    /// Keeps those of a batch that reached something new; whether there was one.
    fn keep_new(&mut self, inputs: &[Vec<u8>]) -> bool {
        let mut fresh = self.coverage.fresh();
        let new = !fresh.is_empty();
        for input in inputs {
            if fresh.is_empty() {
                break;
            }
            let _ = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
            if Coverage::take(&mut fresh) > 0 && input.len() < LONGEST && !self.good.contains(input) {
                self.good.push(input.clone());
            }
        }
        new
    }

    /// The shortest inputs that together reach what all did, each without what it does not need for that.
    fn write_corpus(&mut self) {
        let built_in = self.target.corpus;
        let mut inputs = std::mem::take(&mut self.good);
        inputs.sort_by_key(Vec::len);
        let mut again = Coverage::begin();
        for input in built_in {
            (self.target.run)(input);
        }
        again.fresh();
        let mut kept = Vec::new();
        for input in inputs {
            (self.target.run)(&input);
            let fresh = again.fresh();
            if !fresh.is_empty() {
                kept.push((fresh.len(), shortened(self.target, input, &fresh)));
            }
        }
        kept.sort_by_key(|(worth, input)| std::cmp::Reverse(worth * 1000 / (input.len() + 8)));
        let kept: Vec<_> = kept.into_iter().map(|(_, input)| input).collect();
        if let Err(error) = corpus::write(self.target.name, &kept) {
            println!("{}: the corpus was not written: {error}", self.target.name);
        }
    }

    fn sum_up(&self, seed: u64, time: Duration) -> bool {
        let share = 100.0 * self.accepted as f64 / self.executions.max(1) as f64;
        let name = self.target.name;
        println!(
            "{name:<18} seed {seed}: {} executions in {} s, {share:.1} % behind the parser, no finding",
            self.executions,
            time.as_secs()
        );
        if self.coverage.counts() {
            println!(
                "{name:<18} {} regions reached, {} inputs that reached one first, the last after {} s",
                self.coverage.reached(),
                self.good.len(),
                self.last_new.as_secs()
            );
        }
        // A guide leads to refusals as well.
        let enough = share >= LEAST_SHARE || self.coverage.counts();
        if !enough {
            println!("{name}: too few inputs got behind the parser: its corpus no longer is good input");
        }
        enough
    }
}

/// `input` without pieces that are not needed to reach `places`.
fn shortened(target: &Target, mut input: Vec<u8>, places: &[usize]) -> Vec<u8> {
    let mut piece = input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut less = input.clone();
            less.drain(at..(at + piece).min(input.len()));
            Coverage::clear(places.iter().copied());
            let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(&less))).is_ok();
            let mut missing = places.to_vec();
            Coverage::take(&mut missing);
            if ran && missing.is_empty() {
                input = less;
            } else {
                at += piece;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    input
}

fn report(name: &str, seed: u64, execution: u64, input: &[u8]) {
    let path = format!("target/fuzz/{name}-{seed}-{execution}");
    let written = std::fs::create_dir_all("target/fuzz").and_then(|()| std::fs::write(&path, input));
    let place = written.map_or_else(|e| format!("(not written: {e})"), |()| path);
    println!("{name}: FINDING at execution {execution} with seed {seed}; input in {place}");
}
