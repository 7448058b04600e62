//! Conditions: what a status says about one aspect of an object.

use std::borrow::Cow;

/// One condition (`meta/v1 Condition`) without the fields that only its writing knows: the time of its
/// last transition and the generation it speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Condition {
    /// `type`: `Accepted`, `Programmed`, `ResolvedRefs` ...
    pub(crate) kind: &'static str,
    pub(crate) status: Status,
    /// One word in CamelCase, for machines.
    pub(crate) reason: Cow<'static, str>,
    /// For people: what is wrong, and with which field.
    pub(crate) message: String,
}

/// The three values of a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    pub(crate) fn yes(kind: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, status: Status::True, reason: reason.into(), message: String::new() }
    }

    pub(crate) fn no(
        kind: &'static str,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: Status::False, reason: reason.into(), message: message.into() }
    }

    pub(crate) fn unknown(
        kind: &'static str,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: Status::Unknown, reason: reason.into(), message: message.into() }
    }

    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(crate) fn holds(&self) -> bool {
        self.status == Status::True
    }
}
