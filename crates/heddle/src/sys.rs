//! What only the allocator can do.
#![expect(unsafe_code, reason = "the allocator is no Rust")]

unsafe extern "C" {
    /// Of mimalloc, which `main` makes this program's allocator.
    fn mi_collect(force: bool);
}

/// Gives pages that the calling thread has freed back to the system. The allocator does so by itself only as it is used:
/// a thread that has nothing to do after much work keeps what the work took.
pub(crate) fn give_back() {
    // SAFETY: any thread may call it at any time; it touches only what is free.
    unsafe { mi_collect(true) }
}
