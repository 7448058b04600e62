//! Regular expressions with RE2's syntax and full-match meaning, compiled once and run without a lock.
//!
//! Small ones become a dense DFA, which needs no scratch space. Others keep their scratch space per thread. The text that a
//! pattern begins with is compared by itself, so that patterns which differ in nothing else share one DFA.

mod rewrite;
mod translate;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use regex_automata::dfa::Automaton;
use regex_automata::dfa::dense;
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, meta};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind, Look};
use rustc_hash::FxHashMap;

pub use self::rewrite::RegexRewrite;
use self::translate::translate;

/// Largest dense DFA, bytes; bigger ones run on the meta engine.
const DENSE_LIMIT: usize = 64 << 10;
/// Largest compiled program, bytes: a pattern beyond it is refused.
const PROGRAM_LIMIT: usize = 1 << 20;
/// How many texts a pattern may begin with to be found by them.
const PREFIXES: usize = 32;
/// Classes and repetitions up to this long are written out in those texts.
const PREFIX_CLASS: usize = 4;
/// Scratch spaces kept per thread.
const SCRATCH_LIMIT: usize = 256;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static SCRATCH: RefCell<FxHashMap<u64, meta::Cache>> = RefCell::new(FxHashMap::default());
}

type Dense = dense::DFA<Vec<u32>>;

/// The DFAs in use, by the expressions they stand for.
static SHARED: LazyLock<Mutex<FxHashMap<Box<str>, Weak<Dense>>>> = LazyLock::new(Mutex::default);

/// A pattern that has to match the whole text.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    /// What every match begins with: the engine is given what comes behind it.
    begin: Box<[u8]>,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Dense(Arc<Dense>),
    Meta(Program),
}

#[derive(Clone)]
struct Program {
    id: u64,
    regex: meta::Regex,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl Pattern {
    /// Compiles a pattern of RE2's syntax.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let translated = translate(text)?;
        let parsed = syntax::parse_with(&translated, &syntax::Config::new().utf8(false));
        let (begin, rest) = parsed.map_or_else(
            |_| (Box::default(), None),
            |hir| {
                let (begin, rest) = beginning(hir);
                (begin, shared(&rest))
            },
        );
        Ok(match rest {
            Some(dfa) => Pattern { text: text.into(), begin, engine: Engine::Dense(dfa) },
            None => {
                let engine = Engine::Meta(program(&format!(r"\A(?:{translated})\z"), text)?);
                Pattern { text: text.into(), begin: Box::default(), engine }
            }
        })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Texts of which every match begins with one; `None` when it may begin with anything.
    pub(super) fn prefixes(&self) -> Option<Vec<Box<[u8]>>> {
        let hir = regex_syntax::ParserBuilder::new()
            .utf8(false)
            .build()
            .parse(&format!("(?:{})", translate(&self.text).ok()?))
            .ok()?;
        let mut extractor = Extractor::new();
        extractor.limit_class(PREFIX_CLASS).limit_repeat(PREFIX_CLASS).limit_total(PREFIXES);
        let found = extractor.extract(&hir);
        let texts = found.literals()?.iter().map(|text| text.as_bytes());
        texts.map(|text| (!text.is_empty()).then(|| text.into())).collect()
    }

    /// The whole of `text` matches.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let Some(text) = text.strip_prefix(&*self.begin) else { return false };
        let input = Input::new(text).anchored(Anchored::Yes);
        match &self.engine {
            Engine::Dense(dfa) => matches!(dfa.try_search_fwd(&input), Ok(Some(_))),
            Engine::Meta(program) => {
                program.with_scratch(|regex, scratch| regex.search_half_with(scratch, &input).is_some())
            }
        }
    }
}

impl Program {
    fn with_scratch<T>(&self, run: impl FnOnce(&meta::Regex, &mut meta::Cache) -> T) -> T {
        SCRATCH.with_borrow_mut(|all| {
            if all.len() >= SCRATCH_LIMIT && !all.contains_key(&self.id) {
                all.clear();
            }
            run(&self.regex, all.entry(self.id).or_insert_with(|| self.regex.create_cache()))
        })
    }
}

/// The text that every match begins with, and the rest of an expression for whole texts.
fn beginning(hir: Hir) -> (Box<[u8]>, Hir) {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.clone(),
        _ => vec![hir],
    };
    // The whole text is meant in any case.
    if parts.first().is_some_and(|first| *first.kind() == HirKind::Look(Look::Start)) {
        parts.remove(0);
    }
    parts.pop_if(|last| *last.kind() == HirKind::Look(Look::End));
    let looks = parts.iter().any(|part| !part.properties().look_set().is_empty());
    let begin = match parts.first().map(Hir::kind) {
        // What looks back would not see it.
        Some(HirKind::Literal(text)) if !looks => text.0.clone(),
        _ => Box::default(),
    };
    let rest = parts.split_off(usize::from(!begin.is_empty()));
    (begin, Hir::concat(rest))
}

/// The DFA of an expression for whole texts; `None` when it would be large.
fn shared(hir: &Hir) -> Option<Arc<Dense>> {
    let key = hir.to_string();
    let known = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(dfa) = known().get(&*key).and_then(Weak::upgrade) {
        return Some(dfa);
    }
    let dfa = Arc::new(dense(&Hir::concat(vec![hir.clone(), Hir::look(Look::End)]))?);
    let mut known = known();
    if known.len() == known.capacity() {
        known.retain(|_, dfa| dfa.strong_count() > 0);
    }
    known.insert(key.into(), Arc::downgrade(&dfa));
    Some(dfa)
}

fn dense(hir: &Hir) -> Option<Dense> {
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(PROGRAM_LIMIT)))
        .build_from_hir(hir)
        .ok()?;
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::LeftmostFirst)
                .start_kind(regex_automata::dfa::StartKind::Anchored)
                .dfa_size_limit(Some(DENSE_LIMIT))
                .determinize_size_limit(Some(DENSE_LIMIT * 4)),
        )
        .build_from_nfa(&nfa)
        .ok()
}

fn program(pattern: &str, shown: &str) -> Result<Program, String> {
    let regex = meta::Builder::new()
        .configure(
            meta::Config::new()
                .utf8_empty(false)
                .nfa_size_limit(Some(PROGRAM_LIMIT))
                .hybrid_cache_capacity(1 << 18),
        )
        .syntax(syntax::Config::new().utf8(false))
        .build(pattern)
        .map_err(|error| match error.syntax_error() {
            Some(syntax) => format!("regex {shown:?}: {}", last_line(&syntax.to_string())),
            None => format!("regex {shown:?}: {error}"),
        })?;
    Ok(Program { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), regex })
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
#[path = "pattern_test.rs"]
mod pattern_test;
