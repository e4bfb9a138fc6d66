//! Memory that is free goes back to the kernel: soon after the start, and from time to time after that.

use std::time::Duration;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;

use crate::sys;

/// The start decodes and encodes much that is never needed again.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(300);

pub async fn keep_small(shutdown: Shutdown) {
    let mut wait = FIRST;
    while shutdown.bound(tokio::time::sleep(wait)).await.is_some() {
        // Some milliseconds under the allocator's locks.
        let _ = task::blocking(sys::trim).await;
        wait = EVERY;
    }
}
