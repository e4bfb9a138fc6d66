//! Correlation of core/v1 events, as client-go's tools/record/events_cache.go: similar ones are combined, equal ones
//! counted, and a flood about one object is cut off.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::recent::Recent;
use super::{Report, Reporter, Write, event_name};

const REMEMBERED: usize = 4096;
/// So many different messages of one subject and reason are kept apart.
const SIMILAR: usize = 10;
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// A reporter may say so much about one object at once, then one event every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

pub(super) struct Correlator {
    reporter: Reporter,
    hasher: RandomState,
    similar: Recent<Similar>,
    seen: Recent<Seen>,
    budgets: Recent<Budget>,
}

/// The different messages about one subject and reason.
#[derive(Default)]
struct Similar {
    messages: HashSet<u64>,
    last: Option<SystemTime>,
}

/// An event as it was last written.
#[derive(Default)]
struct Seen {
    name: String,
    first: Option<SystemTime>,
    count: u32,
}

struct Budget {
    left: f64,
    at: SystemTime,
}

impl Correlator {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            hasher: RandomState::new(),
            similar: Recent::new(REMEMBERED),
            seen: Recent::new(REMEMBERED),
            budgets: Recent::new(REMEMBERED),
        }
    }

    /// What to write for a report, if anything.
    pub(super) fn correlate(&mut self, mut report: Report, now: SystemTime) -> Option<Write> {
        let combined = self.combines(&report, now);
        if combined {
            report.message = format!("(combined from similar events): {}", report.message);
        }
        let write = self.observe(&report, combined, now);
        self.within_budget(&report, now).then_some(write)
    }

    /// Whether the report is one of too many that differ in their message only.
    fn combines(&mut self, report: &Report, now: SystemTime) -> bool {
        let message = self.hasher.hash_one(&report.message);
        let mut subject = report.subject.clone();
        subject.resource_version.clear();
        subject.field_path.clear();
        let similar = self.similar.entry(&(subject, report.severity, report.reason), now, Similar::default);
        let old = similar.last.and_then(|last| now.duration_since(last).ok()).is_none_or(|age| age > SIMILAR_INTERVAL);
        if old {
            similar.messages.clear();
        }
        similar.last = Some(now);
        similar.messages.insert(message);
        if similar.messages.len() < SIMILAR {
            return false;
        }
        similar.messages.remove(&message);
        true
    }

    fn observe(&mut self, report: &Report, combined: bool, now: SystemTime) -> Write {
        let mut subject = report.subject.clone();
        subject.resource_version.clear();
        let message = if combined { None } else { Some(&report.message) };
        let seen = self.seen.entry(&(subject, report.severity, report.reason, message), now, Seen::default);
        seen.count += 1;
        let first = *seen.first.get_or_insert(now);
        if seen.count == 1 {
            seen.name = event_name(&report.subject, now);
        }
        let patch = (seen.count > 1)
            .then(|| json!({"count": seen.count, "lastTimestamp": seconds(now), "message": report.message}));
        let namespace = report.subject.event_namespace().to_owned();
        let mut source = json!({"component": self.reporter.component});
        if !self.reporter.host.is_empty() {
            source["host"] = Value::from(self.reporter.host.as_str());
        }
        let create = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": seen.name, "namespace": namespace},
            "involvedObject": report.subject.to_json(),
            "reason": report.reason,
            "message": report.message,
            "type": report.severity.as_str(),
            "source": source,
            "reportingComponent": self.reporter.component,
            "reportingInstance": self.reporter.host,
            "firstTimestamp": seconds(first),
            "lastTimestamp": seconds(now),
            "count": seen.count,
        });
        Write { namespace, name: seen.name.clone(), create, patch }
    }

    fn within_budget(&mut self, report: &Report, now: SystemTime) -> bool {
        let mut subject = report.subject.clone();
        subject.resource_version.clear();
        subject.field_path.clear();
        let budget = self.budgets.entry(&(subject, report.severity), now, || Budget { left: BURST, at: now });
        let passed = now.duration_since(budget.at).unwrap_or_default().as_secs_f64();
        budget.left = (budget.left + passed * REFILL_PER_SECOND).min(BURST);
        budget.at = now;
        let within = budget.left >= 1.0;
        if within {
            budget.left -= 1.0;
        }
        within
    }
}

/// metav1.Time: RFC 3339, whole seconds.
fn seconds(time: SystemTime) -> Value {
    let stamp = k8s_openapi::jiff::Timestamp::try_from(time).unwrap_or_default();
    Value::from(stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Severity, Subject};
    use super::*;

    fn report(message: &str) -> Report {
        let subject = Subject {
            kind: "Pod".into(),
            namespace: "a".into(),
            name: "p".into(),
            uid: "1".into(),
            ..Subject::default()
        };
        Report { subject, severity: Severity::Normal, reason: "Pulled", action: "", message: message.to_owned() }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn correlator() -> Correlator {
        Correlator::new(Reporter { component: "kubelet".into(), host: "n1".into() })
    }

    #[test]
    fn equal_events_are_counted_on_the_first() {
        let mut correlator = correlator();
        let first = correlator.correlate(report("one"), at(100)).unwrap();
        assert_eq!((first.patch, first.namespace.as_str()), (None, "a"));
        assert_eq!(first.create["count"], 1);
        let second = correlator.correlate(report("one"), at(160)).unwrap();
        assert_eq!(second.name, first.name);
        assert_eq!(
            second.patch.unwrap(),
            json!({"count": 2, "lastTimestamp": "1970-01-01T00:02:40Z", "message": "one"})
        );
        assert_eq!(second.create["firstTimestamp"], "1970-01-01T00:01:40Z");
        assert_ne!(correlator.correlate(report("two"), at(170)).unwrap().name, first.name);
    }

    #[test]
    fn many_different_messages_become_one_event() {
        let mut correlator = correlator();
        let writes: Vec<_> =
            (0..12).filter_map(|number| correlator.correlate(report(&number.to_string()), at(100 + number))).collect();
        let (apart, combined) = writes.split_at(9);
        assert!(apart.iter().all(|write| write.patch.is_none()));
        assert_eq!(combined[0].create["message"], "(combined from similar events): 9");
        assert_eq!(combined[2].patch.as_ref().unwrap()["count"], 3);
        assert!(combined.iter().all(|write| write.name == combined[0].name));
        let later = correlator.correlate(report("x"), at(1000)).unwrap();
        assert_eq!(later.create["message"], "x", "the interval is over");
    }

    #[test]
    fn a_flood_is_cut_off_and_refills() {
        let mut correlator = correlator();
        let written = (0..40).filter(|_| correlator.correlate(report("one"), at(100)).is_some()).count();
        assert_eq!(written, 25);
        assert!(correlator.correlate(report("one"), at(399)).is_none());
        assert!(correlator.correlate(report("one"), at(401)).is_some());
    }
}
