//! What keeps a server from starting; each says what failed, on what, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("data directory {} is in use by another server{}: stop that one or choose another --data-dir", .path.display(), .holder)]
    InUse { path: PathBuf, holder: String },
    #[error("data directory {} was written in format {found:?}, this coracle knows {known:?}: start the coracle that wrote it, or choose another --data-dir", .path.display())]
    Format { path: PathBuf, found: String, known: &'static str },
    #[error("{} is not what coracle wrote: {reason}; restore it, or remove it to have it made again", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "cannot listen on {address}: stop what listens there, or choose another --https-listen-port or --bind-address"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error("certificates")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Store(#[from] coracle_store::OpenError),
    #[error("this machine cannot run a node: {missing}; or run the control plane alone with --disable-agent")]
    Machine { missing: String },
    #[error("{part} ended: {reason}")]
    Ended { part: &'static str, reason: String },
    #[error("--token differs from the one in {}: remove the option, or the file to change the token", .path.display())]
    Token { path: PathBuf },
    #[error("{what}")]
    Setup { what: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Error {
    /// For `map_err`: a file operation that failed.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err`: a step of the start that failed.
    pub fn setup<E>(what: &'static str) -> impl FnOnce(E) -> Error
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Error::Setup { what: what.to_owned(), source: source.into() }
    }

    pub fn certificates(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Certificates(source.into())
    }
}
