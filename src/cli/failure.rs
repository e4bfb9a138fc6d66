//! Why a command ends: wrong usage or a failure, told in one line.

use std::process::ExitCode;

#[derive(Debug)]
pub enum Failure {
    /// What was typed is wrong.
    Usage(String),
    /// What was asked for did not work.
    Failed(anyhow::Error),
}

impl Failure {
    pub fn usage(text: impl Into<String>) -> Self {
        Failure::Usage(text.into())
    }

    pub fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) => ExitCode::from(1),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Failure::Usage(text) => text.clone(),
            // The chain of sources in one line.
            Failure::Failed(error) => format!("{error:#}"),
        };
        formatter.write_str(&text.replace('\n', " "))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}
