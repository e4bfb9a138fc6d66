//! Why a read or write through the API failed, whatever the transport.

use coracle_api::Status;

/// A failed request, as controllers see it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("request failed")]
    Request(#[from] kube::Error),
    #[error(transparent)]
    Status(Box<Status>),
    #[error("object cannot be encoded or decoded")]
    Json(#[from] serde_json::Error),
    /// Work that cannot be done as things are; said to the log, tried again with back-off.
    #[error("{0}")]
    Other(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error::Status(Box::new(status))
    }
}

impl Error {
    /// The HTTP code of the API's answer; `None` when there was none.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Request(kube::Error::Api(status)) => Some(status.code),
            Error::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// `NotFound`, `AlreadyExists`, `Conflict`, ...; empty when the API did not answer.
    pub fn reason(&self) -> &str {
        match self {
            Error::Request(kube::Error::Api(status)) => &status.reason,
            Error::Status(status) => &status.reason,
            _ => "",
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound" || (self.code() == Some(404) && self.reason().is_empty())
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// A write into a namespace that is being deleted: it will never succeed.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Error::Request(kube::Error::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
            }
            Error::Status(status) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
            }
            _ => false,
        }
    }

    /// The error with its sources, in one line; what the API says in its own words alone.
    pub fn chain(&self) -> String {
        match self {
            Error::Request(kube::Error::Api(status)) => return status.message.clone(),
            Error::Status(status) => return status.message.clone(),
            _ => {}
        }
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let line = error.to_string();
            if !text.contains(&line) {
                text = format!("{text}: {line}");
            }
            source = error.source();
        }
        text
    }
}

/// Turns "not found" into `None`.
pub fn found<T>(result: Result<T, impl Into<Error>>) -> Result<Option<T>, Error> {
    match result.map_err(Into::into) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
