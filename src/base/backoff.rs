//! Exponential back-off with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The shape of a back-off; a constant of whoever waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub initial: Duration,
    /// The longest delay before jitter.
    pub cap: Duration,
    /// What each delay is multiplied with to give the next.
    pub factor: f64,
    /// A delay is stretched by a random share up to this: 0.5 means up to half as long again.
    pub jitter: f64,
}

impl Shape {
    /// Doubling from `initial` to `cap`, without jitter.
    pub const fn doubling(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, factor: 2.0, jitter: 0.0 }
    }

    /// The delay after `failures` earlier ones (0 gives `initial`), before jitter.
    pub fn delay(&self, failures: u32) -> Duration {
        let seconds = self.initial.as_secs_f64() * self.factor.powi(failures.min(1000) as i32);
        if seconds.is_finite() && seconds < self.cap.as_secs_f64() {
            Duration::from_secs_f64(seconds)
        } else {
            self.cap
        }
    }
}

/// One sequence of growing delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    shape: Shape,
    failures: u32,
}

impl Backoff {
    pub fn new(shape: Shape) -> Self {
        Self { shape, failures: 0 }
    }

    /// How long to wait now; each call makes the next one longer.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.shape.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 + self.shape.jitter * random_share())
    }

    /// Something worked: the next delay is the initial one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number in [0, 1): good for jitter, not for secrets.
pub fn random_share() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Shape::doubling(Duration::from_secs(10), Duration::from_secs(60)));
        let delays: Vec<u64> = (0..5).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(10));
    }

    #[test]
    fn jitter_stretches_within_its_share() {
        let shape = Shape { jitter: 0.5, ..Shape::doubling(Duration::from_secs(1), Duration::from_secs(1)) };
        let mut backoff = Backoff::new(shape);
        let delays: Vec<Duration> = (0..50).map(|_| backoff.next_delay()).collect();
        assert!(delays.iter().all(|delay| (1.0..1.5).contains(&delay.as_secs_f64())));
        assert!(delays.iter().any(|delay| *delay != delays[0]), "fifty equal draws are no jitter");
    }

    #[test]
    fn a_long_row_of_failures_stays_at_the_cap() {
        let shape = Shape::doubling(Duration::from_millis(5), Duration::from_secs(1000));
        assert_eq!(shape.delay(u32::MAX), Duration::from_secs(1000));
    }
}
