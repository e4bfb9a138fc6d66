//! The pause image: a static program of a few instructions that holds a pod's namespaces, so that no registry is needed.
//!
//! The program blocks SIGINT, SIGTERM and SIGCHLD and waits for them: it reaps children on SIGCHLD (it is PID 1 of pods
//! that share their process namespace) and exits with 0 on the others. A blocked signal reaches even PID 1.

use crate::containerd::content::{Blob, ImageContent};

/// The name under which the image is known to the runtime; no registry of that name is ever asked.
pub const NAME: &str = "coracle.local/pause:1";

/// Signals 2, 15 and 17 as the kernel's 64-bit set.
const SIGNALS: u64 = 1 << 1 | 1 << 14 | 1 << 16;

#[rustfmt::skip]
const X86_64: [u8; 96] = [
    0xb8, 14, 0, 0, 0,                  //       mov eax, 14 (rt_sigprocmask)
    0x31, 0xff,                         //       xor edi, edi (SIG_BLOCK)
    0x48, 0x8d, 0x35, 0x52, 0, 0, 0,    //       lea rsi, [rip + signals]
    0x31, 0xd2,                         //       xor edx, edx
    0x41, 0xba, 8, 0, 0, 0,             //       mov r10d, 8
    0x0f, 0x05,                         //       syscall
    0xb8, 128, 0, 0, 0,                 // wait: mov eax, 128 (rt_sigtimedwait)
    0x48, 0x8d, 0x3d, 0x3c, 0, 0, 0,    //       lea rdi, [rip + signals]
    0x31, 0xf6,                         //       xor esi, esi
    0x31, 0xd2,                         //       xor edx, edx
    0x41, 0xba, 8, 0, 0, 0,             //       mov r10d, 8
    0x0f, 0x05,                         //       syscall
    0x83, 0xf8, 17,                     //       cmp eax, 17 (SIGCHLD)
    0x74, 0x0d,                         //       je reap
    0x85, 0xc0,                         //       test eax, eax
    0x78, 0xdf,                         //       js wait (interrupted)
    0xb8, 231, 0, 0, 0,                 //       mov eax, 231 (exit_group)
    0x31, 0xff,                         //       xor edi, edi
    0x0f, 0x05,                         //       syscall
    0xb8, 61, 0, 0, 0,                  // reap: mov eax, 61 (wait4)
    0xbf, 0xff, 0xff, 0xff, 0xff,       //       mov edi, -1
    0x31, 0xf6,                         //       xor esi, esi
    0xba, 1, 0, 0, 0,                   //       mov edx, 1 (WNOHANG)
    0x45, 0x31, 0xd2,                   //       xor r10d, r10d
    0x0f, 0x05,                         //       syscall
    0x85, 0xc0,                         //       test eax, eax
    0x7f, 0xe6,                         //       jg reap
    0xeb, 0xba,                         //       jmp wait
    0x90, 0x90,                         //       (to a multiple of 8)
];

#[rustfmt::skip]
const AARCH64: [u32; 28] = [
    0xd2800000 | 135 << 5 | 8,          //       mov x8, 135 (rt_sigprocmask)
    0xd2800000,                         //       mov x0, 0 (SIG_BLOCK)
    0x10000000 | 26 << 5 | 1,           //       adr x1, signals
    0xd2800000 | 2,                     //       mov x2, 0
    0xd2800000 | 8 << 5 | 3,            //       mov x3, 8
    0xd4000001,                         //       svc 0
    0xd2800000 | 137 << 5 | 8,          // wait: mov x8, 137 (rt_sigtimedwait)
    0x10000000 | 21 << 5,               //       adr x0, signals
    0xd2800000 | 1,                     //       mov x1, 0
    0xd2800000 | 2,                     //       mov x2, 0
    0xd2800000 | 8 << 5 | 3,            //       mov x3, 8
    0xd4000001,                         //       svc 0
    0x7100001f | 17 << 10,              //       cmp w0, 17 (SIGCHLD)
    0x54000000 | 5 << 5,                //       b.eq reap
    0x37f80000 | (0x4000 - 8) << 5,     //       tbnz w0, 31, wait (interrupted)
    0xd2800000 | 94 << 5 | 8,           //       mov x8, 94 (exit_group)
    0xd2800000,                         //       mov x0, 0
    0xd4000001,                         //       svc 0
    0xd2800000 | 260 << 5 | 8,          // reap: mov x8, 260 (wait4)
    0x92800000,                         //       mov x0, -1
    0xd2800000 | 1,                     //       mov x1, 0
    0xd2800000 | 1 << 5 | 2,            //       mov x2, 1 (WNOHANG)
    0xd2800000 | 3,                     //       mov x3, 0
    0xd4000001,                         //       svc 0
    0x7100001f,                         //       cmp w0, 0
    0x54000000 | (0x80000 - 7) << 5 | 12, //     b.gt reap
    0x14000000 | (0x4000000 - 20),      //       b wait
    0xd503201f,                         //       nop (to a multiple of 8)
];

/// Where the program is mapped, and the size of the headers before its code.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// The program as an ELF file for the machine this is built for.
pub fn program() -> Vec<u8> {
    if cfg!(target_arch = "aarch64") {
        let code: Vec<u8> = AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect();
        elf(183, &code)
    } else {
        elf(62, &X86_64)
    }
}

/// An ELF64 executable with one segment: headers, code and the signal set.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64 + 8;
    let mut file = Vec::with_capacity(size as usize);
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for offset in [BASE + HEADERS, 64, 0] {
        file.extend(u64::to_le_bytes(offset)); // entry, program headers, no section headers
    }
    file.extend(0u32.to_le_bytes());
    for field in [64u16, 56, 1, 64, 0, 0] {
        file.extend(field.to_le_bytes()); // sizes and counts of headers
    }
    file.extend(1u32.to_le_bytes()); // a loaded segment
    file.extend(5u32.to_le_bytes()); // readable and executable
    for field in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(u64::to_le_bytes(field)); // offset, addresses, sizes, alignment
    }
    file.extend(code);
    file.extend(SIGNALS.to_le_bytes());
    file
}

/// The image: one layer with `/pause`, its configuration and its manifest.
pub fn image() -> ImageContent {
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created_by": "coracle"}],
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    ImageContent::from_parts(NAME, config, vec![layer])
}

fn layer() -> Vec<u8> {
    let program = program();
    let mut header = tar::Header::new_ustar();
    header.set_path("pause").expect("a short ASCII name fits");
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    header.set_mtime(0);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, program.as_slice()).expect("writing to memory does not fail");
    archive.into_inner().expect("writing to memory does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program itself: it must wait, and end with 0 on SIGTERM.
    #[test]
    fn waits_until_it_is_told_to_end() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pause");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        // The only call in which it sleeps is the wait for signals; before, SIGTERM would kill it by default.
        let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        while !status().contains("State:\tS") {
            std::thread::yield_now();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCHLD).unwrap();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn both_machines_programs_end_with_the_signal_set() {
        let code: Vec<u8> = AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(elf(183, &code).len() as u64, HEADERS + 28 * 4 + 8);
        assert_eq!(elf(62, &X86_64).len() as u64, HEADERS + 96 + 8);
        const { assert!((HEADERS + 96).is_multiple_of(8)) };
    }
}
