//! Build script of the program: what the linker of a release build is asked beyond its defaults, where it is LLD (rustc's own on x86-64).

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/link.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let release = variable("PROFILE") == "release";
    if !release || variable("TARGET") != "x86_64-unknown-linux-gnu" {
        return;
    }
    // Functions of different types that are the same code are kept once.
    println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    if variable("HOST") == variable("TARGET") && glibc() >= (2, 36) {
        // A bit for each pointer in a table, not 24 bytes; the loader reads it since glibc 2.36.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library; zero where there is none.
fn glibc() -> (u32, u32) {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let mut parts = text.trim().trim_start_matches("glibc ").split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
