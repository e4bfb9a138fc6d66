//! Correlation of events.k8s.io/v1 events, as client-go's tools/events: repeated ones become a series of the first.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::recent::Recent;
use super::{Report, Reporter, Write, event_name};

const REMEMBERED: usize = 1024;
/// A series that was silent for so long has ended; the next event begins another.
const FINISHED: Duration = Duration::from_secs(6 * 60);
/// While a series goes on, its count is written this often.
const REFRESH: Duration = Duration::from_secs(30 * 60);

pub(super) struct Correlator {
    reporter: Reporter,
    seen: Recent<Seen>,
}

struct Seen {
    name: String,
    create: Value,
    count: u32,
    written: SystemTime,
}

impl Correlator {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter, seen: Recent::new(REMEMBERED) }
    }

    /// What to write for a report, if anything. The message does not tell events apart.
    pub(super) fn correlate(&mut self, report: Report, now: SystemTime) -> Option<Write> {
        self.seen.forget_before(now.checked_sub(FINISHED).unwrap_or(SystemTime::UNIX_EPOCH));
        let reporter = &self.reporter;
        let namespace = report.subject.event_namespace().to_owned();
        let key = (&report.subject, report.severity, report.reason, report.action);
        let seen = self.seen.entry(&key, now, || {
            let name = event_name(&report.subject, now);
            let create = json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "eventTime": micros(now),
                "reportingController": reporter.component,
                "reportingInstance": format!("{}-{}", reporter.component, reporter.host),
                "action": report.action,
                "reason": report.reason,
                "regarding": report.subject.to_json(),
                "note": report.message,
                "type": report.severity.as_str(),
            });
            Seen { name, create, count: 0, written: now }
        });
        seen.count += 1;
        let due = now.duration_since(seen.written).is_ok_and(|age| age >= REFRESH);
        if seen.count > 2 && !due {
            return None;
        }
        seen.written = now;
        let patch = (seen.count > 1).then(|| {
            let series = json!({"count": seen.count, "lastObservedTime": micros(now)});
            seen.create["series"] = series.clone();
            json!({"series": series})
        });
        Some(Write { namespace, name: seen.name.clone(), create: seen.create.clone(), patch })
    }
}

/// metav1.MicroTime: RFC 3339 with six digits.
fn micros(time: SystemTime) -> Value {
    let stamp = k8s_openapi::jiff::Timestamp::try_from(time).unwrap_or_default();
    Value::from(stamp.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Severity, Subject};
    use super::*;

    #[test]
    fn repeats_become_a_series_that_is_written_rarely() {
        let mut correlator = Correlator::new(Reporter { component: "default-scheduler".into(), host: "n1".into() });
        let subject = Subject { kind: "Pod".into(), name: "p".into(), namespace: "a".into(), ..Subject::default() };
        let mut at = |seconds: u64, message: &str| {
            let report = Report {
                subject: subject.clone(),
                severity: Severity::Warning,
                reason: "FailedScheduling",
                action: "Scheduling",
                message: message.to_owned(),
            };
            correlator.correlate(report, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let first = at(10, "one").unwrap();
        assert_eq!((first.patch, &first.create["eventTime"]), (None, &json!("1970-01-01T00:00:10.000000Z")));
        let second = at(20, "two").unwrap();
        assert_eq!(second.name, first.name);
        assert_eq!(
            second.patch,
            Some(json!({"series": {"count": 2, "lastObservedTime": "1970-01-01T00:00:20.000000Z"}}))
        );
        assert_eq!(at(30, "three"), None);
        for minute in 1..30 {
            assert_eq!(at(minute * 60, "on and on"), None);
        }
        assert_eq!(at(20 + 30 * 60, "refreshed").unwrap().patch.unwrap()["series"]["count"], 33);
        assert_eq!(at(3600, "after a silence").unwrap().patch, None);
    }
}
