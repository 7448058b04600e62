//! One judgement for every field of every xDS message: it acts, it is harmless and listed, or it refuses the resource.
//!
//! [`judge!`] takes a message apart without leaving a field out (the compiler sees to that), and the same lines make the
//! table that documents show ([`Rule`]).

use std::collections::BTreeSet;
use std::fmt;

/// Why a resource is refused: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    field: String,
    reason: String,
}

impl Refusal {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Refusal {
        Refusal { field: field.to_string(), reason: reason.into() }
    }

    /// The same, seen from the message that holds this one.
    pub(crate) fn within(mut self, outer: impl fmt::Display) -> Refusal {
        self.field =
            if self.field.is_empty() { outer.to_string() } else { format!("{outer}.{}", self.field) };
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// The outcome of compiling a message.
pub(crate) type Compiled<T> = Result<T, Refusal>;

/// Fields that were set and have no effect, `Message.field`.
pub(crate) type Listed = BTreeSet<&'static str>;

/// What becomes of a field when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what Envoy's documentation says.
    Acts,
    /// It has no effect here and harms nobody: `proxy-config` lists it.
    Listed,
    /// The resource is refused (NACK), and its previous version stays in force.
    Refused,
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `RouteAction.hash_policy`.
    pub field: &'static str,
    /// The judgement.
    pub effect: Effect,
}

/// The field differs from its default.
pub(crate) fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// `judge!(NAME, Message as "Message", acts: [...], listed: [...], refused: [...])` defines a function `NAME(message, listed)`
/// and a constant `NAME::RULES`.
macro_rules! judge {
    ($name:ident, $message:path as $text:literal, acts: [$($acts:ident),* $(,)?], listed: [$($listed:ident),* $(,)?],
     refused: [$($refused:ident),* $(,)?]) => {
        #[allow(deprecated)]
        pub(crate) mod $name {
            #[allow(unused_imports, reason = "a message all of whose fields act needs no check")]
            use crate::snapshot::compile::judge::{self, Compiled, Effect, Listed, Rule};

            /// The judgement of each field.
            pub(crate) const RULES: &[Rule] = &[
                $(Rule { field: concat!($text, ".", stringify!($acts)), effect: Effect::Acts },)*
                $(Rule { field: concat!($text, ".", stringify!($listed)), effect: Effect::Listed },)*
                $(Rule { field: concat!($text, ".", stringify!($refused)), effect: Effect::Refused },)*
            ];

            /// Lists what has no effect and refuses what cannot be left out.
            pub(crate) fn judge(message: &$message, seen: &mut Listed) -> Compiled<()> {
                type Message = $message;
                let Message { $($acts: _,)* $($listed,)* $($refused,)* } = message;
                $(if judge::is_set($listed) { seen.insert(concat!($text, ".", stringify!($listed))); })*
                $(if judge::is_set($refused) {
                    return Err(judge::Refusal::new(stringify!($refused), "is not built; remove it or serve this resource by another proxy"));
                })*
                let _ = seen;
                Ok(())
            }
        }
    };
}
pub(crate) use judge;
