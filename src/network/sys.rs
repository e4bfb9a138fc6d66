//! The room's only unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// Takes a descriptor that a message brought.
pub(crate) fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: SCM_RIGHTS made the descriptor for this process, and nobody else has seen its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Lets the runtime wait for a non-blocking descriptor.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the returned value owns the descriptor, so it stays open and the same while it is registered.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
