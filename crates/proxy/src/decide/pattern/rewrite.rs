//! Replacing what a pattern matches.

use regex_automata::Input;
use regex_automata::util::iter::Searcher;

use super::{Program, program, translate};

/// `regex_rewrite`: every match of a pattern is replaced.
#[derive(Clone)]
pub struct RegexRewrite {
    program: Program,
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

impl std::fmt::Debug for RegexRewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegexRewrite({:?})", self.text)
    }
}

impl RegexRewrite {
    /// A pattern, and a substitution in which `\1` is the first group and `\\` a backslash.
    pub fn new(pattern: &str, substitution: &str) -> Result<RegexRewrite, String> {
        let program = program(&translate(pattern)?, pattern)?;
        let groups = program.regex.captures_len();
        let parts = substitution_parts(substitution, groups)?;
        Ok(RegexRewrite { program, text: pattern.into(), parts })
    }

    /// The text with every match replaced.
    pub fn replace_all(&self, text: &[u8]) -> Vec<u8> {
        self.program.with_scratch(|regex, scratch| {
            let mut out = Vec::with_capacity(text.len());
            let mut captures = regex.create_captures();
            let mut searcher = Searcher::new(Input::new(text));
            let mut copied = 0;
            while let Some(found) = searcher.advance(|input| {
                regex.search_captures_with(scratch, input, &mut captures);
                Ok(captures.get_match())
            }) {
                out.extend_from_slice(&text[copied..found.start()]);
                for part in &self.parts {
                    match part {
                        Part::Text(literal) => out.extend_from_slice(literal),
                        Part::Group(group) => {
                            if let Some(span) = captures.get_group(*group) {
                                out.extend_from_slice(&text[span.range()]);
                            }
                        }
                    }
                }
                copied = found.end();
            }
            out.extend_from_slice(&text[copied..]);
            out
        })
    }
}

fn substitution_parts(text: &str, groups: usize) -> Result<Box<[Part]>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            literal.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err(format!(
                        "substitution {text:?}: group {group}, but the pattern has {}",
                        groups - 1
                    ));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Group(group));
            }
            _ => {
                return Err(format!(
                    "substitution {text:?}: a backslash stands before a digit or a backslash"
                ));
            }
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts.into())
}
