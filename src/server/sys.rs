//! The process's memory, as the allocator and the kernel keep it: the only unsafe code of this crate.
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

/// Unmaps the pages of this program that are never written (code, constants). They stay in the page cache; what runs again is mapped
/// again, 64 KiB at a fault, so that only what a server at rest needs counts as its memory.
pub fn forget_code() {
    // SAFETY: the callback gets a valid record of each loaded object, and `forget` only reads it.
    unsafe {
        libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut());
    }
}

/// Called for each loaded object, the program itself first; 1 ends the iteration.
unsafe extern "C" fn forget(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the record and the program headers that it points to live as long as the program.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    // SAFETY: sysconf only reads.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr) & !(page - 1);
        let end = base + header.p_vaddr + header.p_memsz;
        // SAFETY: a private mapping of a file that nothing wrote to: the kernel maps the same bytes again when they are touched.
        unsafe {
            libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    /// Kilobytes of this program's code that are mapped.
    fn mapped_code() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("/proc is mounted");
        let program = std::env::current_exe().expect("it has a path");
        let program = program.to_str().expect("it is UTF-8");
        let mut ours = false;
        let mut sum = 0;
        for line in maps.lines() {
            if line.contains(" r-xp ") || line.contains("-p ") {
                ours = line.contains(" r-xp ") && line.ends_with(program);
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| ours) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
            }
        }
        sum
    }

    #[test]
    fn code_that_is_forgotten_still_runs() {
        let before = mapped_code();
        super::forget_code();
        let after = mapped_code();
        assert!(before > 0 && after > 0 && after < before, "{before} kB, then {after} kB");
        super::trim();
    }
}
