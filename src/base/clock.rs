//! The wall clock as a value that is handed in, so that tests decide what time it is.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Tells the wall-clock time. Measure durations with `tokio::time::Instant`, never with this.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// `None` is the machine's clock. Otherwise the time at an instant of tokio's clock, which tests pause and advance.
    anchor: Option<(SystemTime, Instant)>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that says `start` now and moves on with tokio's (paused) clock: for tests.
    pub fn starting_at(start: SystemTime) -> Self {
        Self { anchor: Some((start, Instant::now())) }
    }

    pub fn now(&self) -> SystemTime {
        match self.anchor {
            None => SystemTime::now(),
            Some((start, instant)) => start + instant.elapsed(),
        }
    }

    /// Time since the Unix epoch; zero for a clock that stands before it.
    pub fn since_epoch(&self) -> Duration {
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_anchored_clock_follows_the_paused_one() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let clock = Clock::starting_at(start);
        assert_eq!(clock.now(), start);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.since_epoch(), Duration::from_secs(1005));
    }
}
