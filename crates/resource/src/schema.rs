//! One description of every type that users write: from it come the checks for unknown fields and wrong types, the
//! OpenAPI documents, and the table of fields in the documentation.

use std::{collections::BTreeMap, sync::Arc};

/// What a field does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// A type that can describe itself.
pub trait Described {
    fn schema() -> Schema;
}

macro_rules! plain {
    ($($type:ty => $schema:ident),* $(,)?) => { $(impl Described for $type { fn schema() -> Schema { Schema::$schema } })* };
}
plain!(String => String, Arc<str> => String, bool => Boolean, i32 => Integer, i64 => Integer, u16 => Integer, u32 => Integer, u64 => Integer, f64 => Number,
    serde_json::Value => Any, crate::value::Dur => Duration, crate::value::IntOrString => IntOrString);

impl<T: Described> Described for Option<T> {
    fn schema() -> Schema {
        T::schema()
    }
}
impl<T: Described> Described for Box<T> {
    fn schema() -> Schema {
        T::schema()
    }
}
impl<T: Described> Described for Vec<T> {
    fn schema() -> Schema {
        Schema::List(Box::new(T::schema()))
    }
}
impl<T: Described> Described for BTreeMap<String, T> {
    fn schema() -> Schema {
        Schema::Map(Box::new(T::schema()))
    }
}

/// True for a value that is the default of its type, which is then not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares structs and enums of resources together with their description.
///
/// `acts name: Type` uses the name in camelCase; `acts "x" as name: Type` gives another; `keys(a, b)` names list-map keys.
macro_rules! described {
    () => {};
    ($(#[doc = $doc:literal])* pub struct $name:ident { $( $(#[doc = $fdoc:literal])* $effect:ident $json:literal $field:ident : $type:ty $(, keys($($key:literal),+))? );* $(;)? } $($rest:tt)*) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $( $(#[doc = $fdoc])* #[serde(rename = $json, skip_serializing_if = "crate::schema::is_default")] pub $field: $type, )* }
        impl $crate::schema::Described for $name {
            fn schema() -> $crate::schema::Schema {
                $crate::schema::Schema::Object(std::sync::Arc::from(vec![$( $crate::schema::Field {
                    name: $json, doc: concat!($($fdoc),*), effect: $crate::schema::effect::$effect, schema: <$type as $crate::schema::Described>::schema(),
                    keys: &[$($($key),+)?],
                } ),*]))
            }
        }
        $crate::schema::described! { $($rest)* }
    };
    ($(#[doc = $doc:literal])* pub enum $name:ident { $($(#[$attr:meta])* $variant:ident = $json:literal),* $(,)? } $($rest:tt)*) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$attr])* #[serde(rename = $json)] $variant),* }
        impl $crate::schema::Described for $name {
            fn schema() -> $crate::schema::Schema { $crate::schema::Schema::Enum(&[$($json),*]) }
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
