//! Memory that only work needed goes back to the kernel once the work is done.

use std::time::Duration;

use coracle_api::object::forms;
use coracle_apiserver::Stored;
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use coracle_store::Store;
use tokio::sync::watch;

use crate::sys;

/// The start decodes and encodes much that is never needed again, with code that is not either.
const START: Duration = Duration::from_secs(5);
/// A server that had no burst of requests for this long is at rest.
const QUIET: Duration = Duration::from_secs(10);

/// Tidies up after the start, and after each time of work; `bursts` changes while there is some.
pub async fn keep_small(store: Store<Stored>, mut bursts: watch::Receiver<u64>, shutdown: Shutdown) {
    let rest = async {
        tokio::time::sleep(START).await;
        loop {
            tidy(store.clone()).await;
            if bursts.changed().await.is_err() {
                return;
            }
            while let Ok(Ok(())) = tokio::time::timeout(QUIET, bursts.changed()).await {}
        }
    };
    shutdown.bound(rest).await;
}

/// For a node without a server: once, after its start.
pub async fn small_after_start(shutdown: Shutdown) {
    if shutdown.bound(tokio::time::sleep(START)).await.is_some() {
        let _ = task::blocking(give_back).await;
    }
}

fn give_back() {
    sys::trim();
    sys::forget_code();
}

/// Lets go what `store` and objects keep for readers that may come again, then trims: some milliseconds, much of it under the
/// allocator's locks.
async fn tidy(store: Store<Stored>) {
    let work = move || {
        store.rest();
        forms::forget();
        give_back();
    };
    let _ = task::blocking(work).await;
}
