//! What the suites stand on: a network namespace and a server in it, upstream's kubectl, and the images.

pub mod kubectl;
pub mod leftovers;
pub mod namespace;
pub mod node;
pub mod server;

pub use kubectl::Output;
pub use node::Node;
pub use server::Server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where `tests/upstream/build` and `tests/images/make` leave what they made; `tests/run` says it.
pub fn cache(variable: &str, default: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    base.unwrap_or_else(home).join("coracle").join(default)
}

/// Asks until `condition` gives a value; for facts of the kernel and of programs that no event tells.
///
/// Panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// In a test that panics: the last lines of what a program has logged.
pub fn tell_of_panic(who: &str, log: &str) {
    if std::thread::panicking() {
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- the {who}'s last lines\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
    }
}
