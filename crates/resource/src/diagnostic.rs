//! What is wrong, on which object and field, what was found, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::object::Source;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// The most findings about one object that are kept. A document that is wrong throughout must not fill the memory.
const MAX_FINDINGS: usize = 1000;

/// The longest text in a finding, in characters.
const MAX_TEXT: usize = 600;

/// Adds a finding within bounds; the first error is always kept.
pub(crate) fn add(findings: &mut Vec<Diagnostic>, mut finding: Diagnostic) {
    for text in [&mut finding.field, &mut finding.found, &mut finding.expected, &mut finding.message] {
        shorten(text);
    }
    let is_error = |f: &Diagnostic| f.severity == Severity::Error;
    if findings.len() < MAX_FINDINGS || is_error(&finding) && !findings.iter().any(is_error) {
        findings.push(finding);
    }
}

/// A value that a user wrote may be as long as the document.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push_str("...");
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    pub code: &'static str,
    pub severity: Severity,
    /// `VirtualService default/reviews`; empty when the document could not be read that far.
    pub object: String,
    /// `spec.http[0].route[1].weight`; empty for the object as a whole.
    pub field: String,
    #[serde(skip)]
    pub source: Option<Source>,
    /// The file and line, when the object came from a file.
    pub at: String,
    pub found: String,
    pub expected: String,
    /// One line that says what is wrong.
    pub message: String,
}

impl Diagnostic {
    pub fn new(code: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            object: String::new(),
            field: String::new(),
            source: None,
            at: String::new(),
            found: String::new(),
            expected: String::new(),
            message: message.into(),
        }
    }

    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    /// What to do about it, from the table of findings.
    pub fn fix(&self) -> &'static str {
        crate::finding::finding(self.code).map_or("", |finding| finding.fix)
    }

    #[must_use]
    pub fn on(mut self, object: impl fmt::Display, field: impl Into<String>) -> Self {
        self.object = object.to_string();
        self.field = field.into();
        self
    }

    #[must_use]
    pub fn found(mut self, found: impl Into<String>, expected: impl Into<String>) -> Self {
        self.found = found.into();
        self.expected = expected.into();
        self
    }

    #[must_use]
    pub fn at(mut self, source: Option<Source>) -> Self {
        if let Some(source) = &source {
            self.at = format!("{}:{}", source.file, source.line);
        }
        self.source = source;
        self
    }
}

/// `file.yaml:12: VirtualService default/reviews spec.http[0]: message (found `x`, expected y) [HDL0101]`
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        if !self.object.is_empty() {
            write!(f, "{}", self.object)?;
            if !self.field.is_empty() {
                write!(f, " {}", self.field)?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.message)?;
        match (self.found.is_empty(), self.expected.is_empty()) {
            (false, false) => write!(f, " (found `{}`, expected {})", self.found, self.expected)?,
            (false, true) => write!(f, " (found `{}`)", self.found)?,
            (true, false) => write!(f, " (expected {})", self.expected)?,
            (true, true) => {}
        }
        write!(f, " [{}]", self.code)
    }
}
