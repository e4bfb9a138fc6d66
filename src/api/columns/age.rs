//! Durations as people read them. Upstream: k8s.io/apimachinery pkg/util/duration.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};

/// The present, for ages; and until when the ages that were told stay true.
pub struct Now {
    at: Timestamp,
    until: Cell<Timestamp>,
}

impl Now {
    pub fn new(at: Timestamp) -> Self {
        Self { at, until: Cell::new(Timestamp::MAX) }
    }

    /// `Timestamp::MAX` where no age was told.
    pub fn until(&self) -> Timestamp {
        self.until.get()
    }

    /// Seconds between which an age of `seconds` reads the same.
    fn step(seconds: i64) -> i64 {
        match seconds {
            ..600 => 1,
            600..28_800 => 60,
            28_800..691_200 => 3600,
            _ => 86_400,
        }
    }
}

/// Two units at most, the second only while it matters: `5m12s`, `3h`, `2d4h`, `400d`. `seconds` may be negative by clock skew.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// How long ago an RFC 3339 time was.
pub(super) fn since(time: &str, now: &Now) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.at.duration_since(time).as_secs();
    let step = Now::step(seconds);
    let next = time.checked_add(SignedDuration::from_secs((seconds.div_euclid(step) + 1) * step));
    now.until.set(now.until.get().min(next.unwrap_or(now.at)));
    human_duration(seconds)
}

/// Between two RFC 3339 times; `None` when one is missing.
pub(super) fn between(start: &str, end: &str) -> Option<String> {
    let (start, end): (Timestamp, Timestamp) = (start.parse().ok()?, end.parse().ok()?);
    Some(human_duration(end.duration_since(start).as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_reads_the_same_until_it_is_said_to_change() {
        let born: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |seconds: i64| born + SignedDuration::from_secs(seconds);
        for seconds in [-5, 0, 59, 119, 120, 599, 600, 10_799, 10_800, 28_799, 28_800, 172_800, 691_200, 70_000_000] {
            let now = Now::new(at(seconds));
            let shown = since("2026-01-01T00:00:00Z", &now);
            let until = now.until().duration_since(born).as_secs();
            assert!(until > seconds);
            for same in [seconds, (seconds + until) / 2, until - 1] {
                assert_eq!(human_duration(same), shown, "{seconds}: {same} of {until}");
            }
        }
    }
}
