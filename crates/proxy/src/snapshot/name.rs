//! Names of resources with their hash computed once, so that a lookup on the request path does not hash.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use equivalent::Equivalent;

/// A resource name and its hash. Cloning counts a reference; comparing looks at the hash first.
#[derive(Clone)]
pub struct Name {
    hash: u64,
    text: Arc<str>,
}

impl Name {
    /// A name from text.
    pub fn new(text: &str) -> Name {
        Name { hash: hash_of(text), text: Arc::from(text) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The shared text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The precomputed hash.
    pub fn hash_value(&self) -> u64 {
        self.hash
    }
}

/// A borrowed name for lookups by text that arrives with a request (`cluster_header`).
#[derive(Clone, Copy)]
pub struct NameRef<'a> {
    hash: u64,
    text: &'a str,
}

impl<'a> NameRef<'a> {
    /// Hashes the text once.
    pub fn new(text: &'a str) -> NameRef<'a> {
        NameRef { hash: hash_of(text), text }
    }
}

impl Hash for NameRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, key: &Name) -> bool {
        self.hash == key.hash && *self.text == *key.text
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name::new(text)
    }
}

/// Passes the precomputed hash through.
#[derive(Clone, Copy, Default)]
pub struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(5) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Builds [`NameHasher`].
#[derive(Clone, Copy, Default)]
pub struct BuildNameHasher;

impl BuildHasher for BuildNameHasher {
    type Hasher = NameHasher;
    fn build_hasher(&self) -> NameHasher {
        NameHasher::default()
    }
}

/// A structurally shared map by name: inserting or removing copies only the path to the entry.
pub type NameMap<T> = imbl::GenericHashMap<Name, T, BuildNameHasher, imbl::shared_ptr::DefaultSharedPtr>;
