//! What a ReplicaSet's status says of its pods.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::selector::LabelSelector;
use coracle_client::Item;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::PodView;

const FAILURE: &str = "ReplicaFailure";

/// The status for these active pods; `now` in seconds since the epoch, `time` the same for conditions.
pub(super) fn calculate(
    set: &ReplicaSet,
    active: &[Arc<Item<PodView>>],
    terminating: usize,
    failure: Option<String>,
    now: i64,
    time: Time,
) -> ReplicaSetStatus {
    let spec = set.spec.clone();
    let old = set.status.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template =
        spec.template.and_then(|template| template.metadata).and_then(|meta| meta.labels).unwrap_or_default();
    let template = LabelSelector::from_labels(template.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let count = |counts: &dyn Fn(&PodView) -> bool| active.iter().filter(|pod| counts(pod)).count() as i32;
    let some = |number: i32| (number != 0).then_some(number);
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some(count(&|pod| template.matches(&*pod.labels))),
        ready_replicas: some(count(&|pod| pod.ready)),
        available_replicas: some(count(&|pod| pod.available(min_ready, now))),
        // A pointer upstream: zero is said.
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, active.len() as i32, spec.replicas.unwrap_or(1), time),
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<String>,
    have: i32,
    want: i32,
    time: Time,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_.as_deref() == Some(FAILURE));
    match failure {
        Some(message) if !known => conditions.push(ReplicaSetCondition {
            type_: Some(FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some(if have < want { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(message),
            last_transition_time: Some(time),
        }),
        None if known => conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE)),
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When the next ready pod becomes available by the passing of time.
pub(super) fn next_check(active: &[Arc<Item<PodView>>], min_ready: i32, now: i64) -> Option<Duration> {
    let waiting = active.iter().filter(|pod| pod.ready && !pod.available(min_ready, now));
    let seconds = waiting.map(|pod| pod.ready_since.unwrap_or(now) + i64::from(min_ready) - now).min()?;
    // Times are whole seconds; a second more makes sure that the check finds the pod available.
    Some(Duration::from_secs(seconds.max(0).unsigned_abs() + 1))
}

#[cfg(test)]
mod tests {
    use coracle_client::Key;
    use serde_json::json;

    use super::*;
    use crate::pods::Phase;

    fn pods() -> Vec<Arc<Item<PodView>>> {
        let pod = |name: &str, ready: bool, since: i64, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let value =
                PodView { labels, phase: Phase::Running, ready, ready_since: Some(since), ..PodView::default() };
            Arc::new(Item { key: Key::new("a", name), uid: name.into(), revision: 1, value })
        };
        vec![
            pod("old", true, 100, &[("app", "web"), ("v", "1")]),
            pod("new", true, 195, &[("app", "web")]),
            pod("starting", false, 190, &[("app", "web"), ("v", "1")]),
        ]
    }

    fn set() -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 4},
            "spec": {"replicas": 3, "minReadySeconds": 10, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web", "v": "1"}}}},
        }))
        .unwrap()
    }

    #[test]
    fn pods_are_counted_by_what_they_are() {
        let status = calculate(&set(), &pods(), 2, None, 200, Time(Default::default()));
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"replicas": 3, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 1,
                   "terminatingReplicas": 2, "observedGeneration": 4})
        );
        assert_eq!(next_check(&pods(), 10, 200), Some(Duration::from_secs(6)));
        assert_eq!(next_check(&pods(), 10, 205), None);
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let time = Time(Default::default());
        let mut set = set();
        let status = calculate(&set, &pods()[..1], 0, Some("quota".into()), 200, time.clone());
        assert_eq!(status.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        set.status = Some(status);
        assert_eq!(calculate(&set, &pods(), 0, None, 200, time).conditions, None);
    }
}
