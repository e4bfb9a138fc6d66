//! `install.sh` and the script it leaves, by dash and by busybox ash, in a root of its own.

use std::process::Command;

#[test]
fn both_shells_read_the_script() {
    for shell in [&["dash"][..], &["busybox", "ash"]] {
        let status = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-n", concat!(env!("CARGO_MANIFEST_DIR"), "/install.sh")])
            .status()
            .expect("tests/run installs both");
        assert!(status.success());
    }
}
