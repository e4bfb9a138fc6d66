//! The system calls that have no safe wrapper: the only unsafe code of this crate.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// A descriptor that becomes readable when the process ends, whoever its parent is; `ESRCH` when there is none.
pub fn pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    // SAFETY: the descriptor is owned by the AsyncFd, which never lends it mutably, so it stays open while it is registered.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
