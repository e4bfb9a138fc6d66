//! What of a schedule has come since it was last served.
//!
//! Upstream: mostRecentScheduleTime and nextScheduleTimeDuration in pkg/controller/cronjob/utils.go. Times are seconds
//! since the epoch.

use std::time::Duration;

use jiff::Timestamp;

use super::schedule::Schedule;

/// So that a wake-up does not come just before its time.
const DELTA: Duration = Duration::from_millis(100);
/// Missed times that are worth a warning.
const MANY: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    /// The last time that has come.
    pub(super) at: Option<i64>,
    /// Many others have come before it.
    pub(super) many: bool,
    /// From where to look for the next.
    from: i64,
}

impl Due {
    /// `deadline`: how late it may still be served.
    pub(super) fn of(schedule: &Schedule, since: i64, deadline: Option<i64>, now: i64) -> Self {
        let since = deadline.map_or(since, |deadline| since.max(now.saturating_sub(deadline)));
        let next = |after| schedule.next(Timestamp::from_second(after).ok()?).map(|at| at.as_second());
        let nothing = Self { at: None, many: false, from: since };
        let Some(first) = next(since).filter(|first| *first <= now) else { return nothing };
        let Some(second) = next(first).filter(|second| *second <= now) else {
            return Self { at: Some(first), many: false, from: first };
        };
        // Times may lie irregularly: the estimate only has to be early enough.
        let missed = (now - first) / (second - first) + 1;
        let mut last = None;
        let mut at = first + (missed - 2) * (second - first);
        while let Some(found) = next(at).filter(|found| *found <= now) {
            last = Some(found);
            at = found;
        }
        Self { at: last, many: missed > MANY, from: last.unwrap_or(now) }
    }

    /// How long until the schedule is due next.
    pub(super) fn wait(self, schedule: &Schedule, now: i64) -> Duration {
        let next = Timestamp::from_second(self.from).ok().and_then(|from| schedule.next(from));
        // Nothing in five years: look again then.
        let seconds = next.map_or(5 * 365 * 86_400, |next| next.as_second() - now);
        Duration::from_secs(seconds.max(0).unsigned_abs()) + DELTA
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn the_last_of_missed_times_is_due() {
        let schedule = Schedule::parse("*/5 * * * *", &TimeZone::UTC).unwrap();
        let minute = |minute: i64| minute * 60;
        let due = |since, deadline, now| {
            let due = Due::of(&schedule, since, deadline, now);
            (due.at, due.many, due.wait(&schedule, now).as_secs())
        };
        assert_eq!(due(minute(1), None, minute(4)), (None, false, 60));
        assert_eq!(due(minute(1), None, minute(5)), (Some(minute(5)), false, 300));
        assert_eq!(due(minute(1), None, minute(18)), (Some(minute(15)), false, 120));
        assert_eq!(due(minute(1), Some(60), minute(18)), (None, false, 120));
        assert_eq!(due(minute(1), None, minute(601)), (Some(minute(600)), true, 240));
    }
}
