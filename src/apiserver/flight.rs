//! How many requests may be under way at once; above that a client is told to come back.
//!
//! Upstream: k8s.io/apiserver pkg/server/filters/maxinflight.go.

use std::sync::Arc;

use coracle_api::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::Call;

/// Upstream's defaults of --max-requests-inflight and --max-mutating-requests-inflight.
const READING: usize = 400;
const WRITING: usize = 200;

pub struct Flight {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl Default for Flight {
    fn default() -> Self {
        Self { reading: Arc::new(Semaphore::new(READING)), writing: Arc::new(Semaphore::new(WRITING)) }
    }
}

/// Kept as long as the request is under way; `None` for exempt ones.
pub type Permit = Option<OwnedSemaphorePermit>;

impl Flight {
    /// 429 when too many are under way. Components of this process and long-running requests are exempt, and so is
    /// `system:masters`, so that an operator gets in.
    pub fn enter(&self, call: &Call) -> Result<Permit, Status> {
        if call.component || is_long_running(call) || call.user.is_in(crate::authn::MASTERS) {
            return Ok(None);
        }
        let semaphore = match call.info.verb {
            "get" | "list" | "head" | "options" => &self.reading,
            _ => &self.writing,
        };
        let message = "Too many requests, please try again later.";
        semaphore.clone().try_acquire_owned().map(Some).map_err(|_| Status::too_many_requests(message, 1))
    }
}

/// Watches and streams, which would hold their place for hours.
pub fn is_long_running(call: &Call) -> bool {
    let info = &call.info;
    info.verb == "watch"
        || info.is_resource && matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}
