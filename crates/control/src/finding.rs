//! What compilation says to the authors of resources.

use heddle_resource::ObjectRef;

/// Codes of findings, for documents and filters: HDL04, beside those that `heddle_resource` has.
pub mod code {
    /// Another object has the same name or host and goes before this one.
    pub const COLLISION: &str = "HDL0401";
    /// A field that protects traffic is not built: the traffic is denied.
    pub const DENIED: &str = "HDL0402";
    /// A reference leads nowhere.
    pub const DANGLING: &str = "HDL0403";
    /// A part that cannot be used as written and is left out.
    pub const LEFT_OUT: &str = "HDL0404";
    /// A proxy refused what was compiled from it.
    pub const REFUSED: &str = "HDL0405";
    /// Something that gRPC clients without a proxy do not do.
    pub const NOT_FOR_GRPC: &str = "HDL0406";
    /// A certificate or its authorities cannot be used: what needs them is not served.
    pub const CREDENTIAL: &str = "HDL0407";
    /// A certificate is in use outside of its time.
    pub const UNTIMELY: &str = "HDL0408";
}

/// One thing that is worth an author's attention: it belongs into the object's status.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Finding {
    pub code: &'static str,
    /// Object and field.
    pub of: ObjectRef,
    /// What is the matter, and what to do.
    pub message: String,
}

impl Finding {
    pub fn new(code: &'static str, of: ObjectRef, message: impl Into<String>) -> Self {
        Self { code, of, message: message.into() }
    }
}

/// `HDL0403 VirtualService default/reviews spec.http[0]: ...`
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.of, self.message)
    }
}
