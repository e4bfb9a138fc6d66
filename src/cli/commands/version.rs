//! `coracle version`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::Failure;

/// The API level that the tables were made from.
const KUBERNETES: &str = "v1.37.2";

pub fn run(_: &[OsString]) -> Result<ExitCode, Failure> {
    println!("coracle {} (Kubernetes {KUBERNETES})", env!("CARGO_PKG_VERSION"));
    Ok(ExitCode::SUCCESS)
}
