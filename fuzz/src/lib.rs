//! Fuzz targets: plain functions over bytes, for whatever an outsider can send. They must not panic.

mod admit;

pub use admit::admit_yaml;

/// A function that must take any bytes, and what good input looks like.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub corpus: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[Target { name: "admit_yaml", run: admit_yaml, corpus: admit::CORPUS }];
