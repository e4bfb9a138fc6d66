//! Between the clock's time and the API's.

use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// metav1.Time: whole seconds.
pub fn api_time(time: SystemTime) -> Time {
    let stamp = Timestamp::try_from(time).unwrap_or_default();
    Time(Timestamp::from_second(stamp.as_second()).unwrap_or_default())
}

/// Seconds since the epoch of an RFC 3339 text; `None` for anything else.
pub fn parse_seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|stamp| stamp.as_second())
}

/// From `now` until `seconds` since the epoch; zero when that is past.
pub fn until(seconds: i64, now: SystemTime) -> Duration {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs());
    at.duration_since(now).unwrap_or_default()
}

/// Seconds since the epoch.
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs() as i64).unwrap_or_default()
}

/// Seconds since the epoch.
pub fn seconds_of(time: &Time) -> i64 {
    time.0.as_second()
}

/// The API's form of seconds since the epoch.
pub fn from_seconds(seconds: i64) -> Option<Time> {
    Timestamp::from_second(seconds).ok().map(Time)
}
