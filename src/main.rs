//! The coracle executable: hands the command line to `coracle-cli` and returns its exit code.

fn main() -> std::process::ExitCode {
    coracle_cli::main()
}
