//! The allocator's settings: the only unsafe code of this crate.
#![allow(unsafe_code)]

/// At most two arenas, and freed memory back to the kernel early: four threads' churn otherwise keeps tens of MiB.
/// To be called before the runtime's threads start.
pub fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only changes parameters of the allocator and is called before there are other threads.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
            libc::mallopt(libc::M_MMAP_THRESHOLD, 256 * 1024);
        }
    }
}

/// Gives free memory back to the kernel; some milliseconds when much is free.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim takes the allocator's own locks and may be called from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
