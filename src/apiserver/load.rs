//! How much is asked of the server, for those who tidy up once it has grown quiet.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Requests of a burst. What a server at rest is asked (Leases above all) takes most of an hour for as many.
const BURST: u64 = 256;

pub(crate) struct Load {
    requests: AtomicU64,
    bursts: watch::Sender<u64>,
}

impl Default for Load {
    fn default() -> Self {
        Self { requests: AtomicU64::new(0), bursts: watch::Sender::new(0) }
    }
}

impl Load {
    pub(crate) fn count(&self) {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_multiple_of(BURST) {
            self.bursts.send_replace((before + 1) / BURST);
        }
    }

    /// Changes with every burst of requests.
    pub(crate) fn bursts(&self) -> watch::Receiver<u64> {
        self.bursts.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_told_and_single_requests_are_not() {
        let load = Load::default();
        let mut bursts = load.bursts();
        (1..BURST).for_each(|_| load.count());
        assert!(!bursts.has_changed().expect("the load lives"));
        load.count();
        assert!(bursts.has_changed().expect("the load lives"));
        assert_eq!(*bursts.borrow_and_update(), 1);
    }
}
