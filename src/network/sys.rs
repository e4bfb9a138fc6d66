//! The room's only unsafe code.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that a message brought.
pub(crate) fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: SCM_RIGHTS made the descriptor for this process, and nobody else has seen its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
