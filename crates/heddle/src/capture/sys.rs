//! The one call that the kernel offers no safe form of.

#![expect(unsafe_code, reason = "unshare(2); see the invariant at the call")]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this process into new namespaces.
///
/// # Errors
/// The kernel's: EPERM where it wants a privilege, ENOSPC at a limit of `/proc/sys/user`, EINVAL for a new user namespace
/// of a process that has threads.
pub(super) fn unshare(namespaces: Namespaces) -> io::Result<()> {
    let flags = match namespaces {
        Namespaces::NetworkAndMounts => UnshareFlags::NEWNET | UnshareFlags::NEWNS,
        Namespaces::UserNetworkAndMounts => {
            UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS
        }
        Namespaces::Mounts => UnshareFlags::NEWNS,
    };
    // SAFETY: what makes `unshare` unsafe is `CLONE_FILES`, which would give this thread descriptors that other threads do
    // not have; no value of `Namespaces` asks for it.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Which namespaces are to be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespaces {
    NetworkAndMounts,
    UserNetworkAndMounts,
    Mounts,
}
