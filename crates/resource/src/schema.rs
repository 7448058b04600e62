//! One description of every type that users write: from it come the checks for unknown fields and wrong types, the
//! OpenAPI documents, and the table of fields in the documentation.

use std::{collections::BTreeMap, sync::Arc};

/// What a field does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It acts.
    Acts,
    /// Valid, but not built: accepted with a warning.
    Later,
    /// Valid, not built, and it restricts, encrypts or limits: the traffic concerned is denied.
    Denies,
}

/// The shape of a value.
#[derive(Clone, Debug)]
pub enum Schema {
    String,
    Integer,
    Number,
    Boolean,
    /// A number or a string: ports and amounts of core kinds.
    IntOrString,
    /// `1h`, `1m`, `1s`, `1ms`.
    Duration,
    /// Anything: kept, not read.
    Any,
    Enum(&'static [&'static str]),
    List(Box<Schema>),
    Map(Box<Schema>),
    Object(Arc<[Field]>),
}

/// One field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: &'static str,
    pub doc: &'static str,
    pub effect: Effect,
    pub schema: Schema,
    /// For lists: the keys that identify an item (server-side apply, strategic merge).
    pub keys: &'static [&'static str],
    /// Whether it must be there.
    pub required: bool,
    /// The words that a string may be; empty: any.
    pub one_of: &'static [&'static str],
    /// Words of a string or enum that are valid, but not built.
    pub later: &'static [&'static str],
    /// Words that are not built, and restrict, encrypt or limit.
    pub denies: &'static [&'static str],
    /// The least and greatest integer (of the value, or of each item).
    pub range: Option<(i64, i64)>,
}

impl Field {
    pub(crate) fn new<T: Described>(name: &'static str, doc: &'static str, effect: Effect) -> Self {
        Self {
            name,
            doc: doc.trim_ascii(),
            effect,
            schema: T::schema(),
            keys: &[],
            required: false,
            one_of: &[],
            later: &[],
            denies: &[],
            range: T::range(),
        }
    }

    /// What this word means for a field that acts.
    pub fn effect_of(&self, word: &str) -> Effect {
        if self.denies.contains(&word) {
            Effect::Denies
        } else if self.later.contains(&word) {
            Effect::Later
        } else {
            Effect::Acts
        }
    }
}

/// The options of a field in [`described!`].
macro_rules! option {
    ($field:ident) => {};
    ($field:ident required) => {
        $field.required = true;
    };
    ($field:ident $option:ident $($word:literal)+) => {
        $field.$option = &[$($word),+];
    };
}
pub(crate) use option;

/// A type that can describe itself.
pub trait Described {
    fn schema() -> Schema;

    /// The least and greatest integer that fits.
    fn range() -> Option<(i64, i64)> {
        None
    }
}

macro_rules! plain {
    ($($type:ty => $schema:ident),* $(,)?) => {
        $(impl Described for $type {
            fn schema() -> Schema {
                Schema::$schema
            }
        })*
    };
}
plain! {
    String => String,
    Arc<str> => String,
    bool => Boolean,
    f64 => Number,
    serde_json::Value => Any,
    crate::value::Dur => Duration,
    crate::value::IntOrString => IntOrString,
}

macro_rules! integers {
    ($($type:ty: $least:expr, $greatest:expr;)*) => {
        $(impl Described for $type {
            fn schema() -> Schema {
                Schema::Integer
            }
            fn range() -> Option<(i64, i64)> {
                Some(($least, $greatest))
            }
        })*
    };
}
integers! {
    i32: i32::MIN as i64, i32::MAX as i64;
    i64: i64::MIN, i64::MAX;
    u16: 0, u16::MAX as i64;
    u32: 0, u32::MAX as i64;
    u64: 0, i64::MAX;
}

macro_rules! containers {
    ($($type:ty, $schema:expr;)*) => {
        $(impl<T: Described> Described for $type {
            fn schema() -> Schema {
                $schema
            }
            fn range() -> Option<(i64, i64)> {
                T::range()
            }
        })*
    };
}
containers! {
    Option<T>, T::schema();
    Box<T>, T::schema();
    Vec<T>, Schema::List(Box::new(T::schema()));
    BTreeMap<String, T>, Schema::Map(Box::new(T::schema()));
}

/// True for a value that is the default of its type, which is then not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares structs and enums of resources together with their description.
///
/// ```text
/// described! {
///     /// Doc of the struct.
///     pub struct Thing {
///         /// Doc of the field.
///         acts "mode" mode: Mode, required, denies("STRICT");
///         later "items" items: Vec<Item>, keys("name");
///     }
///     /// Doc of the enum.
///     pub enum Mode {
///         #[default]
///         Off = "OFF",
///         Strict = "STRICT",
///     }
/// }
/// ```
///
/// The first word is the field's [`Effect`], the text its name in JSON. Options: `required`; `keys`, by which
/// items of a list are known; `one_of`, the words that a string may be; `later` and `denies`, words that are not built.
macro_rules! described {
    () => {};
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $fdoc:literal])*
                $effect:ident $json:literal $field:ident : $type:ty $(, $option:ident $(($($word:literal),+ $(,)?))?)*
            );* $(;)?
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[doc = $fdoc])*
                #[serde(rename = $json, skip_serializing_if = "crate::schema::is_default")]
                pub $field: $type,
            )*
        }
        impl $crate::schema::Described for $name {
            fn schema() -> $crate::schema::Schema {
                static SCHEMA: std::sync::LazyLock<std::sync::Arc<[$crate::schema::Field]>> =
                    std::sync::LazyLock::new(|| std::sync::Arc::from(vec![$({
                        #[allow(unused_mut)]
                        let mut field = $crate::schema::Field::new::<$type>(
                            $json,
                            concat!($($fdoc),*),
                            $crate::schema::effect::$effect,
                        );
                        $($crate::schema::option!(field $option $($($word)+)?);)*
                        field
                    }),*]));
                $crate::schema::Schema::Object(std::sync::Arc::clone(&SCHEMA))
            }
        }
        $crate::schema::described! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[$attr:meta])* $variant:ident = $json:literal),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$attr])* #[serde(rename = $json)] $variant),*
        }
        impl $crate::schema::Described for $name {
            fn schema() -> $crate::schema::Schema {
                $crate::schema::Schema::Enum(&[$($json),*])
            }
        }
        $crate::schema::described! { $($rest)* }
    };
}
pub(crate) use described;

/// The words of [`described!`].
#[allow(non_upper_case_globals)]
pub(crate) mod effect {
    use super::Effect;
    pub(crate) const acts: Effect = Effect::Acts;
    pub(crate) const later: Effect = Effect::Later;
    pub(crate) const denies: Effect = Effect::Denies;
}
