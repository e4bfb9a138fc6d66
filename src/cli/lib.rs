//! Commands, flags and the configuration file.

/// Runs the command line of this process and returns its exit code: 0, 1 (failed) or 2 (usage).
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
