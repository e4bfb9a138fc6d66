//! How long a Job waits before it replaces failed pods.
//!
//! Upstream: pkg/controller/job/backoff_utils.go.

use std::time::Duration;

use super::situation::finished_at;
use crate::pod_control::Known;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures since the last success, and when the last of them was (seconds since the epoch).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) last: i64,
}

impl Failures {
    /// With pods that ended since.
    pub(super) fn with(self, succeeded: &[Known], failed: &[Known]) -> Self {
        let last_success = succeeded.iter().map(|pod| finished_at(pod)).max();
        let failed = failed.iter().map(|pod| finished_at(pod));
        let later: Vec<i64> = failed.filter(|at| last_success.is_none_or(|success| *at > success)).collect();
        let before = if last_success.is_some() { Self::default() } else { self };
        match later.iter().max() {
            None => before,
            Some(last) => Self { count: before.count + later.len() as u32, last: *last },
        }
    }

    /// What is left to wait at `now`, seconds since the epoch.
    pub(super) fn remaining(self, now: i64) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        let delay = FIRST.saturating_mul(1 << (self.count - 1).min(10)).min(LONGEST);
        delay.saturating_sub(Duration::from_secs((now - self.last).max(0).unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_minutes() {
        let seconds = |count, now| Failures { count, last: 100 }.remaining(now).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 40].map(|count| seconds(count, 100)), [0, 10, 20, 40, 600, 600]);
        assert_eq!(seconds(2, 115), 5);
        assert_eq!(seconds(2, 500), 0);
    }
}
